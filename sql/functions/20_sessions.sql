-- Changes of sessions. Each function is one autocommit statement for its caller (store/control.rs): no transaction is
-- ever open between two messages of an instance, so a dead instance never leaves a row locked.
-- All lock the session's row first, then its gate, then polls by number, then session_head.

-- What a change says: its outcome, the thing changed, and the event that was logged, if one was.
DO $$ BEGIN
    CREATE TYPE change AS (
        outcome text, body json,
        seq bigint, at timestamptz, kind text, results_hidden boolean, data json);
EXCEPTION WHEN duplicate_object THEN NULL;
END $$;

-- The next seq of a session; its row stays locked until the commit, so seq order is commit order.
CREATE OR REPLACE FUNCTION next_seq(_session uuid) RETURNS bigint
LANGUAGE sql AS $$
    UPDATE session_head SET last_seq = last_seq + 1 WHERE session_id = _session RETURNING last_seq
$$;

-- Whoever wants a session's polls for itself, against the batches that share them, asks for the gate first. Sharers of a row let
-- each other pass, for ever where several instances take votes; those of an advisory lock queue behind who wants it alone. Some
-- sessions have one gate together: 64 fit the database's table of locks, however many sessions a batch holds. 52031: any number.
CREATE OR REPLACE FUNCTION poll_gate(_session uuid) RETURNS int LANGUAGE sql IMMUTABLE AS $$
    SELECT uuid_hash(_session) & 63
$$;

CREATE OR REPLACE FUNCTION log_event(_session uuid, _seq bigint, _kind text, _hidden boolean, _data json, _body json)
RETURNS change LANGUAGE sql AS $$
    INSERT INTO event_log (session_id, seq, at, kind, results_hidden, data)
    VALUES (_session, _seq, date_trunc('milliseconds', clock_timestamp()), _kind, _hidden, _data)
    RETURNING 'changed'::text, _body, seq, at, kind, results_hidden, data
$$;

-- Takes the first of the codes that is free.
CREATE OR REPLACE FUNCTION create_session(
    _session uuid, _codes text[], _title text, _starts_at timestamptz, _expected int, _presenter_hash bytea)
RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _code text;
    _made sessions;
BEGIN
    FOREACH _code IN ARRAY _codes LOOP
        INSERT INTO session_codes VALUES (_code, _session) ON CONFLICT DO NOTHING;
        EXIT WHEN FOUND;
        _code := NULL;
    END LOOP;
    IF _code IS NULL THEN
        RETURN ROW('codes_taken', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    INSERT INTO sessions (session_id, code, title, state, created_at, starts_at, expected_participants, presenter_hash)
    VALUES (_session, _code, _title, CASE WHEN _starts_at > now() THEN 'scheduled' ELSE 'live' END,
            date_trunc('milliseconds', now()), date_trunc('milliseconds', _starts_at), _expected, _presenter_hash)
    RETURNING * INTO _made;
    INSERT INTO session_head (session_id) VALUES (_session);
    RETURN ROW('changed', session_json(_made), NULL, NULL, NULL, NULL, NULL)::change;
END $$;

-- _patch holds the fields to set, already checked; a field that is null is cleared.
CREATE OR REPLACE FUNCTION patch_session(_session uuid, _patch jsonb)
RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _old sessions;
    _new sessions;
    _kind text := 'session.updated';
BEGIN
    SELECT * INTO _old FROM sessions WHERE session_id = _session FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    IF _old.state = 'ended' AND _patch->>'state' = 'live' THEN
        RETURN ROW('session_ended', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    _new := _old;
    IF _patch ? 'title' THEN _new.title := _patch->>'title'; END IF;
    IF _patch ? 'starts_at' THEN
        _new.starts_at := date_trunc('milliseconds', (_patch->>'starts_at')::timestamptz);
    END IF;
    IF _patch ? 'expected_participants' THEN
        _new.expected_participants := (_patch->>'expected_participants')::int;
    END IF;
    IF _patch ? 'starts_at' AND _new.state = 'scheduled' AND coalesce(_new.starts_at <= clock_timestamp(), true) THEN
        _new.state := 'live'; -- nothing is ahead any more
    END IF;
    IF _patch ? 'state' THEN _new.state := _patch->>'state'; END IF;
    IF _new IS NOT DISTINCT FROM _old THEN
        RETURN ROW('unchanged', session_json(_old), NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    IF _new.state = 'ended' AND _old.state <> 'ended' THEN
        _kind := 'session.ended';
        _new.ended_at := now();
        -- Batches share-lock their polls before they look at the session's state: after this none is in flight.
        PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
        PERFORM 1 FROM polls WHERE session_id = _session ORDER BY n FOR UPDATE;
    END IF;
    UPDATE sessions SET title = _new.title, starts_at = _new.starts_at, state = _new.state,
           expected_participants = _new.expected_participants, ended_at = _new.ended_at
    WHERE session_id = _session RETURNING * INTO _new;
    RETURN log_event(_session, next_seq(_session), _kind, false, session_json(_new), session_json(_new));
END $$;

-- Takes a session away from everybody, and removes as many of its rows as one statement may: all, of most sessions. The body
-- says so where some are left; they are erase_step's.
CREATE OR REPLACE FUNCTION delete_session(_session uuid) RETURNS change LANGUAGE plpgsql AS $$
BEGIN
    IF NOT begin_erasure(_session) THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    -- Votes, events, batches, and a look whether that was all: some 200 ms, however large it is.
    FOR _ IN 1..4 LOOP
        IF erase_rows(_session, 5000) = 0 THEN
            RETURN ROW('changed', NULL, NULL, NULL, NULL, NULL, NULL)::change;
        END IF;
    END LOOP;
    RETURN ROW('changed', to_jsonb('rows are left'::text), NULL, NULL, NULL, NULL, NULL)::change;
END $$;
