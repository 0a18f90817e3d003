//! Client messages read a second time, from what `serde_json` makes of them, as docs/PROTOCOL.md words the rules. Called by
//! `targets/messages.rs`.

use plenum::domain::{
    Answer, Ballot, Code as JoinCode, Draft, PollKind, PollNumber, ResultsMode, VoteId,
};
use plenum::wire::Code;
use plenum::wire::inbound::{ClientMessage, Hello, HelloFault, VoteMessage};
use plenum::wire::json::{self, Value};
use serde_json::{Map, Number, Value as Json};

/// A fault without its words.
pub type Refusal = (Code, Option<&'static str>);

type Fields = Map<String, Json>;

/// Levels below which the server looks at nothing.
const DEPTH_MAX: usize = 3;

/// Whether both readers found the same value.
pub fn agrees(ours: &Value<'_>, theirs: &Json, depth: usize) -> bool {
    match (ours, theirs) {
        (Value::Null, Json::Null) | (Value::Bool, Json::Bool(_)) => true,
        (Value::Text(ours), Json::String(theirs)) => ours == theirs,
        (Value::Int(ours), Json::Number(theirs)) => Some(*ours) == int(theirs),
        (Value::Number, Json::Number(theirs)) => int(theirs).is_none(),
        (Value::Deep, Json::Array(_) | Json::Object(_)) => depth == DEPTH_MAX,
        (Value::Array(ours), Json::Array(theirs)) => {
            depth < DEPTH_MAX
                && ours.len() == theirs.len()
                && ours.iter().zip(theirs).all(|(ours, theirs)| agrees(ours, theirs, depth + 1))
        }
        (Value::Object(ours), Json::Object(theirs)) => {
            depth < DEPTH_MAX
                && ours.iter().all(|(name, _)| theirs.contains_key(*name))
                && theirs.iter().all(|(name, theirs)| {
                    json::last(ours, name).is_some_and(|ours| agrees(ours, theirs, depth + 1))
                })
        }
        _ => false,
    }
}

/// A whole number that fits, however it is written.
fn int(number: &Number) -> Option<i64> {
    if let Some(int) = number.as_i64() {
        return Some(int);
    }
    let float = number.as_f64().filter(|_| number.is_f64())?;
    (float == float.trunc() && float.abs() <= 2_f64.powi(53)).then_some(float as i64)
}

fn int_at(fields: &Fields, name: &'static str, min: i64, max: i64) -> Result<Option<i64>, Refusal> {
    match fields.get(name) {
        None => Ok(None),
        Some(Json::Number(number)) if int(number).is_some_and(|n| min <= n && n <= max) => {
            Ok(int(number))
        }
        Some(_) => refused(name),
    }
}

fn text_at<'f>(fields: &'f Fields, name: &'static str) -> Result<Option<&'f str>, Refusal> {
    match fields.get(name) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text)),
        Some(_) => refused(name),
    }
}

fn refused<T>(name: &'static str) -> Result<T, Refusal> {
    Err((Code::Unprocessable, Some(name)))
}

/// The first message of a connection.
pub fn hello(fields: &Fields) -> Result<Hello, HelloFault> {
    let malformed = |_| HelloFault::Malformed;
    let code = text_at(fields, "code").map_err(malformed)?;
    let token = text_at(fields, "token").map_err(malformed)?;
    let epoch = text_at(fields, "epoch").map_err(malformed)?;
    let after = int_at(fields, "after", 0, i64::MAX).map_err(malformed)?;
    if text_at(fields, "type").map_err(malformed)? != Some("hello") {
        return Err(HelloFault::Malformed);
    }
    if let Some(token) = token {
        return Ok(Hello::Token { token: token.into(), after, epoch: epoch.map(Into::into) });
    }
    let code = code.ok_or(HelloFault::Malformed)?.replace([' ', '-'], "");
    let digits = code.len() == 8 && code.chars().all(|sign| ('0'..='9').contains(&sign));
    JoinCode::parse(&code).filter(|_| digits).map(Hello::Code).ok_or(HelloFault::NoSession)
}

/// A message after it.
pub fn message(fields: &Fields) -> Result<ClientMessage, (Option<VoteId>, Refusal)> {
    match fields.get("type").and_then(Json::as_str) {
        Some("vote") => vote(fields).map(ClientMessage::Vote),
        Some("ping") => Ok(ClientMessage::Ping),
        _ => Err((None, (Code::BadRequest, None))),
    }
}

/// A vote, by either way.
pub fn vote(fields: &Fields) -> Result<VoteMessage, (Option<VoteId>, Refusal)> {
    let text = fields.get("id").and_then(Json::as_str).unwrap_or_default();
    let hyphens = [8, 13, 18, 23];
    let shaped = text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match hyphens.contains(&at) {
            true => byte == b'-',
            false => byte.is_ascii_hexdigit(),
        });
    let id = shaped.then(|| u128::from_str_radix(&text.replace('-', ""), 16).ok()).flatten();
    let id = VoteId(uuid::Uuid::from_u128(id.ok_or((None, (Code::Unprocessable, Some("id"))))?));
    let rest = || {
        let poll = int_at(fields, "poll", i64::MIN, i64::MAX)?;
        let poll = poll.ok_or((Code::Unprocessable, Some("poll")))?;
        let poll = PollNumber(if i64::from(poll as i32) == poll { poll as i32 } else { 0 });
        Ok(VoteMessage { id, poll, ballot: ballot(fields)? })
    };
    rest().map_err(|refusal| (Some(id), refusal))
}

fn ballot(fields: &Fields) -> Result<Ballot, Refusal> {
    let Some(Json::Object(answer)) = fields.get("answer") else { return refused("answer") };
    let number = |value: &Json| value.as_number().and_then(int);
    match (answer.get("choices"), answer.get("rating")) {
        (Some(Json::Array(items)), None) => {
            let Some(chosen) = items.iter().map(number).collect::<Option<Vec<i64>>>() else {
                return refused("answer");
            };
            let mut sorted = chosen.clone();
            sorted.sort_unstable();
            sorted.dedup();
            let fit = !chosen.is_empty()
                && sorted.len() == chosen.len()
                && chosen.iter().all(|option| (0..50).contains(option));
            let chosen = chosen.iter().map(|option| *option as i16).collect();
            Ok(if fit { Ballot::Answer(Answer::Choices(chosen)) } else { Ballot::Unfit })
        }
        (None, Some(step)) => match number(step) {
            Some(step @ 1..=32_767) => Ok(Ballot::Answer(Answer::Rating(step as i16))),
            Some(_) => Ok(Ballot::Unfit),
            None => refused("answer"),
        },
        _ => refused("answer"),
    }
}

/// A new poll as its presenter wrote it: `None` where it may not be.
pub fn draft(fields: &Fields) -> Option<Draft> {
    let words = |value: &Json, max: usize| {
        let text = value.as_str()?;
        let fits = (1..=max).contains(&text.chars().count()) && !text.contains('\0');
        fits.then(|| text.to_owned())
    };
    let results = match text_at(fields, "results").ok()? {
        None | Some("live") => ResultsMode::Live,
        Some("after_close") => ResultsMode::AfterClose,
        Some("presenter") => ResultsMode::Presenter,
        Some(_) => return None,
    };
    let question = words(fields.get("question")?, 300)?;
    match fields.get("kind")?.as_str()? {
        "choice" => {
            let options = fields.get("options")?.as_array()?;
            let options: Vec<String> =
                options.iter().map(|option| words(option, 200)).collect::<Option<_>>()?;
            let size = i32::try_from(options.len()).ok().filter(|size| (2..=50).contains(size))?;
            let max_choices = int_at(fields, "max_choices", 1, i64::from(size)).ok()?.unwrap_or(1);
            let max_choices = max_choices as i32;
            Some(Draft { kind: PollKind::Choice, question, options, size, max_choices, results })
        }
        "rating" if fields.get("options").is_none_or(Json::is_null) => {
            let size = int_at(fields, "max", 2, 10).ok()?? as i32;
            let options = Vec::new();
            Some(Draft { kind: PollKind::Rating, question, options, size, max_choices: 1, results })
        }
        _ => None,
    }
}
