-- Which history of the database this is. The epoch names it; it changes when what a client was shown may not be there any
-- more, and never otherwise (docs/decisions/2026-11-25-when-the-epoch-changes.md goes through the cases). Called by
-- store/history.rs: on every connection to a server that the instance does not know, every few seconds, and when the log is
-- found behind. Locks: the row of the epoch, and only where something is to be written; so of many instances that look at
-- the same moment one decides, and the others find it decided.
--
-- settings: epoch; history (place/timeline, as it was when the epoch was last found to hold); durability (what held then).
-- place: the cluster and the number of the table `settings` in it, which a restored dump does not have.
-- What the caller knows (NULLs: nothing): _epoch, _place, _timeline, _durability. It counts as much as what is stored: a
-- change to asynchronous replication is replicated asynchronously itself. _lost: the caller saw something that is gone.
CREATE OR REPLACE FUNCTION settle_epoch(
    _fresh text, _epoch text, _place text, _timeline int, _durability text, _lost boolean,
    OUT epoch text, OUT place text, OUT timeline int, OUT durability text, OUT made boolean)
LANGUAGE plpgsql AS $$
DECLARE
    _stored_place text;
    _stored_timeline int;
    _stored_durability text;
    _locked boolean := false;
    _lossy boolean;
BEGIN
    made := false;
    SELECT c.system_identifier || '/' || 'settings'::regclass::oid INTO place FROM pg_control_system() c;
    timeline := ('x' || left(pg_walfile_name(pg_current_wal_lsn()), 8))::bit(32)::int;
    durability := CASE
        WHEN current_setting('synchronous_standby_names') <> '' THEN 'synchronous standby'
        WHEN EXISTS (SELECT 1 FROM pg_stat_replication r WHERE coalesce(r.state, 'streaming') IN ('catchup', 'streaming'))
            THEN 'asynchronous replication'
        ELSE 'one node' END;
    LOOP
        epoch := (SELECT s.value FROM settings s WHERE s.name = 'epoch');
        SELECT regexp_replace(s.value, '/[0-9]+$', ''), substring(s.value FROM '[0-9]+$')::int
        INTO _stored_place, _stored_timeline FROM settings s WHERE s.name = 'history';
        _stored_durability := (SELECT s.value FROM settings s WHERE s.name = 'durability');
        _lossy := coalesce(_stored_place <> place, false)
            OR coalesce(_stored_timeline > timeline, false)
            OR coalesce(_stored_timeline < timeline AND _stored_durability <> 'synchronous standby', false)
            -- Who knows another epoch knows nothing about this one.
            OR (epoch = _epoch AND (_lost
                OR _place <> place
                OR _timeline > timeline
                OR (_timeline < timeline AND _durability <> 'synchronous standby')));
        IF epoch IS NOT NULL AND NOT coalesce(_lossy, false) AND _stored_place = place AND _stored_timeline = timeline
            AND _stored_durability = durability THEN
            RETURN;
        END IF;
        EXIT WHEN _locked;
        INSERT INTO settings (name, value) VALUES ('epoch', _fresh) ON CONFLICT (name) DO NOTHING;
        PERFORM 1 FROM settings s WHERE s.name = 'epoch' FOR UPDATE;
        _locked := true; -- look again: another may have decided meanwhile
    END LOOP;
    IF _lossy THEN
        UPDATE settings s SET value = _fresh WHERE s.name = 'epoch';
        epoch := _fresh;
        made := true;
    END IF;
    INSERT INTO settings (name, value) VALUES ('history', place || '/' || timeline), ('durability', durability)
    ON CONFLICT (name) DO UPDATE SET value = excluded.value;
END $$;
