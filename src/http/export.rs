//! Every poll and every vote of a session, streamed page by page as JSON or CSV, as they stood when the export began.
//! No cell of the CSV can be taken for a formula. Called by `router.rs`.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_DISPOSITION, HeaderValue};
use hyper::{Request, Response};
use serde_json::json;

use super::respond::{self, Answered, Body, BrokenOff};
use super::{body, sessions, token};
use crate::domain::{Seq, SessionId};
use crate::store::export::StoredVote;
use crate::store::reads::SessionRow;
use crate::store::{Store, StoreError};
use crate::wire::{Code, Fault, outbound};
use crate::ws::Edge;

/// How an export looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Json,
    Csv,
}

/// An export on its way, piece by piece. Also what `plenum admin export` writes.
pub(crate) struct Export {
    store: Store,
    session: SessionId,
    upto: Seq,
    format: Format,
    /// What comes before the first vote; `None` once it is sent.
    opening: Option<String>,
    last: Option<StoredVote>,
    done: bool,
    /// Of the request: its pieces are asked for when the request counts as answered.
    span: tracing::Span,
}

pub(super) async fn export(
    edge: &Arc<Edge>,
    request: &Request<Incoming>,
    session: SessionId,
) -> Answered {
    let row = token::presenter(edge, request.headers(), session).await?;
    let format = match body::query(request, "format").as_deref() {
        None | Some("json") => Format::Json,
        Some("csv") => Format::Csv,
        Some(_) => {
            let fault = Fault::new(Code::BadRequest, "this must be json or csv");
            return Err(Fault { field: Some("format"), ..fault });
        }
    };
    let participants = sessions::present(edge, session).await?;
    let join_url = edge.feed.join_url(&row.session.code);
    let shown = outbound::session(&row.session, participants, row.last_seq, &join_url);
    let export = Export::begin(edge.store.clone(), &row, &shown, format).await?;
    Ok(export.into_response())
}

impl Export {
    /// Everything of a session up to its head; `shown` is what JSON says of the session itself.
    pub(crate) async fn begin(
        store: Store,
        row: &SessionRow,
        shown: &serde_json::Value,
        format: Format,
    ) -> Result<Self, StoreError> {
        let (session, upto) = (row.session.id, row.last_seq);
        let opening = match format {
            Format::Json => {
                let polls = store.polls(session, true).await?;
                format!(r#"{{"session":{shown},"polls":{},"votes":["#, outbound::json(&polls))
            }
            Format::Csv => String::from("poll,vote_id,participant,answer,at\r\n"),
        };
        let span = tracing::Span::current();
        let opening = Some(opening);
        Ok(Self { store, session, upto, format, opening, last: None, done: false, span })
    }

    fn into_response(self) -> Response<Body> {
        let (kind, name) = match self.format {
            Format::Json => ("application/json", "attachment; filename=\"session.json\""),
            Format::Csv => ("text/csv; charset=utf-8", "attachment; filename=\"session.csv\""),
        };
        let pages = stream::unfold(self, |mut export| async move {
            let chunk = export.next().await?;
            Some((chunk.map(Frame::data), export))
        });
        let mut response = respond::with(200, kind, Bytes::new());
        response.headers_mut().insert(CONTENT_DISPOSITION, HeaderValue::from_static(name));
        response.map(|_| StreamBody::new(pages).boxed_unsync())
    }

    /// The next piece, made when the client has taken the one before.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, BrokenOff>> {
        if self.done {
            return None;
        }
        if let Some(opening) = self.opening.take() {
            return Some(Ok(opening.into()));
        }
        match self.store.votes_page(self.session, self.upto, self.last.as_ref()).await {
            Ok(votes) => {
                let first = self.last.is_none();
                let text = match self.format {
                    Format::Json => json_page(&votes, first).into_bytes(),
                    Format::Csv => csv_page(&votes),
                };
                self.done = votes.is_empty();
                self.last = votes.into_iter().next_back().or(self.last.take());
                // An empty page ends it; JSON has its brackets to close.
                let closing = self.done && self.format == Format::Json;
                Some(Ok(if closing { Bytes::from_static(b"]}") } else { text.into() }))
            }
            Err(error) => {
                // The status is sent already: a connection that ends without its last chunk is what tells the client.
                tracing::warn!(parent: &self.span, error = ?error, "export broke off");
                self.done = true;
                Some(Err(BrokenOff))
            }
        }
    }
}

fn json_page(votes: &[StoredVote], first: bool) -> String {
    let items: Vec<String> = votes
        .iter()
        .map(|vote| {
            let StoredVote { id, poll, participant, answer, seq, at } = vote;
            json!({ "id": id, "poll": poll, "participant": participant, "answer": answer, "seq": seq, "at": at })
                .to_string()
        })
        .collect();
    let comma = if first || items.is_empty() { "" } else { "," };
    format!("{comma}{}", items.join(","))
}

fn csv_page(votes: &[StoredVote]) -> Vec<u8> {
    let mut writer =
        csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for vote in votes {
        let cells = [
            vote.poll.to_string(),
            vote.id.0.to_string(),
            vote.participant.to_string(),
            outbound::json(&vote.answer),
            vote.at.to_string(),
        ];
        // Writing to memory does not fail.
        let _ = writer.write_record(cells.map(|cell| harmless(&cell)));
    }
    writer.into_inner().unwrap_or_default()
}

/// What a spreadsheet would take for a formula gets an apostrophe before it.
fn harmless(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        format!("'{cell}")
    } else {
        cell.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::harmless;

    #[test]
    fn no_cell_is_a_formula() {
        for cell in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            assert!(harmless(cell).starts_with('\''), "{cell}");
        }
        assert_eq!(harmless("{\"rating\":4}"), "{\"rating\":4}");
    }
}
