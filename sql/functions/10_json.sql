-- The shapes of sessions and polls in the API and in events. They are made here and nowhere else.

CREATE OR REPLACE FUNCTION rfc3339(_at timestamptz) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT to_char(_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')
$$;

-- What is stored of a session: nothing that is live (participants, last_seq) and nothing of one instance (join_url).
CREATE OR REPLACE FUNCTION session_json(_s sessions) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_strip_nulls(json_build_object(
        'id', _s.session_id, 'code', _s.code, 'title', _s.title,
        'state', CASE WHEN _s.state = 'scheduled' AND _s.starts_at <= now() THEN 'live' ELSE _s.state END,
        'created_at', rfc3339(_s.created_at), 'starts_at', rfc3339(_s.starts_at),
        'expected_participants', _s.expected_participants))
$$;

CREATE OR REPLACE FUNCTION poll_json(_p polls) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT json_strip_nulls(json_build_object(
        'n', _p.n, 'kind', _p.kind, 'question', _p.question,
        'options', CASE _p.kind WHEN 'choice' THEN _p.options END, 'max_choices', _p.max_choices,
        'max', CASE _p.kind WHEN 'rating' THEN _p.size END,
        'results', _p.results, 'state', _p.state,
        'opened_at', rfc3339(_p.opened_at), 'closed_at', rfc3339(_p.closed_at)))
$$;

-- Null where there are no counts. Neither IMMUTABLE nor STRICT: it would not be inlined then, and each batch of votes would
-- plan it anew.
CREATE OR REPLACE FUNCTION results_json(_poll int, _seq bigint, _votes bigint, _counts bigint[]) RETURNS json
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN _counts IS NOT NULL THEN format('{"poll":%s,"seq":%s,"votes":%s,"counts":%s}', _poll, _seq, _votes, array_to_json(_counts))::json END
$$;
