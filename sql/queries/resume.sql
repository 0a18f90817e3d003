-- What a returning client is measured against. $1 session. No row: the session is gone. Called by store/log.rs.
SELECT h.last_seq, coalesce((SELECT min(seq) FROM event_log l WHERE l.session_id = h.session_id), h.last_seq + 1),
       (SELECT value FROM settings WHERE name = 'epoch')
FROM session_head h WHERE h.session_id = $1
