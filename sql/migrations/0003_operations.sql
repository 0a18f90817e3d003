-- What operators need: how busy each instance is, who is expected when, when a session ended, and what is being erased.
-- Locks: sessions in ACCESS EXCLUSIVE mode while a column is added (no rewrite) and against writes while its ended rows get a
-- time and two partial indexes are made; it has a row per session, so milliseconds for thousands. The other tables are new.

-- Beside `instances` rather than in it: written every few seconds only, and an instance of an older release knows nothing of it.
CREATE TABLE instance_load (
    instance_id text PRIMARY KEY,
    cpu         double precision NOT NULL,            -- share of the processors that it may use
    delivery    double precision NOT NULL,            -- p95 of event delivery of the last minute, in seconds
    told_at     timestamptz NOT NULL
) WITH (fillfactor = 50);

-- The forecast asks who starts soon.
CREATE INDEX sessions_scheduled ON sessions (starts_at) WHERE starts_at IS NOT NULL;

-- Retention counts from here. For sessions that ended before this was noted, from now: rather too long than too short.
ALTER TABLE sessions ADD COLUMN ended_at timestamptz;
UPDATE sessions SET ended_at = now() WHERE state = 'ended';
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;

-- Sessions that are gone for everybody, and whose votes and events are being removed in steps.
CREATE TABLE erasures (
    session_id uuid PRIMARY KEY,
    asked_at   timestamptz NOT NULL
);
