-- The visible state of a session as of its head, in one snapshot. $1 session. Called by store/log.rs when a session is
-- first watched here. Uses primary keys only.
SELECT session_json(s)::text, h.last_seq,
       (SELECT coalesce(json_agg(poll_json(p) ORDER BY p.n), '[]') FROM polls p
        WHERE p.session_id = s.session_id AND p.state <> 'draft')::text,
       (SELECT coalesce(json_agg(results_json(t.poll, t.seq, t.votes, t.counts) ORDER BY t.poll), '[]')
        FROM tallies t WHERE t.session_id = s.session_id)::text,
       ARRAY(SELECT t.poll FROM tallies t WHERE t.session_id = s.session_id ORDER BY t.poll),
       ARRAY(SELECT t.results_seq FROM tallies t WHERE t.session_id = s.session_id ORDER BY t.poll),
       (SELECT value FROM settings WHERE name = 'epoch')
FROM sessions s JOIN session_head h USING (session_id)
WHERE s.session_id = $1
