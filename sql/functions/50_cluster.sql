-- What instances tell each other. Nothing here waits for a disk: should the database crash, it is told again.

-- Writes the caller's row; answers with the rows of all instances that live, the caller's too.
CREATE OR REPLACE FUNCTION heartbeat(
    _instance text, _connections int, _capacity int, _state text, _lag_ms int, _alive interval)
RETURNS SETOF instances LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO instances VALUES (_instance, _connections, _capacity, _state, _lag_ms, clock_timestamp())
    ON CONFLICT (instance_id) DO UPDATE SET connections = _connections, capacity = _capacity, state = _state,
        lag_ms = _lag_ms, seen_at = clock_timestamp();
    RETURN QUERY SELECT * FROM instances WHERE seen_at > clock_timestamp() - _alive ORDER BY instance_id;
END $$;

-- Forgets an instance that says goodbye, and those that were not seen for long.
CREATE OR REPLACE FUNCTION forget_instances(_instance text, _gone interval) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    DELETE FROM instances WHERE instance_id = _instance OR seen_at < clock_timestamp() - _gone;
    DELETE FROM presence p WHERE NOT EXISTS (SELECT 1 FROM instances i WHERE i.instance_id = p.instance_id);
END $$;

-- Replaces what an instance says of sessions. _marks: one array literal per session, empty where only presenters have a stream
-- open there, NULL where nobody has.
CREATE OR REPLACE FUNCTION tell_presence(_instance text, _sessions uuid[], _marks text[]) RETURNS void
LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('synchronous_commit', 'off', true);
    INSERT INTO presence
    SELECT t.session_id, _instance, t.marks::bigint[], clock_timestamp()
    FROM unnest(_sessions, _marks) t(session_id, marks) WHERE t.marks IS NOT NULL ORDER BY 1
    ON CONFLICT (session_id, instance_id) DO UPDATE SET marks = excluded.marks, changed_at = excluded.changed_at;
    DELETE FROM presence p USING unnest(_sessions, _marks) t(session_id, marks)
    WHERE p.session_id = t.session_id AND p.instance_id = _instance AND t.marks IS NULL;
END $$;
