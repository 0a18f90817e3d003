-- For operators: the load of instances, and the erasure of sessions. Locks as in 20_sessions.sql: the session's row, its gate, its
-- polls by number, session_head.

-- Writes how busy the caller is; answers with all that said so lately.
CREATE OR REPLACE FUNCTION tell_load(_instance text, _cpu double precision, _delivery double precision, _alive interval)
RETURNS SETOF instance_load LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO instance_load VALUES (_instance, _cpu, _delivery, clock_timestamp())
    ON CONFLICT (instance_id) DO UPDATE SET cpu = _cpu, delivery = _delivery, told_at = clock_timestamp();
    DELETE FROM instance_load WHERE told_at < clock_timestamp() - 20 * _alive;
    RETURN QUERY SELECT * FROM instance_load WHERE told_at > clock_timestamp() - _alive;
END $$;

-- Takes a session away from everybody at once; its votes and events, which may be many, are left to erase_step.
CREATE OR REPLACE FUNCTION begin_erasure(_session uuid) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM sessions WHERE session_id = _session FOR UPDATE;
    IF NOT FOUND THEN
        RETURN false;
    END IF;
    -- Batches share-lock the polls: after this none is in flight, and later ones find no poll.
    PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
    PERFORM 1 FROM polls WHERE session_id = _session ORDER BY n FOR UPDATE;
    PERFORM 1 FROM session_head WHERE session_id = _session FOR UPDATE;
    INSERT INTO erasures VALUES (_session, clock_timestamp());
    DELETE FROM tallies WHERE session_id = _session;
    DELETE FROM polls WHERE session_id = _session;
    DELETE FROM session_head WHERE session_id = _session;
    DELETE FROM presence WHERE session_id = _session;
    DELETE FROM session_codes WHERE session_id = _session;
    DELETE FROM sessions WHERE session_id = _session;
    RETURN true;
END $$;

-- Removes up to _rows rows of a session that is being erased, from one table. Answers how many; 0 where none is left, and then
-- its erasure is over.
CREATE OR REPLACE FUNCTION erase_rows(_session uuid, _rows int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    _removed bigint;
BEGIN
    DELETE FROM votes WHERE session_id = _session AND (poll, participant) IN
        (SELECT poll, participant FROM votes WHERE session_id = _session LIMIT _rows);
    GET DIAGNOSTICS _removed = ROW_COUNT;
    IF _removed = 0 THEN
        DELETE FROM event_log WHERE session_id = _session AND seq IN
            (SELECT seq FROM event_log WHERE session_id = _session LIMIT _rows);
        GET DIAGNOSTICS _removed = ROW_COUNT;
    END IF;
    IF _removed = 0 THEN
        DELETE FROM vote_batches WHERE session_id = _session AND (batch, poll) IN
            (SELECT batch, poll FROM vote_batches WHERE session_id = _session LIMIT _rows);
        GET DIAGNOSTICS _removed = ROW_COUNT;
    END IF;
    IF _removed = 0 THEN
        DELETE FROM erasures WHERE session_id = _session;
    END IF;
    RETURN _removed;
END $$;

-- Removes up to _rows rows of the session that waits longest for it; answers how many, and 1 for its last step. Nothing is left
-- of any session when it answers 0.
CREATE OR REPLACE FUNCTION erase_step(_rows int) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    _session uuid;
BEGIN
    SELECT session_id INTO _session FROM erasures ORDER BY asked_at LIMIT 1 FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    RETURN greatest(erase_rows(_session, _rows), 1);
END $$;
