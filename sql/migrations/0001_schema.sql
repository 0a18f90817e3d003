-- The whole first schema. Locks: none that matter, every table is new. Duration: milliseconds.
--
-- session_id leads every table, primary key and foreign key (the look-up of codes aside), so the schema can be
-- distributed by session. Ids are made by the application; there are no sequences and no triggers.

CREATE TABLE settings (
    name  text PRIMARY KEY,
    value text NOT NULL
);

CREATE TABLE sessions (
    session_id            uuid PRIMARY KEY,
    code                  text NOT NULL CHECK (code ~ '^[0-9]{8}$'),
    title                 text NOT NULL,
    state                 text NOT NULL CHECK (state IN ('scheduled', 'live', 'ended')),
    created_at            timestamptz NOT NULL,
    starts_at             timestamptz,
    expected_participants int CHECK (expected_participants >= 0),
    presenter_hash        bytea NOT NULL,
    last_poll             int NOT NULL DEFAULT 0     -- numbers of polls are never used twice
);
CREATE INDEX sessions_newest ON sessions (created_at DESC, session_id DESC);

CREATE TABLE session_codes (
    code       text PRIMARY KEY,
    session_id uuid NOT NULL
);

-- Hot: one update per batch. No index but the key and free space on the page, so that updates stay on it (HOT).
CREATE TABLE session_head (
    session_id uuid PRIMARY KEY REFERENCES sessions,
    last_seq   bigint NOT NULL DEFAULT 0
) WITH (fillfactor = 50);

CREATE TABLE polls (
    session_id  uuid NOT NULL REFERENCES sessions,
    n           int  NOT NULL,
    kind        text NOT NULL CHECK (kind IN ('choice', 'rating')),
    question    text NOT NULL,
    options     text[] NOT NULL,                     -- empty for a rating
    size        int  NOT NULL,                       -- how many counts: options of a choice, max of a rating
    max_choices int  NOT NULL,                       -- 1 for a rating
    results     text NOT NULL CHECK (results IN ('live', 'after_close', 'presenter')),
    state       text NOT NULL DEFAULT 'draft' CHECK (state IN ('draft', 'open', 'closed')),
    opened_at   timestamptz,
    closed_at   timestamptz,
    PRIMARY KEY (session_id, n)
);

-- Hot, like session_head. seq: the newest event that shows these counts; results_seq: the newest poll.results.
CREATE TABLE tallies (
    session_id  uuid NOT NULL,
    poll        int  NOT NULL,
    seq         bigint NOT NULL,
    results_seq bigint NOT NULL DEFAULT 0,
    votes       bigint NOT NULL DEFAULT 0,
    counts      bigint[] NOT NULL,
    PRIMARY KEY (session_id, poll),
    FOREIGN KEY (session_id, poll) REFERENCES polls
) WITH (fillfactor = 50);

-- The primary key is the promise "one vote per participant and poll". No foreign key: cast_votes holds the poll's row
-- lock while it inserts, and a check per row would cost more than the insert. answer: the options chosen, or the rating.
CREATE TABLE votes (
    session_id  uuid NOT NULL,
    poll        int  NOT NULL,
    participant uuid NOT NULL,
    id          uuid NOT NULL,                       -- chosen by the client: the same id again is the same vote
    answer      smallint[] NOT NULL,
    batch       uuid NOT NULL,
    at          timestamptz NOT NULL,
    PRIMARY KEY (session_id, poll, participant)
);

-- Which event first counted the votes of a batch. Votes are inserted before the session's row is locked, so their own
-- rows cannot hold the seq.
CREATE TABLE vote_batches (
    session_id uuid NOT NULL,
    batch      uuid NOT NULL,
    poll       int  NOT NULL,
    seq        bigint NOT NULL,
    PRIMARY KEY (session_id, batch, poll)
);

-- The log of 24 hours, in partitions by time that are dropped whole. (session_id, seq) is unique because seq is handed
-- out under the lock of session_head; the key has to contain the partition column as well.
CREATE TABLE event_log (
    session_id     uuid NOT NULL,
    seq            bigint NOT NULL,
    at             timestamptz NOT NULL,
    kind           text NOT NULL,
    results_hidden boolean NOT NULL,                 -- participants do not see the results in this event
    data           json NOT NULL,
    PRIMARY KEY (session_id, seq, at)
) PARTITION BY RANGE (at);

-- What a replay reads: everything but poll.results, of which only the newest counts and is known from live state.
CREATE INDEX event_log_lasting ON event_log (session_id, seq) WHERE kind <> 'poll.results';
