//! The server's messages as the load generator reads them: one flat struct, all fields optional,
//! borrowed from the frame, because a hot loop parses tens of thousands of them a second.
//! Must never be stricter than the protocol: unknown fields and types are passed over.
//! Called by `participant` and by every part that reads a socket itself.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::failure::Failure;

/// Any message of the server.
#[derive(Debug, Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(rename = "type")]
    pub(crate) name: &'a str,
    pub(crate) id: Option<&'a str>,
    pub(crate) seq: Option<u64>,
    pub(crate) prev: Option<u64>,
    pub(crate) kind: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) retry_after_ms: Option<u64>,
    pub(crate) epoch: Option<&'a str>,
    pub(crate) resumed: Option<bool>,
    /// When the event was logged.
    pub(crate) at: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(crate) participant: Option<&'a RawValue>,
}

impl Message<'_> {
    /// Reads one message.
    pub(crate) fn parse(text: &[u8]) -> Result<Message<'_>, Failure> {
        serde_json::from_slice(text)
            .map_err(|error| Failure::told(format!("a message that makes no sense: {error}")))
    }

    /// Whether this is an event of the given kind.
    pub(crate) fn is_event(&self, kind: &str) -> bool {
        self.name == "event" && self.kind == Some(kind)
    }

    /// The results that an event carries, on their own or with a closed poll.
    pub(crate) fn results(&self) -> Option<Results> {
        let data = self.data?.get();
        match self.kind {
            Some("poll.results") => serde_json::from_str(data).ok(),
            Some("poll.closed") => serde_json::from_str::<Closed>(data).ok()?.results,
            _ => None,
        }
    }
}

#[derive(Debug, Deserialize)]
struct Closed {
    results: Option<Results>,
}

/// The place of an event without parsing the rest: `seq` and `prev`, where the message begins as
/// the server writes events. `None` says nothing about the message; then it has to be parsed.
pub(crate) fn place_of(text: &[u8]) -> Option<(u64, u64)> {
    let rest = text.strip_prefix(br#"{"type":"event","seq":"#)?;
    let (seq, rest) = number(rest)?;
    let (prev, rest) = number(rest.strip_prefix(br#","prev":"#)?)?;
    rest.starts_with(b",").then_some((seq, prev))
}

/// The decimal number at the beginning, and what follows.
fn number(text: &[u8]) -> Option<(u64, &[u8])> {
    let length = text.iter().take_while(|digit| digit.is_ascii_digit()).count();
    let (digits, rest) = text.split_at_checked(length)?;
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let value = digits.iter().fold(0, |value, digit| value * 10 + u64::from(digit - b'0'));
    Some((value, rest))
}

/// Milliseconds since midnight of a time like `2026-01-31T12:34:56.789Z`.
pub(crate) fn milliseconds_of_day(at: &str) -> Option<u64> {
    let clock = at.get(11..23)?.as_bytes();
    let (hours, rest) = number(clock)?;
    let (minutes, rest) = number(rest.strip_prefix(b":")?)?;
    let (seconds, rest) = number(rest.strip_prefix(b":")?)?;
    let (milliseconds, _) = number(rest.strip_prefix(b".")?)?;
    Some(((hours * 60 + minutes) * 60 + seconds) * 1_000 + milliseconds)
}

/// The counts of one poll.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Results {
    pub(crate) poll: u32,
    pub(crate) seq: u64,
    pub(crate) votes: u64,
    pub(crate) counts: Vec<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_without_parsing_and_only_where_they_stand_as_usual() {
        let place = |text: &str| place_of(text.as_bytes());
        assert_eq!(place(r#"{"type":"event","seq":58,"prev":7,"kind":"x"}"#), Some((58, 7)));
        assert_eq!(place(r#"{"seq":58,"type":"event","prev":57}"#), None);
        assert_eq!(place(r#"{"type":"event","seq":"58","prev":57,"#), None);
        assert_eq!(place(r#"{"type":"event","seq":58"#), None);
    }

    #[test]
    fn a_time_is_milliseconds_of_its_day() {
        let at = "2026-01-31T01:02:03.456Z";
        assert_eq!(milliseconds_of_day(at), Some(3_723_456));
        assert_eq!(milliseconds_of_day("yesterday"), None);
    }

    #[test]
    fn results_come_alone_or_with_a_closed_poll() {
        let results = r#"{"poll":3,"seq":9,"votes":2,"counts":[2,0]}"#;
        let alone = format!(r#"{{"type":"event","kind":"poll.results","new":1,"data":{results}}}"#);
        let closed = format!(
            r#"{{"type":"event","kind":"poll.closed","data":{{"poll":{{"n":3}},"results":{results}}}}}"#
        );
        let expected = Results { poll: 3, seq: 9, votes: 2, counts: vec![2, 0] };
        for text in [alone, closed] {
            let message = Message::parse(text.as_bytes()).unwrap();
            assert_eq!(message.results().as_ref(), Some(&expected));
        }
    }
}
