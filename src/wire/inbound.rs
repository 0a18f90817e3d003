//! What clients send over WebSocket, and the votes of REST, decoded. Keeps no slice of the read buffer: everything that
//! leaves here is owned. Called by `ws/reader.rs` and `http/votes.rs`.

use uuid::Uuid;

use super::json::{Object, Value, last};
use super::{Code, Fault};
use crate::domain::{Answer, Ballot, Code as JoinCode, PollNumber, VoteId};
use crate::limits::OPTIONS_MAX;

/// The first message of a connection.
#[derive(Debug, PartialEq, Eq)]
pub enum Hello {
    /// Joins anew.
    Code(JoinCode),
    /// Comes back.
    Token {
        /// A presenter's or a participant's.
        token: String,
        /// The highest `seq` seen.
        after: Option<i64>,
        /// From the last welcome.
        epoch: Option<String>,
    },
}

/// Why a first message is refused.
#[derive(Debug, PartialEq, Eq)]
pub enum HelloFault {
    /// Not a hello of this protocol: 4400.
    Malformed,
    /// A code that no session can have: 4404.
    NoSession,
}

/// A message after the first.
#[derive(Debug, PartialEq, Eq)]
pub enum ClientMessage {
    /// A vote.
    Vote(VoteMessage),
    /// To be answered with `pong`.
    Ping,
}

/// A vote as its client sent it.
#[derive(Debug, PartialEq, Eq)]
pub struct VoteMessage {
    /// Chosen by the client.
    pub id: VoteId,
    /// In which poll.
    pub poll: PollNumber,
    /// What it says.
    pub ballot: Ballot,
}

/// A fault with the id of the vote that it answers, where that id is well formed.
pub type VoteFault = (Option<VoteId>, Fault);

/// Reads the first message.
///
/// # Errors
/// With the close code that it earns.
pub fn hello(bytes: &mut [u8]) -> Result<Hello, HelloFault> {
    let object = Object::parse(bytes).map_err(|_| HelloFault::Malformed)?;
    let text = |name| object.optional_text(name).map_err(|_| HelloFault::Malformed);
    if text("type")? != Some("hello") {
        return Err(HelloFault::Malformed);
    }
    let (code, token, epoch) = (text("code")?, text("token")?, text("epoch")?);
    let after = object.optional_int("after", 0, i64::MAX).map_err(|_| HelloFault::Malformed)?;
    match (token, code) {
        (Some(token), _) => {
            Ok(Hello::Token { token: token.to_owned(), after, epoch: epoch.map(ToOwned::to_owned) })
        }
        (None, Some(code)) => JoinCode::parse(code).map(Hello::Code).ok_or(HelloFault::NoSession),
        (None, None) => Err(HelloFault::Malformed),
    }
}

/// Reads a message after the first.
///
/// # Errors
/// `bad_request` or `unprocessable`, with the vote's id where one can be told.
pub fn message(bytes: &mut [u8]) -> Result<ClientMessage, VoteFault> {
    let object = Object::parse(bytes).map_err(|fault| (None, fault))?;
    match object.optional_text("type").ok().flatten() {
        Some("vote") => vote(&object).map(ClientMessage::Vote),
        Some("ping") => Ok(ClientMessage::Ping),
        Some("hello") => Err((None, Fault::new(Code::BadRequest, "hello has been said already"))),
        _ => Err((None, Fault::new(Code::BadRequest, "type must be vote or ping"))),
    }
}

/// Reads a vote.
///
/// # Errors
/// `unprocessable`, with the vote's id where one can be told.
pub fn vote(object: &Object<'_>) -> Result<VoteMessage, VoteFault> {
    let id = object
        .text("id")
        .and_then(|text| {
            // The hyphenated form alone: it is what acks echo and exports show.
            let well_formed = text.len() == 36;
            Uuid::try_parse(text)
                .ok()
                .filter(|_| well_formed)
                .ok_or_else(|| Fault::field("id", "this must be a UUID"))
        })
        .map(VoteId)
        .map_err(|fault| (None, fault))?;
    let rest = || {
        let poll = object
            .optional_int("poll", i64::MIN, i64::MAX)?
            .ok_or_else(|| Fault::field("poll", "this is required"))?;
        // No poll has a number outside of i32; the database says so of 0 as of any other.
        let poll = PollNumber(i32::try_from(poll).unwrap_or(0));
        Ok(VoteMessage { id, poll, ballot: ballot(object)? })
    };
    rest().map_err(|fault| (Some(id), fault))
}

fn ballot(object: &Object<'_>) -> Result<Ballot, Fault> {
    let shape = || Fault::field("answer", "this must be {\"choices\":[…]} or {\"rating\":…}");
    let Some(Value::Object(fields)) = object.get("answer") else { return Err(shape()) };
    match (last(fields, "choices"), last(fields, "rating")) {
        (Some(Value::Array(items)), None) => {
            let mut options = Vec::with_capacity(items.len().min(OPTIONS_MAX));
            for item in items {
                match item {
                    Value::Int(option) => options.push(*option),
                    _ => return Err(shape()),
                }
            }
            Ok(choices(&options))
        }
        (None, Some(Value::Int(step))) => Ok(match i16::try_from(*step) {
            Ok(step @ 1..) => Ballot::Answer(Answer::Rating(step)),
            _ => Ballot::Unfit,
        }),
        _ => Err(shape()),
    }
}

fn choices(options: &[i64]) -> Ballot {
    let fits = |option: &i64| {
        i16::try_from(*option)
            .ok()
            .filter(|n| (0..OPTIONS_MAX).contains(&usize::from(n.unsigned_abs())) && *n >= 0)
    };
    let distinct = options.len() <= OPTIONS_MAX
        && options
            .iter()
            .enumerate()
            .all(|(at, option)| !options.iter().take(at).any(|other| other == option));
    match options.iter().map(fits).collect::<Option<Vec<i16>>>() {
        Some(chosen) if distinct && !chosen.is_empty() => Ballot::Answer(Answer::Choices(chosen)),
        _ => Ballot::Unfit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0190f5a4-7c1e-7d3a-8f00-000000000001";

    fn ballot_of(answer: &str) -> Result<Ballot, Code> {
        let text = format!(r#"{{"type":"vote","id":"{ID}","poll":1,"answer":{answer}}}"#);
        match message(&mut text.into_bytes()) {
            Ok(ClientMessage::Vote(vote)) => Ok(vote.ballot),
            Ok(other) => panic!("{other:?}"),
            Err((id, fault)) => {
                assert!(id.is_some());
                Err(fault.code)
            }
        }
    }

    #[test]
    fn answers_keep_their_order_and_misfits_still_reach_the_database() {
        let choices = |options: &[i16]| Ok(Ballot::Answer(Answer::Choices(options.to_vec())));
        assert_eq!(ballot_of(r#"{"choices":[2,0]}"#), choices(&[2, 0]));
        assert_eq!(ballot_of(r#"{"rating":4}"#), Ok(Ballot::Answer(Answer::Rating(4))));
        for unfit in [
            r#"{"choices":[]}"#,
            r#"{"choices":[1,1]}"#,
            r#"{"choices":[-1]}"#,
            r#"{"choices":[50]}"#,
            r#"{"rating":0}"#,
            r#"{"rating":99999}"#,
        ] {
            assert_eq!(ballot_of(unfit), Ok(Ballot::Unfit), "{unfit}");
        }
        for wrong in [
            "1",
            "null",
            "{}",
            r#"{"choices":1}"#,
            r#"{"choices":["0"]}"#,
            r#"{"rating":1.5}"#,
            r#"{"choices":[0],"rating":1}"#,
        ] {
            assert_eq!(ballot_of(wrong), Err(Code::Unprocessable), "{wrong}");
        }
    }

    #[test]
    fn a_hello_is_told_from_everything_else() {
        let read = |text: &str| hello(&mut text.as_bytes().to_vec());
        assert!(matches!(read(r#"{"type":"hello","code":"1234-5678"}"#), Ok(Hello::Code(_))));
        assert!(matches!(
            read(r#"{"type":"hello","token":"t","after":3}"#),
            Ok(Hello::Token { after: Some(3), .. })
        ));
        assert_eq!(read(r#"{"type":"hello","code":"abc"}"#), Err(HelloFault::NoSession));
        for wrong in [
            "",
            "[]",
            "{}",
            r#"{"type":"vote"}"#,
            r#"{"type":"hello"}"#,
            r#"{"type":"hello","code":1}"#,
            r#"{"type":"hello","token":"t","after":"3"}"#,
            r#"{"type":"hello","token":"t","after":-1}"#,
        ] {
            assert_eq!(read(wrong), Err(HelloFault::Malformed), "{wrong}");
        }
    }
}
