//! Join by REST: a code becomes a participant and the state to begin with. Called by `router.rs`.

use std::net::IpAddr;

use hyper::Request;
use hyper::body::Incoming;
use uuid::Uuid;

use super::respond::{self, Answered};
use super::{body, sessions, token};
use crate::domain::ParticipantId;
use crate::wire::json::Object;
use crate::wire::{Code, Fault, outbound};
use crate::ws::{CodeRefused, Edge};

pub(super) async fn join(edge: &Edge, request: &mut Request<Incoming>, from: IpAddr) -> Answered {
    let returning = token::returning(edge, request.headers())?;
    let mut body = body::read(request).await?;
    let code = sessions::code(&Object::parse(&mut body)?)?;
    let session = match returning {
        // Whoever comes back to where they were guesses nothing.
        Some((of, _)) if edge.feed.session_of_code(&code).await? == Some(of) => of,
        _ => edge.session_of_code(&code, from).await.map_err(refused)?,
    };
    let id = match returning {
        Some((of, id)) if of == session => id,
        Some(_) => return Err(Fault::new(Code::InvalidToken, "this token is of another session")),
        None => ParticipantId(Uuid::now_v7()),
    };
    let beginning = edge.feed.state(session).await?.ok_or_else(sessions::missing)?;
    let my_votes = match returning {
        Some(_) => outbound::my_votes(&edge.store.my_votes(session, id).await?),
        None => String::from("{}"),
    };
    let (seq, token, state) =
        (beginning.seq, edge.signer.participant_token(session, id), beginning.state);
    let body = format!(
        r#"{{"participant":{{"id":"{id}","token":"{token}"}},"seq":{seq},"my_votes":{my_votes},{state}}}"#
    );
    Ok(respond::json(200, body))
}

fn refused(refused: CodeRefused) -> Fault {
    match refused {
        CodeRefused::Unknown => Fault::new(Code::NotFound, "no session has this code"),
        CodeRefused::TooMany(wait) => {
            Fault::new(Code::RateLimited, "too many unknown codes; wait a moment")
                .retry_after(u64::try_from(wait.as_millis()).unwrap_or(1_000))
        }
        CodeRefused::Store(error) => error.into(),
    }
}
