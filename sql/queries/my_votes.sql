-- Every vote of one participant in a session. $1 session, $2 participant. One look into the primary key of votes per
-- poll that was ever opened. Called by store/log.rs.
SELECT p.n, p.kind, v.answer FROM polls p
JOIN votes v ON v.session_id = p.session_id AND v.poll = p.n AND v.participant = $2
WHERE p.session_id = $1 AND p.state <> 'draft' ORDER BY p.n
