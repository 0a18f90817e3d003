-- One batch of votes, written and counted. Called by store/votes.rs as one autocommit statement.
--
-- Order of work, and why:
--   1. share-lock the polls, so that open_poll and close_poll wait for this batch or this batch sees what they did; before
--      that the gates of their sessions, where it waits its turn if one of those two already waits (20_sessions.sql);
--   2. insert the votes (what is already there stays as it is);
--   3. lock the hot rows (session_head), in order of session, and only now: they are held for little more than the
--      commit. Count, log one event per poll;
--   4. where a vote was not inserted, say why: first whether it is stored, then whether the poll would have taken it.
--      A late retry is never told "no" about a stored vote. A session that is being erased has votes, and no polls.
-- A batch that only found stored votes writes a WAL record, so that its commit waits for the synchronous standby as the
-- first one did.
--
-- _kind: 0 choice, 1 rating, 2 an answer that fits no poll. _top: the greatest option, counted from 0 (a rating less 1).
-- _width: how many options were chosen.
-- Verdicts: 0 accepted, 1 repeat, 2 already_voted, 3 poll_closed, 4 session_ended, 5 not_found, 6 unprocessable;
-- all three arrays are NULL where every vote was accepted (its seq is that of its poll's event). stored: kind:{answer}.

CREATE OR REPLACE FUNCTION cast_votes(
    _batch uuid, _session uuid[], _poll int[], _participant uuid[], _id uuid[],
    _kind smallint[], _top smallint[], _width smallint[], _answer text[],
    OUT verdicts smallint[], OUT seqs bigint[], OUT stored text[],
    OUT event_at timestamptz, OUT event_session uuid[], OUT event_seq bigint[], OUT event_poll int[],
    OUT event_hidden boolean[], OUT event_data text[])
LANGUAGE plpgsql AS $$
DECLARE
    _inserted bigint;
    _known bigint;
    _touched_session uuid[];
    _touched_poll int[];
    _touched_votes bigint[];
    _slot_session uuid[];
    _slot_poll int[];
    _slot int[];
    _slot_votes bigint[];
BEGIN
    PERFORM pg_advisory_xact_lock_shared(52031, g.gate)
    FROM (SELECT DISTINCT poll_gate(u.session_id) AS gate FROM unnest(_session) u(session_id) ORDER BY 1) g;
    PERFORM 1 FROM polls p
    JOIN (SELECT DISTINCT u.session_id, u.poll FROM unnest(_session, _poll) u(session_id, poll)) w
      ON p.session_id = w.session_id AND p.n = w.poll
    ORDER BY p.session_id, p.n FOR SHARE OF p;

    -- Materialized, and each poll looked up by its whole key: on tables without statistics the planner would look at every
    -- poll of the session for every vote.
    WITH taking AS MATERIALIZED (
        SELECT p.session_id, p.n, p.size, p.max_choices, (p.kind = 'rating')::int AS kind
        FROM (SELECT DISTINCT u.session_id, u.poll FROM unnest(_session, _poll) u(session_id, poll)) w
        CROSS JOIN LATERAL (SELECT q.* FROM polls q
                            WHERE q.session_id = w.session_id AND q.n = w.poll AND q.state = 'open' OFFSET 0) p
        CROSS JOIN LATERAL (SELECT 1 FROM sessions s
                            WHERE s.session_id = w.session_id AND s.state <> 'ended' OFFSET 0) s
    ), fit AS (
        SELECT i.* FROM unnest(_session, _poll, _participant, _id, _kind, _top, _width, _answer)
               i(session_id, poll, participant, id, kind, top, width, answer)
        JOIN taking p ON p.session_id = i.session_id AND p.n = i.poll
        WHERE i.kind = p.kind AND i.top < p.size AND i.width <= p.max_choices
    ), inserted AS (
        INSERT INTO votes (session_id, poll, participant, id, answer, batch, at)
        SELECT f.session_id, f.poll, f.participant, f.id, f.answer::smallint[], _batch,
               date_trunc('milliseconds', clock_timestamp())
        FROM fit f ORDER BY f.session_id, f.poll, f.participant    -- two instances never wait for each other crosswise
        ON CONFLICT DO NOTHING
        RETURNING session_id, poll, answer
    ), touched AS (
        SELECT session_id, poll, count(*) AS votes FROM inserted GROUP BY 1, 2
    ), slots AS (
        SELECT i.session_id, i.poll, o.slot, count(*) AS votes
        FROM inserted i, unnest(i.answer) o(slot) GROUP BY 1, 2, 3
    )
    SELECT (SELECT count(*) FROM inserted),
           (SELECT array_agg(session_id ORDER BY session_id, poll) FROM touched),
           (SELECT array_agg(poll ORDER BY session_id, poll) FROM touched),
           (SELECT array_agg(votes ORDER BY session_id, poll) FROM touched),
           (SELECT array_agg(session_id ORDER BY session_id, poll, slot) FROM slots),
           (SELECT array_agg(poll ORDER BY session_id, poll, slot) FROM slots),
           (SELECT array_agg(slot ORDER BY session_id, poll, slot) FROM slots),
           (SELECT array_agg(votes ORDER BY session_id, poll, slot) FROM slots)
    INTO _inserted, _touched_session, _touched_poll, _touched_votes,
         _slot_session, _slot_poll, _slot, _slot_votes;

    IF _inserted > 0 THEN
        PERFORM 1 FROM session_head WHERE session_id = ANY(_touched_session) ORDER BY session_id FOR UPDATE;
        event_at := date_trunc('milliseconds', clock_timestamp());
        UPDATE session_head h SET last_seq = h.last_seq + c.events
        FROM (SELECT t.session_id, count(*) AS events FROM unnest(_touched_session) t(session_id) GROUP BY 1) c
        WHERE h.session_id = c.session_id;

        -- Joined through primary keys only: the planner cannot know how many sessions an array holds.
        WITH counted AS (
            -- For a choice, option 0 is the first count; for a rating, 1 is.
            SELECT t.session_id, t.poll, t.votes + w.votes AS votes, p.results <> 'live' AS hidden,
                   h.last_seq - w.events + w.nth AS seq,
                   array_agg(c.votes + coalesce(s.votes, 0) ORDER BY c.slot) AS counts
            FROM (SELECT u.*, row_number() OVER (PARTITION BY u.session_id ORDER BY u.poll) AS nth,
                         count(*) OVER (PARTITION BY u.session_id) AS events
                  FROM unnest(_touched_session, _touched_poll, _touched_votes) u(session_id, poll, votes)) w
            JOIN session_head h ON h.session_id = w.session_id
            JOIN tallies t ON t.session_id = w.session_id AND t.poll = w.poll
            JOIN polls p ON p.session_id = w.session_id AND p.n = w.poll
            CROSS JOIN LATERAL unnest(t.counts) WITH ORDINALITY c(votes, slot)
            LEFT JOIN unnest(_slot_session, _slot_poll, _slot, _slot_votes) s(session_id, poll, slot, votes)
              ON s.session_id = t.session_id AND s.poll = t.poll
             AND s.slot = c.slot - CASE p.kind WHEN 'choice' THEN 1 ELSE 0 END
            GROUP BY t.session_id, t.poll, p.results, h.last_seq, w.votes, w.events, w.nth
        ), tallied AS (
            UPDATE tallies t SET votes = n.votes, counts = n.counts, seq = n.seq, results_seq = n.seq
            FROM counted n
            WHERE t.session_id = n.session_id AND t.poll = n.poll
            RETURNING t.session_id, t.poll, t.seq, t.votes, t.counts, n.hidden
        ), batches AS (
            INSERT INTO vote_batches (session_id, batch, poll, seq)
            SELECT t.session_id, _batch, t.poll, t.seq FROM tallied t
        ), logged AS (
            INSERT INTO event_log (session_id, seq, at, kind, results_hidden, data)
            SELECT t.session_id, t.seq, event_at, 'poll.results', t.hidden,
                   results_json(t.poll, t.seq, t.votes, t.counts)
            FROM tallied t
            RETURNING session_id, seq, results_hidden, data
        )
        SELECT array_agg(l.session_id ORDER BY l.session_id, l.seq), array_agg(l.seq ORDER BY l.session_id, l.seq),
               array_agg((l.data->>'poll')::int ORDER BY l.session_id, l.seq),
               array_agg(l.results_hidden ORDER BY l.session_id, l.seq),
               array_agg(l.data::text ORDER BY l.session_id, l.seq)
        FROM logged l
        INTO event_session, event_seq, event_poll, event_hidden, event_data;
    END IF;

    IF _inserted < cardinality(_id) THEN
        SELECT array_agg(d.verdict ORDER BY d.nth), array_agg(d.seq ORDER BY d.nth), array_agg(d.stored ORDER BY d.nth),
               count(d.stored)
        FROM (
            SELECT i.nth, b.seq, p.kind || ':' || v.answer::text AS stored, (CASE
                WHEN v.id = i.id AND v.batch = _batch THEN 0
                WHEN v.id = i.id AND p.n IS NOT NULL THEN 1
                WHEN v.id IS NOT NULL AND p.n IS NOT NULL THEN 2
                WHEN p.n IS NULL OR p.state = 'draft' THEN 5
                WHEN i.kind <> (p.kind = 'rating')::int OR i.top >= p.size OR i.width > p.max_choices THEN 6
                WHEN s.state = 'ended' THEN 4
                ELSE 3 END)::smallint AS verdict
            FROM unnest(_session, _poll, _participant, _id, _kind, _top, _width) WITH ORDINALITY
                 i(session_id, poll, participant, id, kind, top, width, nth)
            LEFT JOIN votes v ON v.session_id = i.session_id AND v.poll = i.poll AND v.participant = i.participant
            LEFT JOIN vote_batches b ON b.session_id = v.session_id AND b.batch = v.batch AND b.poll = v.poll
            LEFT JOIN polls p ON p.session_id = i.session_id AND p.n = i.poll
            LEFT JOIN sessions s ON s.session_id = i.session_id
        ) d
        INTO verdicts, seqs, stored, _known;
        IF _inserted = 0 AND _known > 0 THEN
            PERFORM pg_logical_emit_message(true, 'plenum', 'repeat');
        END IF;
    END IF;
END $$;
