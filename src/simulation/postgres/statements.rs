//! The statements that the simulated database knows: how each is recognised, what it takes and what it gives. One that is
//! missing here fails the simulation by name.

use bytes::{Buf, Bytes};
use tokio_postgres::types::{FromSqlOwned, Type};

/// A statement of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    Cast,
    Snapshot,
    Tail,
    Replay,
    Resume,
    MyVotes,
    Session,
    Code,
    Polls,
    Settle,
    Heartbeat,
    Goodbye,
    TellPresence,
    Presence,
    PresenceTold,
    Notify,
    Open,
    Close,
    Patch,
}

/// What only one statement holds.
const MARKS: [(&str, Statement); 19] = [
    ("FROM cast_votes(", Statement::Cast),
    ("-- The visible state of a session", Statement::Snapshot),
    ("-- What is new in the sessions", Statement::Tail),
    ("-- What a client missed", Statement::Replay),
    ("-- What a returning client", Statement::Resume),
    ("-- Every vote of one participant", Statement::MyVotes),
    ("h.last_seq, s.presenter_hash", Statement::Session),
    ("FROM session_codes WHERE code", Statement::Code),
    ("SELECT poll_json(p)::text FROM polls p", Statement::Polls),
    ("FROM settle_epoch(", Statement::Settle),
    ("FROM heartbeat(", Statement::Heartbeat),
    ("SELECT forget_instances(", Statement::Goodbye),
    ("SELECT tell_presence(", Statement::TellPresence),
    ("SELECT session_id, marks FROM presence", Statement::Presence),
    ("SELECT session_id FROM presence", Statement::PresenceTold),
    ("SELECT pg_notify(", Statement::Notify),
    ("FROM open_poll(", Statement::Open),
    ("FROM close_poll(", Statement::Close),
    ("FROM patch_session(", Statement::Patch),
];

impl Statement {
    pub(super) fn of(sql: &str) -> Self {
        match MARKS.iter().find(|(mark, _)| sql.contains(mark)) {
            Some((_, statement)) => *statement,
            None => panic!("the simulated database does not know this statement: {sql}"),
        }
    }

    /// Whether its commit waits for the standby.
    pub(super) fn writes(self) -> bool {
        matches!(self, Self::Cast | Self::Open | Self::Close | Self::Patch)
    }

    pub(super) fn params(self) -> Vec<Type> {
        match self {
            Self::Cast => vec![
                Type::UUID,
                Type::UUID_ARRAY,
                Type::INT4_ARRAY,
                Type::UUID_ARRAY,
                Type::UUID_ARRAY,
                Type::INT2_ARRAY,
                Type::INT2_ARRAY,
                Type::INT2_ARRAY,
                Type::TEXT_ARRAY,
            ],
            Self::Snapshot | Self::Resume | Self::Session => vec![Type::UUID],
            Self::Tail => vec![Type::UUID_ARRAY, Type::INT8_ARRAY, Type::INT8],
            Self::Replay => vec![Type::UUID, Type::INT8, Type::INT8, Type::INT8_ARRAY, Type::INT8],
            Self::MyVotes => vec![Type::UUID, Type::UUID],
            Self::Code | Self::Notify | Self::PresenceTold => vec![Type::TEXT],
            Self::Polls => vec![Type::UUID, Type::BOOL],
            Self::Settle => {
                vec![Type::TEXT, Type::TEXT, Type::TEXT, Type::INT4, Type::TEXT, Type::BOOL]
            }
            Self::Heartbeat => {
                vec![Type::TEXT, Type::INT4, Type::INT4, Type::TEXT, Type::INT4, Type::FLOAT8]
            }
            Self::Goodbye => vec![Type::TEXT, Type::FLOAT8],
            Self::TellPresence => vec![Type::TEXT, Type::UUID_ARRAY, Type::TEXT_ARRAY],
            Self::Presence => vec![Type::UUID_ARRAY, Type::TEXT_ARRAY],
            Self::Open | Self::Close => vec![Type::UUID, Type::INT4],
            Self::Patch => vec![Type::UUID, Type::TEXT],
        }
    }

    pub(super) fn columns(self) -> Vec<Type> {
        let event = [Type::UUID, Type::INT8, Type::TIMESTAMPTZ, Type::TEXT, Type::BOOL, Type::TEXT];
        match self {
            Self::Cast => vec![
                Type::INT2_ARRAY,
                Type::INT8_ARRAY,
                Type::TEXT_ARRAY,
                Type::TIMESTAMPTZ,
                Type::UUID_ARRAY,
                Type::INT8_ARRAY,
                Type::INT4_ARRAY,
                Type::BOOL_ARRAY,
                Type::TEXT_ARRAY,
            ],
            Self::Snapshot => vec![
                Type::TEXT,
                Type::INT8,
                Type::TEXT,
                Type::TEXT,
                Type::INT4_ARRAY,
                Type::INT8_ARRAY,
                Type::TEXT,
            ],
            Self::Tail => {
                let told = [Type::BOOL, Type::BOOL, Type::TEXT];
                event.into_iter().chain(told).collect()
            }
            Self::Replay => event.into(),
            Self::Resume => vec![Type::INT8, Type::INT8, Type::TEXT],
            Self::MyVotes => vec![Type::INT4, Type::TEXT, Type::INT2_ARRAY],
            Self::Session => vec![Type::TEXT, Type::INT8, Type::BYTEA],
            Self::Code | Self::PresenceTold => vec![Type::UUID],
            Self::Polls => vec![Type::TEXT],
            Self::Settle => vec![Type::TEXT, Type::TEXT, Type::INT4, Type::TEXT, Type::BOOL],
            Self::Heartbeat => vec![Type::TEXT, Type::INT4, Type::INT4, Type::TEXT, Type::INT4],
            Self::Goodbye | Self::TellPresence | Self::Notify => vec![Type::TEXT],
            Self::Presence => vec![Type::UUID, Type::INT8_ARRAY],
            Self::Open | Self::Close | Self::Patch => {
                [Type::TEXT, Type::TEXT].into_iter().chain(event).collect()
            }
        }
    }
}

/// The values that a statement was bound with.
pub(super) struct Params {
    types: Vec<Type>,
    values: Vec<Option<Bytes>>,
}

impl Params {
    /// Reads what follows the names in a Bind.
    pub(super) fn read(mut body: Bytes, types: Vec<Type>) -> Self {
        let formats = body.get_u16();
        body.advance(2 * usize::from(formats));
        let values = (0..body.get_u16())
            .map(|_| {
                let length = body.get_i32();
                usize::try_from(length).ok().map(|length| body.split_to(length))
            })
            .collect();
        Self { types, values }
    }

    pub(super) fn get<T: FromSqlOwned>(&self, at: usize) -> T {
        let (of, value) = (&self.types[at], &self.values[at]);
        T::from_sql_nullable(of, value.as_deref()).unwrap()
    }
}
