-- What a client missed: every event but superseded results. $1 session, $2 after, $3 up to, $4 the newest poll.results
-- of each poll, $5 limit. Called by store/log.rs. event_log_lasting for the first half, the primary key for the second.
SELECT session_id, seq, at, kind, results_hidden, data::text FROM (
    (SELECT * FROM event_log
     WHERE session_id = $1 AND seq > $2 AND seq <= $3 AND kind <> 'poll.results' ORDER BY seq LIMIT $5)
    UNION ALL
    (SELECT * FROM event_log
     WHERE session_id = $1 AND seq = ANY($4) AND seq > $2 AND seq <= $3 AND kind = 'poll.results' ORDER BY seq LIMIT $5)
) e ORDER BY seq LIMIT $5
