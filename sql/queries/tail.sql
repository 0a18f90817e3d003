-- What is new in the sessions that are watched here: one query per poll, however many there are. $1 sessions, $2 their
-- cursors, $3 events per session at most. One row per new event; one row that says so for a session that is gone, and for one
-- whose log ends before the cursor; one row without a session where nothing is new. Every row has the epoch of the same
-- moment: events of another history are never taken for the next ones. Called by store/log.rs. Heads by primary key, then
-- only the log of those that are ahead.
SELECT t.session_id, t.seq, t.at, t.kind, t.results_hidden, t.data, t.gone, t.behind, s.value
FROM settings s
LEFT JOIN (
    SELECT w.session_id, e.seq, e.at, e.kind, e.results_hidden, e.data::text AS data,
           h.session_id IS NULL AS gone, h.last_seq < w.seq AS behind
    FROM unnest($1::uuid[], $2::bigint[]) w(session_id, seq)
    LEFT JOIN session_head h ON h.session_id = w.session_id
    LEFT JOIN LATERAL (
        SELECT l.seq, l.at, l.kind, l.results_hidden, l.data FROM event_log l
        WHERE h.last_seq > w.seq AND l.session_id = w.session_id AND l.seq > w.seq
        ORDER BY l.seq LIMIT $3
    ) e ON true
    WHERE h.session_id IS NULL OR h.last_seq <> w.seq
) t ON true
WHERE s.name = 'epoch'
ORDER BY t.session_id, t.seq
