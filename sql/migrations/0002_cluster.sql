-- What instances tell each other. None of it is a fact: whoever starts anew finds it out within a second.
-- Locks: none that matter, both tables are new. Duration: milliseconds.

-- One row per instance, written twice a second; fillfactor, so that it stays on its page.
CREATE TABLE instances (
    instance_id text PRIMARY KEY,
    connections int NOT NULL,
    capacity    int NOT NULL,
    state       text NOT NULL,
    lag_ms      int NOT NULL,
    seen_at     timestamptz NOT NULL
) WITH (fillfactor = 50);

-- Who has a stream open on which instance: participants as 64-bit marks, so that somebody with two streams on two instances
-- counts once. Written by their instance when it changes, at most once a second, and only while there are others to read it.
CREATE TABLE presence (
    session_id  uuid NOT NULL,
    instance_id text NOT NULL,
    marks       bigint[] NOT NULL,
    changed_at  timestamptz NOT NULL,
    PRIMARY KEY (session_id, instance_id)
);
