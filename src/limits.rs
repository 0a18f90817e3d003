//! Every bound of the server: a name, a unit, a reason. Nothing here is configuration; what an operator may change is in
//! `config.rs`. Read by everyone; imports nothing. Relations between limits break the build at the end of the file.

use std::num::NonZeroU32;
use std::time::Duration;

// ── What the protocol fixes ──────────────────────────────────────────────────────────────────────────────────────────

/// Bytes of one client message, fragments together (protocol 7, Sizes).
pub const MESSAGE_BYTES_MAX: usize = 16 * 1024;
/// Bytes of a REST body (protocol 7, Bodies).
pub const BODY_BYTES_MAX: usize = 256 * 1024;
/// A body that has not arrived by then is given up (protocol 7, Bodies).
pub const BODY_WAIT_MAX: Duration = Duration::from_secs(20);
/// What of a refused body is read and thrown away, so that its sender gets to read the answer.
pub const DISCARDED_BYTES_MAX: usize = 1024 * 1024;
/// See [`DISCARDED_BYTES_MAX`].
pub const DISCARD_WAIT_MAX: Duration = Duration::from_secs(1);
/// Code points of a title or question.
pub const TITLE_CHARS_MAX: usize = 300;
/// Code points of an option.
pub const OPTION_CHARS_MAX: usize = 200;
/// Options of a choice.
pub const OPTIONS_MIN: usize = 2;
/// Options of a choice.
pub const OPTIONS_MAX: usize = 50;
/// The least that the highest step of a rating may be.
pub const RATING_MIN: i64 = 2;
/// The most that it may be.
pub const RATING_MAX: i64 = 10;
/// Polls of one session.
pub const POLLS_MAX: i32 = 1_000;
/// Participants a presenter may say to expect: more than anybody has, and far from the end of the `int` column.
pub const EXPECTED_PARTICIPANTS_MAX: i64 = 10_000_000;
/// Events of one `GET events` answer.
pub const EVENTS_PAGE_MAX: i64 = 1_000;
/// Sessions of one `GET sessions` answer.
pub const SESSIONS_PAGE_MAX: i64 = 200;
/// Sessions of one `GET sessions` answer where no limit is named.
pub const SESSIONS_PAGE_DEFAULT: i64 = 50;
/// The first message must be here by then, or 4408.
pub const HELLO_WAIT_MAX: Duration = Duration::from_secs(5);
/// After its close frame the server reads and discards for so long, so that a reset does not swallow the code.
pub const CLOSE_LINGER_MAX: Duration = Duration::from_secs(1);
/// Unknown codes one address may try in [`FAILED_JOINS_WINDOW`].
pub const FAILED_JOINS_MAX: u32 = 100;
/// See [`FAILED_JOINS_MAX`].
pub const FAILED_JOINS_WINDOW: Duration = Duration::from_secs(60);

// ── Connections ──────────────────────────────────────────────────────────────────────────────────────────────────────

/// Pending TCP handshakes. Tokio's default of 1,024 or less overflows in a join storm of 2,000, which then waits a whole
/// second for a retransmission.
pub const LISTEN_BACKLOG: u32 = 4_096;
/// TCP connections beyond `--max-connections`: REST calls and refusals need a socket to be answered on.
pub const REST_CONNECTIONS_MAX: usize = 4_096;
/// Request head: line and headers.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// A request head must be complete by then; also how long an idle keep-alive connection is kept.
pub const HEAD_WAIT_MAX: Duration = Duration::from_secs(10);
/// A PROXY protocol header: 232 bytes at most without additions, and additions about TLS are some hundred bytes.
pub const PROXY_HEADER_BYTES_MAX: usize = 1_024;
/// The same as a line (version 1), as its specification says.
pub const PROXY_LINE_BYTES_MAX: usize = 107;
/// A proxy sends its header with its first packet; who has not by then is no proxy.
pub const PROXY_HEADER_WAIT_MAX: Duration = Duration::from_secs(3);
/// When a connection could not be accepted, for want of file descriptors most likely: those who hang up make room.
pub const ACCEPT_AGAIN: Duration = Duration::from_millis(50);
/// One line for a balancer's agent check, which fits any socket's buffer.
pub const AGENT_WAIT_MAX: Duration = Duration::from_secs(1);
/// A connection that was accepted just before the instance stops may still send its first request for so long. Well below
/// the 2 s that stopping takes at most.
pub const FIRST_REQUEST_WAIT: Duration = Duration::from_millis(500);
/// Bytes read from a socket at a time: most messages are under 200 bytes, and the buffer lives on the stack.
pub const READ_BYTES: usize = 4 * 1024;
/// Reads from one socket per wake, so that one busy client does not starve the rest of its worker.
pub const READS_PER_WAKE_MAX: usize = 8;
/// Empty fragments of one message; the others are bounded by its length. A message is one frame in practice.
pub const EMPTY_FRAGMENTS_MAX: usize = 128;
/// Control frames and empty fragments in a row without a message or a pause: picked by eye, generous against any honest client.
pub const FRAMES_PER_MESSAGE_MAX: usize = 256;
/// Between two pings of the server.
pub const PING_EVERY: Duration = Duration::from_secs(25);
/// Pings go out at whole multiples of it, from one task: with 10,000 clients four hundred at a time, some 5 ms of a core.
pub const PING_TICK: Duration = Duration::from_secs(1);
/// A client that is sent away is closed so much later than it was told to go, so that it leaves by itself if it can.
pub const LEAVE_GRACE: Duration = Duration::from_millis(100);
/// Silence after a ping that ends the connection.
pub const PONG_WAIT_MAX: Duration = Duration::from_secs(10);
/// A client that takes nothing for so long, of a replay or by HTTP, is gone: what a WebSocket has from a ping to the last
/// moment for its pong.
pub const CLIENT_TAKE_MAX: Duration = PING_EVERY.saturating_add(PONG_WAIT_MAX);
/// In that time a client of HTTP takes so much of an answer, or all of it: a phone on the slowest network takes more.
pub const CLIENT_TAKES_BYTES: usize = 8 * 1024;
/// Of bodies and answers of REST, in memory at one time: some hundred of the largest.
pub const REST_BYTES_MAX: usize = 64 * 1024 * 1024;
/// A body or an answer up to this size is not counted: joins, votes and most answers are smaller.
pub const REST_BYTES_FREE: usize = 8 * 1024;
/// Between two comment lines of an SSE stream: below the 30 s after which many proxies cut.
pub const SSE_HEARTBEAT: Duration = Duration::from_secs(15);
/// Messages refused with `rate_limited` before the connection is closed with 4429.
pub const RATE_REFUSALS_MAX: u32 = 50;
/// Bytes waiting for one socket (acks, errors, replay). Past it the client does not read: 4413.
pub const OUTBOX_BYTES_MAX: usize = 256 * 1024;
/// From here on a connection's messages are not read until its socket has taken what waits.
pub const OUTBOX_BYTES_PAUSE: usize = 64 * 1024;
/// Slices in one vectored write.
pub const WRITE_SLICES_MAX: usize = 32;
/// Addresses whose failed joins are counted at one time; beyond it those are forgotten whose window is over, then all.
pub const ADDRESSES_MAX: usize = 65_536;
/// Codes that are known to be in use at an address; beyond it no more are noted: 16 bytes each.
pub const USED_CODES_MAX: usize = 65_536;
/// So long after somebody there has joined by it.
pub const USED_CODE_KEEP: Duration = Duration::from_hours(1);
/// QR codes that are drawn in a second for whoever asks: half a millisecond each, and a wall asks once.
pub const PICTURES_PER_SECOND: NonZeroU32 = NonZeroU32::new(50).unwrap();
/// The longest `Host` that goes into a link: a name has 253 bytes at most.
pub const HOST_BYTES_MAX: usize = 260;

/// WebSockets of check pages at one time: a venue tests with a handful of phones.
pub const CHECKS_MAX: usize = 64;
/// The check page holds one open for 60 s; the rest is for slow networks.
pub const CHECK_WAIT_MAX: Duration = Duration::from_secs(75);
/// Reads from one check's socket: the page sends one message every 5 s.
pub const CHECK_MESSAGES_MAX: u32 = 200;
/// Signs of life that the check page is sent as server-sent events.
pub const CHECK_BEATS: u32 = 6;
/// Between two of them: what is held back on the way arrives together, and that shows.
pub const CHECK_BEAT_EVERY: Duration = Duration::from_millis(500);

// ── Write path ───────────────────────────────────────────────────────────────────────────────────────────────────────

/// Votes in one batch: the database takes about 10 ms for so many, and larger batches gain nothing.
pub const BATCH_VOTES_MAX: usize = 1_000;
/// Votes of one participant in one poll that a lane keeps back, since a batch has one of each: more than an honest client sends
/// before it is answered.
pub const KEPT_BACK_OF_ONE_MAX: usize = 64;
/// Votes that a lane keeps back in all: each batch looks at them again.
pub const KEPT_BACK_MAX: usize = 4 * BATCH_VOTES_MAX;
/// Votes waiting in one lane. At 10 ms a batch the last of them waits some 300 ms.
pub const LANE_VOTES_MAX: usize = 32 * BATCH_VOTES_MAX;
/// A vote that would wait longer than this for its answer is refused with `overloaded` instead: what is accepted is
/// answered within a second, also where the estimate is short by a third.
pub const LANE_WAIT_MAX: Duration = Duration::from_millis(700);
/// The soonest that `overloaded` tells a client to come again.
pub const OVERLOADED_WAIT_MIN: Duration = Duration::from_millis(250);
/// The latest that `overloaded` tells a client to come again, however many were told so before it.
pub const OVERLOADED_WAIT_MAX: Duration = Duration::from_secs(10);
/// Votes of one lane for which a place is kept until they come again: ten seconds of a database that takes 13,000 a second,
/// 2 MiB.
pub const PROMISES_MAX: usize = 65_536;
/// How much sooner than told a vote may come and find its place: clocks and timers of phones.
pub const PROMISE_EARLY: Duration = Duration::from_millis(50);
/// How much later, before its place is given up: a slow network, a retry of its own.
pub const PROMISE_GRACE: Duration = Duration::from_secs(2);
/// A vote that has not been committed by then gets `database_unavailable`; its client tries again with the same id.
pub const VOTE_WAIT_MAX: Duration = Duration::from_secs(10);
/// One call of the vote function; past it the connection is dropped and the outcome counts as unknown.
pub const COMMIT_WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two tries of a batch: doubled each time, up to [`RETRY_PAUSE_MAX`], with jitter.
pub const RETRY_PAUSE_MIN: Duration = Duration::from_millis(20);
/// See [`RETRY_PAUSE_MIN`].
pub const RETRY_PAUSE_MAX: Duration = Duration::from_millis(500);

// ── Read path ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Results frames per session and second: ten, the first at once.
pub const RESULTS_EVERY: Duration = Duration::from_millis(100);
/// Where counts come more often than this, a turn that is due waits for the next one, so long at most. Nobody sees a fiftieth
/// of a second.
pub const RESULTS_FRESH_WAIT: Duration = Duration::from_millis(20);
/// Frames that a session keeps for its subscribers, per audience. At ten results a second a subscriber may be 25 s behind.
pub const RING_FRAMES_MAX: usize = 256;
/// Bytes of the same. A poll of 50 long options is 40 KiB.
pub const RING_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Sockets written by a fan-out shard before it lets others run.
pub const WRITES_PER_TURN_MAX: usize = 128;
/// A round of fan-out as long as this, some 100 sockets, is worth a rest after it, which is the clock's millisecond at least.
pub const FAN_OUT_REST_MIN: Duration = Duration::from_micros(250);
/// The longest rest between two rounds of fan-out: a twentieth of what people see as immediate.
pub const FAN_OUT_REST_MAX: Duration = Duration::from_millis(5);
/// Events read for one session at a time.
pub const EVENTS_READ_MAX: i64 = 500;
/// Events of one page of a replay.
pub const REPLAY_PAGE_MAX: i64 = 200;
/// Bytes of a replay that a client may not have taken yet when the next event is added.
pub const REPLAY_BYTES_UNREAD: usize = 64 * 1024;
/// Rounds of a replay that live events keep overtaking, before the client is told to come back (4413).
pub const REPLAY_ROUNDS_MAX: usize = 10_000;
/// How long a connection waits for the tailer to reach what the database already holds.
pub const CATCH_UP_WAIT_MAX: Duration = Duration::from_secs(5);
/// A session that turns out to be of another history than is known is read again so often.
pub const HISTORY_TRIES_MAX: usize = 3;
/// A session that nobody watches is dropped from memory after this.
pub const UNWATCHED_KEEP: Duration = Duration::from_secs(30);
/// Between two presence messages: a little over the second that the protocol promises.
pub const PRESENCE_EVERY: Duration = Duration::from_millis(1_050);
/// Replayed or resumable history; the protocol says 24 h.
pub const EVENTS_KEEP: Duration = Duration::from_secs(24 * 3600);
/// Between two tries of a migration that found a table in use.
pub const MIGRATION_PAUSE: Duration = Duration::from_secs(1);
/// Width of one partition of the log: coarser keeps more than needed, finer means more partitions to look into.
pub const PARTITION_HOURS: i64 = 4;
/// Partitions are made so far ahead, so that a janitor that is down for a day stops nobody.
pub const PARTITIONS_AHEAD_HOURS: i64 = 24;

// ── Instances ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Between two heartbeats: `/cluster` is the same everywhere within 2 s.
pub const HEARTBEAT_EVERY: Duration = Duration::from_millis(500);
/// With more than so many times the mean of connections an instance begins to let some go (`--rebalance`), ...
pub const REBALANCE_ABOVE: f64 = 1.3;
/// ... when it had them for so many heartbeats in a row, ...
pub const REBALANCE_BEATS: u32 = 3;
/// ... until it has no more than so many times the mean.
pub const REBALANCE_UNTIL: f64 = 1.1;
/// With fewer connections nobody is moved: there is nothing to gain.
pub const REBALANCE_CONNECTIONS_MIN: i32 = 100;
/// Clients let go with one heartbeat, at most.
pub const REBALANCE_MOVED_MAX: usize = 50;
/// Clients of one heartbeat come back spread over so long.
pub const REBALANCE_SPREAD: Duration = Duration::from_secs(1);
/// So long no stream is taken by who lets clients go: their cookie would bring them back.
pub const REBALANCE_REFUSES: Duration = Duration::from_secs(3);
/// After letting clients go, before it may happen again.
pub const REBALANCE_REST: Duration = Duration::from_secs(60);
/// Without a heartbeat for so long an instance counts as gone.
pub const INSTANCE_ALIVE: Duration = Duration::from_secs(3);
/// Rows of instances that were not seen for so long are removed.
pub const INSTANCE_FORGOTTEN: Duration = Duration::from_secs(60);
/// Between two notifications of one instance: all that commits meanwhile goes into one.
pub const HINTS_EVERY: Duration = Duration::from_millis(10);
/// Others for whom that holds; with twice as many, half as often, so that what one instance hears stays under 300 a second.
pub const HINTS_OTHERS: usize = 3;
/// Bytes of a notification; the database takes less than 8,000.
pub const HINT_BYTES_MAX: usize = 7_900;
/// How often the listener makes sure that somebody is at the other end.
pub const LISTENER_PING_EVERY: Duration = Duration::from_secs(5);

/// Between two looks at how many instances should run. Whoever joins meanwhile goes where it is full: at 15 a second and 5 s an
/// instance was 9 % past its mark before the next one was asked for.
pub const FORECAST_EVERY: Duration = Duration::from_secs(2);
/// Looks that the p95 of delivery is made of: one minute.
pub const DELIVERY_LOOKS: usize = 30;
/// What an instance said of its load counts for so long.
pub const LOAD_ALIVE: Duration = Duration::from_secs(20);
/// Announced sessions that are weighed, the next ones first: 20 instances of 500 hold fewer than so many with one participant
/// each.
pub const FORECAST_SESSIONS_MAX: i64 = 10_000;

// ── Retention ────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Rows that one step of an erasure removes: some 50 ms.
pub const ERASE_ROWS_MAX: i32 = 5_000;
/// Between two steps, so that votes go first.
pub const ERASE_PAUSE: Duration = Duration::from_millis(20);
/// Sessions whose time is over that one run takes away.
pub const ERASE_SESSIONS_MAX: i64 = 200;
/// Steps of one run; the next one goes on. At some 70 ms a step it ends before the next is due.
pub const ERASE_STEPS_MAX: usize = 5_000;

// ── Database ─────────────────────────────────────────────────────────────────────────────────────────────────────────

/// Connections for REST and reads. Short statements; PostgreSQL's default of 100 leaves room for several instances.
pub const POOL_SIZE: u32 = 8;
/// Waiting for one of them; then `database_unavailable`.
pub const POOL_WAIT_MAX: Duration = Duration::from_secs(5);
/// Connect, authenticate and prepare.
pub const CONNECT_WAIT_MAX: Duration = Duration::from_secs(5);
/// The same for one host, where several are named: one that is frozen takes no more of the time than this.
pub const HOST_WAIT_MAX: Duration = Duration::from_secs(2);
/// A statement of REST or of the read path. It is longer than `statement_timeout` below, which gives the better error.
pub const QUERY_WAIT_MAX: Duration = Duration::from_secs(8);
/// `statement_timeout` of every connection.
pub const STATEMENT_TIMEOUT: Duration = Duration::from_secs(4);
/// `lock_timeout` of every connection.
pub const LOCK_TIMEOUT: Duration = Duration::from_secs(2);
/// Connections to one replica: exports, results of ended sessions and old events only.
pub const REPLICA_POOL_SIZE: u32 = 4;
/// A replica's answer, connecting included; then the primary is asked. A page takes some 10 ms.
pub const REPLICA_WAIT_MAX: Duration = Duration::from_millis(500);
/// A replica that did not answer is left alone for so long, so that not every read waits for it.
pub const REPLICA_REST: Duration = Duration::from_secs(2);
/// How often an instance looks what a commit is worth and which history this is. It knows at once when its connections break;
/// this is for standbys that come and go, and for poolers that hide a fail-over.
pub const HISTORY_EVERY: Duration = Duration::from_secs(2);
/// `/readyz` asks the database and answers within one second.
pub const READY_WAIT_MAX: Duration = Duration::from_millis(700);
/// Votes fetched at a time by an export.
pub const EXPORT_PAGE: i64 = 2_000;
/// Codes drawn for a new session, so that one that is taken costs nothing.
pub const CODES_TRIED: usize = 8;

const _: () = {
    assert!(OUTBOX_BYTES_PAUSE < OUTBOX_BYTES_MAX);
    assert!(BATCH_VOTES_MAX <= LANE_VOTES_MAX);
    assert!(READ_BYTES <= MESSAGE_BYTES_MAX);
    // A single frame, however long its poll, must fit the ring: 50 options of 200 code points of 6 escaped bytes.
    assert!(2 * OPTIONS_MAX * OPTION_CHARS_MAX * 6 + TITLE_CHARS_MAX * 6 < RING_BYTES_MAX);
    assert!(STATEMENT_TIMEOUT.as_millis() < COMMIT_WAIT_MAX.as_millis());
    assert!(COMMIT_WAIT_MAX.as_millis() < VOTE_WAIT_MAX.as_millis());
    // A vote outlives one frozen server: its commit, then the next connection.
    assert!(COMMIT_WAIT_MAX.as_millis() + HOST_WAIT_MAX.as_millis() < VOTE_WAIT_MAX.as_millis());
    assert!(LOCK_TIMEOUT.as_millis() < STATEMENT_TIMEOUT.as_millis());
    assert!(READY_WAIT_MAX.as_millis() < 1_000);
    assert!(PARTITIONS_AHEAD_HOURS >= 2 * PARTITION_HOURS);
    assert!(HINT_BYTES_MAX < 8_000);
    assert!(FORECAST_EVERY.as_millis() * 3 < LOAD_ALIVE.as_millis());
    // The last of a heartbeat's clients is refused too, and the refusal ends soon after the moving.
    assert!(REBALANCE_REFUSES.as_millis() > 2 * REBALANCE_SPREAD.as_millis());
    assert!(HEARTBEAT_EVERY.as_millis() * 4 < INSTANCE_ALIVE.as_millis());
};
