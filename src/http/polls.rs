//! Polls: create, list, read, change, delete, open, close, results. Called by `router.rs`.

use hyper::Request;
use hyper::body::Incoming;
use serde_json::json;

use super::body;
use super::respond::{self, Answered};
use super::sessions::{done, missing};
use super::token::{self, Caller};
use crate::domain::{
    Audience, Draft, Poll, PollKind, PollNumber, PollState, Results, ResultsMode, Seq, SessionId,
    SessionState,
};
use crate::limits::{
    OPTION_CHARS_MAX, OPTIONS_MAX, OPTIONS_MIN, RATING_MAX, RATING_MIN, TITLE_CHARS_MAX,
};
use crate::store::StoreError;
use crate::store::control::{Change, Outcome};
use crate::wire::json::{Object, Value};
use crate::wire::{Code, Fault, outbound};
use crate::ws::Edge;

/// Two presenters' devices changing one draft at once; more than a few rounds is no accident.
const STALE_ROUNDS_MAX: usize = 8;

pub(super) async fn create(
    edge: &Edge,
    request: &mut Request<Incoming>,
    session: SessionId,
) -> Answered {
    token::presenter(edge, request.headers(), session).await?;
    let mut body = body::read(request).await?;
    let draft = draft(&Object::parse(&mut body)?, None)?;
    changed(edge, 201, edge.store.create_poll(session, &draft).await?).await
}

pub(super) async fn list(edge: &Edge, request: &Request<Incoming>, session: SessionId) -> Answered {
    let caller = token::caller(edge, token::bearer(request.headers()), session).await?;
    if let Caller::Participant(_) = caller {
        edge.store.session(session).await?.ok_or_else(missing)?;
    }
    let polls = edge.store.polls(session, caller.audience() == Audience::Presenters).await?;
    Ok(respond::json(200, json!({ "polls": polls }).to_string()))
}

pub(super) async fn get(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    let (poll, _, _) = visible(edge, request, session, n).await?;
    Ok(respond::json(200, outbound::json(&poll)))
}

pub(super) async fn patch(
    edge: &Edge,
    request: &mut Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    token::presenter(edge, request.headers(), session).await?;
    let mut body = body::read(request).await?;
    let object = Object::parse(&mut body)?;
    for _ in 0..STALE_ROUNDS_MAX {
        // What can be said of the body alone comes before whether there is such a poll.
        let read = edge.store.poll(session, n).await?;
        let draft = draft(&object, read.as_ref().map(|(poll, _)| poll).or(Some(&any_draft())))?;
        let (poll, _) = read.ok_or_else(missing)?;
        let change = edge.store.replace_draft(session, n, &outbound::json(&poll), &draft).await?;
        if change.outcome != Outcome::Stale {
            return changed(edge, 200, change).await;
        }
    }
    Err(Fault::new(Code::Overloaded, "others are changing this draft; try again"))
}

pub(super) async fn delete(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    token::presenter(edge, request.headers(), session).await?;
    done(edge, edge.store.delete_draft(session, n).await?).await?;
    Ok(respond::nothing())
}

pub(super) async fn open(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    token::presenter(edge, request.headers(), session).await?;
    changed(edge, 200, edge.store.open_poll(session, n).await?).await
}

pub(super) async fn close(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    token::presenter(edge, request.headers(), session).await?;
    changed(edge, 200, edge.store.close_poll(session, n).await?).await
}

pub(super) async fn results(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Answered {
    let (poll, results, audience) = visible(edge, request, session, n).await?;
    if !poll.results_visible_to(audience) {
        return Err(Fault::new(Code::Forbidden, "the results of this poll are not shown now"));
    }
    let results = results.unwrap_or_else(|| Results::zero(&poll, Seq(0)));
    Ok(respond::json(200, outbound::json(&results)))
}

/// A poll that the caller may see, with its results, and who the caller is.
async fn visible(
    edge: &Edge,
    request: &Request<Incoming>,
    session: SessionId,
    n: PollNumber,
) -> Result<(Poll, Option<Results>, Audience), Fault> {
    let caller = token::caller(edge, token::bearer(request.headers()), session).await?;
    let audience = caller.audience();
    let read = match &caller {
        Caller::Presenter(row) if row.session.state == SessionState::Ended => {
            edge.store.poll_of_ended(session, n, row.last_seq).await?
        }
        _ => edge.store.poll(session, n).await?,
    };
    let (poll, results) = read.ok_or_else(missing)?;
    if poll.state == PollState::Draft && audience == Audience::Participants {
        return Err(missing());
    }
    Ok((poll, results, audience))
}

async fn changed(edge: &Edge, status: u16, change: Change) -> Answered {
    let body = done(edge, change).await?.ok_or(StoreError::Content("a change without its poll"))?;
    Ok(respond::json(status, body))
}

/// Reads a draft; what is left out stays as it was in `old`, where there is one.
pub(super) fn draft(object: &Object<'_>, old: Option<&Poll>) -> Result<Draft, Fault> {
    let kind = match (object.optional_text("kind")?, old) {
        (Some("choice"), _) => PollKind::Choice,
        (Some("rating"), _) => PollKind::Rating,
        (Some(_), _) => return Err(Fault::field("kind", "this must be choice or rating")),
        (None, Some(old)) => old.kind,
        (None, None) => return Err(Fault::field("kind", "this is required")),
    };
    let question = match (object.get("question"), old) {
        (None, Some(old)) => old.question.clone(),
        _ => object.words("question", TITLE_CHARS_MAX)?.to_owned(),
    };
    let results = match (object.optional_text("results")?, old) {
        (Some("live"), _) | (None, None) => ResultsMode::Live,
        (Some("after_close"), _) => ResultsMode::AfterClose,
        (Some("presenter"), _) => ResultsMode::Presenter,
        (Some(_), _) => {
            return Err(Fault::field("results", "this must be live, after_close or presenter"));
        }
        (None, Some(old)) => old.results,
    };
    let (options, size, max_choices) = match kind {
        PollKind::Choice => choice(object, old)?,
        PollKind::Rating => (Vec::new(), rating(object, old)?, 1),
    };
    Ok(Draft { kind, question, options, size, max_choices, results })
}

fn choice(object: &Object<'_>, old: Option<&Poll>) -> Result<(Vec<String>, i32, i32), Fault> {
    let options = match (object.get("options"), old.and_then(|old| old.options.as_ref())) {
        (None, Some(options)) => options.clone(),
        _ => object.list_of_words("options", OPTION_CHARS_MAX)?,
    };
    if !(OPTIONS_MIN..=OPTIONS_MAX).contains(&options.len()) {
        return Err(Fault::field(
            "options",
            format!("there must be {OPTIONS_MIN} to {OPTIONS_MAX} options"),
        ));
    }
    let size = i32::try_from(options.len()).unwrap_or(i32::MAX);
    let max_choices = match object.optional_int("max_choices", 1, OPTIONS_MAX as i64)? {
        Some(max_choices) => i32::try_from(max_choices).unwrap_or(i32::MAX),
        None => old.and_then(|old| old.max_choices).unwrap_or(1),
    };
    if max_choices > size {
        return Err(Fault::field("max_choices", "there are not so many options"));
    }
    Ok((options, size, max_choices))
}

fn rating(object: &Object<'_>, old: Option<&Poll>) -> Result<i32, Fault> {
    if object.get("options").is_some_and(|options| !matches!(options, Value::Null)) {
        return Err(Fault::field("options", "a rating has none"));
    }
    match (object.optional_int("max", RATING_MIN, RATING_MAX)?, old.and_then(|old| old.max)) {
        (Some(max), _) => Ok(i32::try_from(max).unwrap_or(0)),
        (None, Some(max)) => Ok(max),
        (None, None) => Err(Fault::field("max", "this is required")),
    }
}

/// Stands in for a poll that does not exist, so that a patch of it is checked all the same.
fn any_draft() -> Poll {
    Poll {
        n: PollNumber(0),
        kind: PollKind::Choice,
        question: String::from("?"),
        options: Some(vec![String::new(); OPTIONS_MAX]),
        max_choices: Some(1),
        max: Some(2),
        results: ResultsMode::Live,
        state: PollState::Draft,
        opened_at: None,
        closed_at: None,
    }
}
