//! What the server sends: messages as JSON text, encoded once and shared. Pure functions.
//! Called by `feed` (events, presence, welcomes), `ws` and `http` (acks, errors, byes).

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use super::Fault;
use crate::domain::{
    Answer, Audience, LoggedEvent, ParticipantId, Poll, PollNumber, Results, Seq, Session,
    Timestamp, VoteId,
};
use crate::limits::PING_EVERY;

/// JSON of what cannot fail to serialise: our own structs of text and numbers.
pub fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// The `event` message for one audience; `None` where it does not see the event.
/// `prev`: the event message before it on this stream.
#[must_use]
pub fn event(event: &LoggedEvent, prev: Seq, audience: Audience) -> Option<String> {
    let data = event.data_for(audience)?;
    let (seq, kind, at) = (event.seq, event.kind.as_str(), event.at);
    Some(format!(
        r#"{{"type":"event","seq":{seq},"prev":{prev},"kind":"{kind}","at":"{at}","data":{data}}}"#
    ))
}

/// An item of `GET events`.
#[must_use]
pub fn event_item(event: &LoggedEvent, audience: Audience) -> Option<String> {
    let data = event.data_for(audience)?;
    let (seq, kind, at) = (event.seq, event.kind.as_str(), event.at);
    Some(format!(r#"{{"seq":{seq},"kind":"{kind}","at":"{at}","data":{data}}}"#))
}

/// The `ack` of a stored vote.
#[must_use]
pub fn ack(id: VoteId, poll: PollNumber, seq: Seq, repeat: bool) -> String {
    format!(r#"{{"type":"ack","id":"{id}","poll":{poll},"seq":{seq},"repeat":{repeat}}}"#)
}

/// An `error` message; `id` where it answers a vote, `stored` where another vote counts.
#[must_use]
pub fn error(id: Option<VoteId>, fault: &Fault, stored: Option<&Answer>) -> String {
    let mut message =
        json!({ "type": "error", "code": fault.code.as_str(), "message": fault.detail });
    if let Some(fields) = message.as_object_mut() {
        if let Some(id) = id {
            fields.insert("id".into(), json!(id));
        }
        if let Some(field) = fault.field {
            fields.insert("field".into(), json!(field));
        }
        if let Some(ms) = fault.retry_after_ms {
            fields.insert("retry_after_ms".into(), json!(ms));
        }
        if let Some(answer) = stored {
            fields.insert("answer".into(), json!(answer));
        }
    }
    message.to_string()
}

/// A problem of RFC 9457.
#[must_use]
pub fn problem(fault: &Fault, stored: Option<&Answer>) -> String {
    let mut body = json!({
        "type": "about:blank", "title": fault.code.title(), "status": fault.code.status(),
        "detail": fault.detail, "code": fault.code.as_str(),
    });
    if let Some(fields) = body.as_object_mut() {
        if let Some(field) = fault.field {
            fields.insert("field".into(), json!(field));
        }
        if let Some(answer) = stored {
            fields.insert("answer".into(), json!(answer));
        }
    }
    body.to_string()
}

/// How many are here.
#[must_use]
pub fn presence(participants: usize) -> String {
    format!(r#"{{"type":"presence","participants":{participants}}}"#)
}

/// Go away, and come back after so long.
#[must_use]
pub fn bye(reconnect_after_ms: u64) -> String {
    format!(r#"{{"type":"bye","reason":"draining","reconnect_after_ms":{reconnect_after_ms}}}"#)
}

/// The answer to a `ping` message.
pub const PONG: &str = r#"{"type":"pong"}"#;

/// A session as the API shows it: what is stored, and what is live on this instance.
#[must_use]
pub fn session(
    stored: &Session,
    participants: usize,
    last_seq: Seq,
    join_url: &str,
) -> serde_json::Value {
    let mut shown = json!(stored);
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("state".into(), json!(stored.state_at(Timestamp::now())));
        fields.insert("participants".into(), json!(participants));
        fields.insert("last_seq".into(), json!(last_seq));
        fields.insert("join_url".into(), json!(join_url));
    }
    shown
}

/// The part of a welcome that is the same for everybody who joins at one `seq`: a run of JSON fields without braces.
#[must_use]
pub fn welcome_state<'a>(
    session: &serde_json::Value,
    epoch: &str,
    polls: impl Iterator<Item = &'a Poll>,
    results: impl Iterator<Item = &'a Results>,
) -> String {
    let polls: Vec<&Poll> = polls.collect();
    let results: Vec<&Results> = results.collect();
    format!(
        r#""session":{session},"epoch":{},"polls":{},"results":{},"heartbeat_ms":{}"#,
        json(epoch),
        json(&polls),
        json(&results),
        PING_EVERY.as_millis()
    )
}

/// The part of a welcome that is one client's own; put together with [`welcome_state`] it is the message.
#[must_use]
pub fn welcome_head(
    seq: Seq,
    resumed: bool,
    me: Option<(&ParticipantId, &str)>,
    my_votes: Option<&str>,
) -> String {
    let mut head = format!(r#"{{"type":"welcome","seq":{seq},"resumed":{resumed},"#);
    if let Some((id, token)) = me {
        let _ = write!(head, r#""participant":{{"id":"{id}","token":"{token}"}},"#);
    }
    if let Some(my_votes) = my_votes {
        let _ = write!(head, r#""my_votes":{my_votes},"#);
    }
    head
}

/// `{"<n>": answer}` of every vote of one participant.
#[must_use]
pub fn my_votes(votes: &[(PollNumber, Answer)]) -> String {
    let fields: serde_json::Map<_, _> =
        votes.iter().map(|(poll, answer)| (poll.to_string(), json!(answer))).collect();
    json(&fields)
}
