-- Changes of polls. Drafts make no events. Opening and closing take the poll's row FOR UPDATE, which waits for every
-- batch that share-locks it (40_votes.sql): no vote commits after the poll.closed event.

CREATE OR REPLACE FUNCTION create_poll(
    _session uuid, _kind text, _question text, _options text[], _size int, _max_choices int, _results text,
    _polls_max int)
RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _s sessions;
    _made polls;
BEGIN
    SELECT * INTO _s FROM sessions WHERE session_id = _session FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _s.state = 'ended' THEN
        RETURN ROW('session_ended', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF (SELECT count(*) FROM polls WHERE session_id = _session) >= _polls_max THEN
        RETURN ROW('full', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    UPDATE sessions SET last_poll = last_poll + 1 WHERE session_id = _session RETURNING * INTO _s;
    INSERT INTO polls (session_id, n, kind, question, options, size, max_choices, results)
    VALUES (_session, _s.last_poll, _kind, _question, _options, _size, _max_choices, _results)
    RETURNING * INTO _made;
    RETURN ROW('changed', poll_json(_made), NULL, NULL, NULL, NULL, NULL)::change;
END $$;

-- Replaces a draft, if it still is what the caller read (_expected); 'stale' asks the caller to read again.
CREATE OR REPLACE FUNCTION replace_draft(
    _session uuid, _n int, _expected jsonb, _kind text, _question text, _options text[], _size int,
    _max_choices int, _results text)
RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _p polls;
BEGIN
    PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
    SELECT * INTO _p FROM polls WHERE session_id = _session AND n = _n FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _p.state <> 'draft' THEN
        RETURN ROW('poll_not_draft', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF poll_json(_p)::jsonb <> _expected THEN
        RETURN ROW('stale', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    UPDATE polls SET kind = _kind, question = _question, options = _options, size = _size,
           max_choices = _max_choices, results = _results
    WHERE session_id = _session AND n = _n RETURNING * INTO _p;
    RETURN ROW('changed', poll_json(_p), NULL, NULL, NULL, NULL, NULL)::change;
END $$;

CREATE OR REPLACE FUNCTION delete_draft(_session uuid, _n int) RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _state text;
BEGIN
    PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
    SELECT state INTO _state FROM polls WHERE session_id = _session AND n = _n FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _state <> 'draft' THEN
        RETURN ROW('poll_not_draft', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    DELETE FROM polls WHERE session_id = _session AND n = _n;
    RETURN ROW('changed', NULL, NULL, NULL, NULL, NULL, NULL)::change;
END $$;

CREATE OR REPLACE FUNCTION open_poll(_session uuid, _n int) RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _s sessions;
    _p polls;
    _seq bigint;
BEGIN
    SELECT * INTO _s FROM sessions WHERE session_id = _session FOR UPDATE;
    PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
    SELECT * INTO _p FROM polls WHERE session_id = _session AND n = _n FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _p.state = 'open' THEN
        RETURN ROW('unchanged', poll_json(_p), NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _s.state = 'ended' THEN
        RETURN ROW('session_ended', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    UPDATE polls SET state = 'open', opened_at = date_trunc('milliseconds', clock_timestamp()), closed_at = NULL
    WHERE session_id = _session AND n = _n RETURNING * INTO _p;
    _seq := next_seq(_session);
    INSERT INTO tallies (session_id, poll, seq, counts)
    VALUES (_session, _n, _seq, array_fill(0::bigint, ARRAY[_p.size])) ON CONFLICT DO NOTHING;
    RETURN log_event(_session, _seq, 'poll.opened', false, poll_json(_p), poll_json(_p));
END $$;

CREATE OR REPLACE FUNCTION close_poll(_session uuid, _n int) RETURNS change LANGUAGE plpgsql AS $$
DECLARE
    _p polls;
    _t tallies;
    _seq bigint;
BEGIN
    PERFORM 1 FROM sessions WHERE session_id = _session FOR UPDATE;
    PERFORM pg_advisory_xact_lock(52031, poll_gate(_session));
    SELECT * INTO _p FROM polls WHERE session_id = _session AND n = _n FOR UPDATE;
    IF NOT FOUND THEN
        RETURN ROW('not_found', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _p.state = 'closed' THEN
        RETURN ROW('unchanged', poll_json(_p), NULL, NULL, NULL, NULL, NULL)::change;
    ELSIF _p.state = 'draft' THEN
        RETURN ROW('poll_closed', NULL, NULL, NULL, NULL, NULL, NULL)::change;
    END IF;
    UPDATE polls SET state = 'closed', closed_at = date_trunc('milliseconds', clock_timestamp())
    WHERE session_id = _session AND n = _n RETURNING * INTO _p;
    _seq := next_seq(_session);
    UPDATE tallies SET seq = _seq WHERE session_id = _session AND poll = _n RETURNING * INTO _t;
    RETURN log_event(_session, _seq, 'poll.closed', _p.results = 'presenter',
        format('{"poll":%s,"results":%s}', poll_json(_p), results_json(_n, _seq, _t.votes, _t.counts))::json,
        poll_json(_p));
END $$;
