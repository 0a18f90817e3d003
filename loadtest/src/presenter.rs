//! What a presenter does by REST: makes a session and its polls, opens, closes, reads, exports.
//! Must never retry: a refused call is a failure of the command that made it.
//! Called by the demonstration and the load test.

use plenum_loadtest::client::{Answer, Api};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::failure::Failure;

/// Polls are made and opened this many at a time, to get to the point sooner.
const PREPARING_AT_ONCE: usize = 16;

/// A session and the right to run it.
#[derive(Debug, Clone)]
pub(crate) struct Presenter {
    pub(crate) api: Api,
    pub(crate) session: String,
    pub(crate) code: String,
    pub(crate) token: String,
}

impl Presenter {
    /// Creates a session.
    pub(crate) async fn create(
        api: &Api,
        api_key: Option<&str>,
        title: &str,
    ) -> Result<Presenter, Failure> {
        let body = json!({ "title": title });
        let answer = api.post("/v1/sessions", api_key, Some(&body)).await?;
        let answer = Failure::unless_ok("creating a session", answer)?.json();
        Ok(Presenter {
            api: api.clone(),
            session: text_of(&answer, "id")?,
            code: text_of(&answer, "code")?,
            token: text_of(&answer, "presenter_token")?,
        })
    }

    /// Adds a poll and returns its number.
    pub(crate) async fn add_poll(&self, question: &str, options: &[&str]) -> Result<u32, Failure> {
        self.add(json!({ "kind": "choice", "question": question, "options": options })).await
    }

    async fn add(&self, body: Value) -> Result<u32, Failure> {
        let path = format!("/v1/sessions/{}/polls", self.session);
        let answer = self.api.post(&path, Some(&self.token), Some(&body)).await?;
        let answer = Failure::unless_ok("creating a poll", answer)?.json();
        answer
            .get("n")
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok())
            .ok_or_else(|| Failure::told("the new poll has no number"))
    }

    /// Makes and opens polls of four options, some at a time; returns their numbers in order. `results`: who sees them when,
    /// as the protocol names it.
    pub(crate) async fn open_polls(&self, count: u32, results: &str) -> Result<Vec<u32>, Failure> {
        let poll = json!({
            "kind": "choice", "question": "Which?", "options": ["a", "b", "c", "d"], "results": results,
        });
        let mut making = JoinSet::new();
        let mut polls = Vec::new();
        for nth in 0..count {
            let (presenter, body) = (self.clone(), poll.clone());
            making.spawn(async move {
                let poll = presenter.add(body).await?;
                presenter.open(poll).await?;
                Ok::<_, Failure>(poll)
            });
            if making.len() >= PREPARING_AT_ONCE || nth + 1 == count {
                while let Some(one) = making.join_next().await {
                    let one = one.map_err(|error| Failure::told(error.to_string()))?;
                    polls.push(one?);
                }
            }
        }
        polls.sort_unstable();
        Ok(polls)
    }

    /// Gives the session another title, which is an event for everybody.
    pub(crate) async fn rename(&self, title: &str) -> Result<(), Failure> {
        let path = format!("/v1/sessions/{}", self.session);
        let body = json!({ "title": title });
        let answer = self.api.patch(&path, Some(&self.token), Some(&body)).await?;
        Failure::unless_ok("renaming a session", answer).map(|_| ())
    }

    /// The newest event of the session.
    pub(crate) async fn last_seq(&self) -> Result<u64, Failure> {
        let path = format!("/v1/sessions/{}", self.session);
        let answer = self.api.get(&path, Some(&self.token)).await?;
        let answer = Failure::unless_ok("reading a session", answer)?.json();
        let seq = answer.get("last_seq").and_then(Value::as_u64);
        seq.ok_or_else(|| Failure::told("a session without last_seq"))
    }

    /// Opens a poll.
    pub(crate) async fn open(&self, poll: u32) -> Result<Answer, Failure> {
        let answer = self.post(&format!("polls/{poll}/open")).await?;
        Failure::unless_ok("opening a poll", answer)
    }

    /// Closes a poll.
    pub(crate) async fn close(&self, poll: u32) -> Result<Answer, Failure> {
        let answer = self.post(&format!("polls/{poll}/close")).await?;
        Failure::unless_ok("closing a poll", answer)
    }

    /// The results of a poll, by REST.
    pub(crate) async fn results(&self, poll: u32) -> Result<Answer, Failure> {
        let answer = self.get(&format!("polls/{poll}/results")).await?;
        Failure::unless_ok("reading results", answer)
    }

    /// Every stored vote.
    pub(crate) async fn export(&self) -> Result<Answer, Failure> {
        let answer = self.get("export?format=json").await?;
        Failure::unless_ok("exporting", answer)
    }

    /// Removes the session and all that belongs to it.
    pub(crate) async fn delete(&self) -> Result<(), Failure> {
        let path = format!("/v1/sessions/{}", self.session);
        let answer = self.api.delete(&path, Some(&self.token)).await?;
        Failure::unless_ok("deleting a session", answer).map(|_| ())
    }

    async fn get(&self, what: &str) -> Result<Answer, Failure> {
        let path = format!("/v1/sessions/{}/{what}", self.session);
        Ok(self.api.get(&path, Some(&self.token)).await?)
    }

    async fn post(&self, what: &str) -> Result<Answer, Failure> {
        let path = format!("/v1/sessions/{}/{what}", self.session);
        Ok(self.api.post(&path, Some(&self.token), None).await?)
    }
}

fn text_of(answer: &Value, field: &str) -> Result<String, Failure> {
    answer
        .get(field)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or_else(|| Failure::told(format!("the new session has no {field}")))
}
