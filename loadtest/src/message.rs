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
