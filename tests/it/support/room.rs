//! A server with one live session: what nearly every test begins with.
//! Makes everything through the public API, as a presenter would. Called by tests.

use plenum_loadtest::client::{Answer, Api};
use serde_json::{Value, json};

use super::database::TestDb;
use super::guest::Guest;
use super::server::Server;

/// One session on one server.
#[derive(Debug)]
pub(crate) struct Room {
    /// Declared first, so that it ends before anything it uses.
    pub(crate) server: Server,
    pub(crate) db: TestDb,
    pub(crate) session: Session,
}

/// A session and its presenter's token; usable on every server of its database.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(crate) api: Api,
    pub(crate) id: String,
    pub(crate) code: String,
    pub(crate) presenter: String,
    /// As it was answered when it was created.
    pub(crate) body: Value,
}

/// A participant who joined through REST.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) id: String,
    pub(crate) token: String,
    /// The whole answer of join.
    pub(crate) body: Value,
}

impl std::ops::Deref for Room {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl Room {
    /// A fresh database, a server on it, a live session.
    pub(crate) async fn open() -> Room {
        Room::with(&[]).await
    }

    /// As `open`, with further flags for the server.
    pub(crate) async fn with(flags: &[&str]) -> Room {
        let db = TestDb::fresh().await;
        let server = Server::with(&db, flags).await;
        Room::on(server, db).await
    }

    /// A session on a server that runs already.
    pub(crate) async fn on(server: Server, db: TestDb) -> Room {
        let session = Session::create(&server.api, json!({"title": "A test"})).await;
        Room { server, db, session }
    }

    /// A connection that joined anew.
    pub(crate) async fn guest(&self) -> Guest {
        self.session.guest_at(&self.server).await
    }

    /// A connection of the presenter.
    pub(crate) async fn host(&self) -> Guest {
        Guest::hello(&self.server.base(), json!({"token": self.presenter})).await
    }

    /// A connection that comes back with a token, having seen everything up to `after`.
    pub(crate) async fn resume(&self, token: &str, after: i64) -> Guest {
        Guest::hello(&self.server.base(), json!({"token": token, "after": after})).await
    }
}

impl Session {
    /// Creates a session.
    pub(crate) async fn create(api: &Api, body: Value) -> Session {
        let answer = api.post("/v1/sessions", None, Some(&body)).await.unwrap();
        assert_eq!(answer.status, 201, "{}", answer.text());
        let body = answer.json();
        let text = |name: &str| body[name].as_str().unwrap().to_owned();
        let (id, code, presenter) = (text("id"), text("code"), text("presenter_token"));
        Session { api: api.clone(), id, code, presenter, body }
    }

    /// The same session, its calls going to another server.
    pub(crate) fn by(&self, server: &Server) -> Session {
        Session { api: server.api.clone(), ..self.clone() }
    }

    /// A connection to `server` that joins anew.
    pub(crate) async fn guest_at(&self, server: &Server) -> Guest {
        Guest::hello(&server.base(), json!({"code": self.code})).await
    }

    /// `/v1/sessions/{id}` and what follows.
    pub(crate) fn path(&self, rest: &str) -> String {
        format!("/v1/sessions/{}{rest}", self.id)
    }

    /// A call below this session, with any token.
    pub(crate) async fn call(&self, method: &str, rest: &str, token: &str, body: Value) -> Answer {
        let body = (!body.is_null()).then_some(&body);
        self.api.call(method, &self.path(rest), Some(token), body).await.unwrap()
    }

    /// A GET below this session, with any token.
    pub(crate) async fn get(&self, rest: &str, token: &str) -> Answer {
        self.call("GET", rest, token, Value::Null).await
    }

    /// A presenter's call that must succeed, and its answer.
    pub(crate) async fn present(&self, method: &str, rest: &str, body: Value) -> Value {
        let answer = self.call(method, rest, &self.presenter, body).await;
        assert!((200..300).contains(&answer.status), "{method} {rest}: {}", answer.text());
        answer.json()
    }

    /// A draft, by its number.
    pub(crate) async fn draft(&self, body: Value) -> i64 {
        self.present("POST", "/polls", body).await["n"].as_i64().unwrap()
    }

    /// An open poll.
    pub(crate) async fn poll(&self, body: Value) -> i64 {
        let n = self.draft(body).await;
        self.open_poll(n).await;
        n
    }

    /// An open poll of the plainest kind.
    pub(crate) async fn choice(&self, options: usize) -> i64 {
        self.poll(choice(options)).await
    }

    /// Opens a poll.
    pub(crate) async fn open_poll(&self, n: i64) -> Value {
        self.present("POST", &format!("/polls/{n}/open"), Value::Null).await
    }

    /// Closes a poll.
    pub(crate) async fn close_poll(&self, n: i64) -> Value {
        self.present("POST", &format!("/polls/{n}/close"), Value::Null).await
    }

    /// The results as the presenter sees them.
    pub(crate) async fn results(&self, n: i64) -> Value {
        self.present("GET", &format!("/polls/{n}/results"), Value::Null).await
    }

    /// Gives the session another title: an event that every connection gets.
    pub(crate) async fn retitle(&self, title: &str) -> Value {
        self.present("PATCH", "", json!({"title": title})).await
    }

    /// Joins through REST.
    pub(crate) async fn join(&self) -> Member {
        let body = json!({"code": self.code});
        let answer = self.api.post("/v1/join", None, Some(&body)).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
        let body = answer.json();
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (id, token) = (text(&body["participant"]["id"]), text(&body["participant"]["token"]));
        Member { id, token, body }
    }

    /// Votes through REST.
    pub(crate) async fn cast(&self, token: &str, id: &str, poll: i64, answer: Value) -> Answer {
        let body = json!({"id": id, "poll": poll, "answer": answer});
        self.call("POST", "/votes", token, body).await
    }

    /// The whole log as one token may see it.
    pub(crate) async fn log(&self, token: &str) -> Vec<Value> {
        let mut log: Vec<Value> = Vec::new();
        loop {
            let after = log.last().map_or(0, |event| event["seq"].as_i64().unwrap());
            let answer = self.get(&format!("/events?after={after}&limit=1000"), token).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            let mut page = answer.json();
            let page = page["events"].as_array_mut().unwrap();
            if page.is_empty() {
                return log;
            }
            log.append(page);
        }
    }
}

/// The body of a poll with so many options.
pub(crate) fn choice(options: usize) -> Value {
    let options: Vec<String> = (0..options).map(|n| format!("Option {n}")).collect();
    json!({"kind": "choice", "question": "Which one?", "options": options})
}

/// A poll with three options whose counts are seen as `results` says.
pub(crate) fn choice_seen(results: &str) -> Value {
    let mut body = choice(3);
    body["results"] = json!(results);
    body
}

/// The answer that takes one option.
pub(crate) fn pick(option: usize) -> Value {
    json!({"choices": [option]})
}
