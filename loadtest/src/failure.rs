//! Why a command of the load generator could not go on.
//! Must never stand for a wrong result of the server: a verdict says that, not an error.
//! Returned by every module of the program.

use plenum_loadtest::client::{Answer, ClientError};

/// A command's failure, in words for people.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("input/output: {0}")]
    Io(#[from] std::io::Error),
    #[error("{what}: the server answered {status} {body}")]
    Answer { what: &'static str, status: u16, body: String },
    #[error("{0}")]
    Told(String),
    #[error("stopped by a signal")]
    Stopped,
}

impl Failure {
    /// A failure that needs no further classification.
    pub(crate) fn told(text: impl Into<String>) -> Failure {
        Failure::Told(text.into())
    }

    /// Lets an answer through if it has a status of the 200s.
    pub(crate) fn unless_ok(what: &'static str, answer: Answer) -> Result<Answer, Failure> {
        if (200..300).contains(&answer.status) {
            return Ok(answer);
        }
        Err(Failure::Answer { what, status: answer.status, body: answer.text() })
    }
}
