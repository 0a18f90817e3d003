//! REST calls over one pooled HTTP client, cheap to clone.
//! Must never retry, follow a redirect or turn a status into an error: the answer is handed back.
//! Called by every part of the load generator and by the server's tests.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, header};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::time::timeout;

use super::error::ClientError;

/// How long one call may take, its body included. Above the 20 s after which a server gives up a
/// body that does not arrive, so that the server's own answer is seen first.
const CALL_WITHIN: Duration = Duration::from_secs(40);

/// A server's REST side.
#[derive(Debug, Clone)]
pub struct Api {
    base: String,
    http: Client<HttpConnector, Full<Bytes>>,
}

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `Null` where it is not.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body as text, for messages to people.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Api {
    /// A client of the server at `base`, for instance `http://127.0.0.1:8080`.
    pub fn new(base: &str) -> Api {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let http = Client::builder(TokioExecutor::new()).build(connector);
        Api { base: base.trim_end_matches('/').to_owned(), http }
    }

    /// The address that calls go to.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// One call; `body` is sent as JSON.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.call_bytes(method, path, token, body).await
    }

    /// One call with any bytes as its body.
    pub async fn call_bytes(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: Option<Bytes>,
    ) -> Result<Answer, ClientError> {
        let fault = |why| ClientError::Address(format!("{method} {path}"), why);
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| fault("no such method"))?;
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.base));
        if let Some(token) = token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|_| ClientError::Address(path.to_owned(), "no request can be made"))?;
        timeout(CALL_WITHIN, self.exchange(request))
            .await
            .map_err(|_| ClientError::Timeout("an HTTP answer"))?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Answer, ClientError> {
        let fault = |error: &dyn std::error::Error| ClientError::Http(chain_of(error));
        let answer = self.http.request(request).await.map_err(|error| fault(&error))?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.map_err(|error| fault(&error))?.to_bytes();
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// `GET path`.
    pub async fn get(&self, path: &str, token: Option<&str>) -> Result<Answer, ClientError> {
        self.call("GET", path, token, None).await
    }

    /// `POST path`.
    pub async fn post(
        &self,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        self.call("POST", path, token, body).await
    }

    /// `PATCH path`.
    pub async fn patch(
        &self,
        path: &str,
        token: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, ClientError> {
        self.call("PATCH", path, token, body).await
    }

    /// `DELETE path`.
    pub async fn delete(&self, path: &str, token: Option<&str>) -> Result<Answer, ClientError> {
        self.call("DELETE", path, token, None).await
    }
}

/// The HTTP client's own message says nothing ("client error (Connect)"); its causes do.
fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_refusal_is_an_answer_and_the_token_is_sent() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Api::new(&format!("http://{}/", listener.local_addr().unwrap()));
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"{\"x\":1}") {
                request.push(stream.read_u8().await.unwrap());
            }
            let answer = "HTTP/1.1 409 Conflict\r\ncontent-length: 13\r\n\r\n{\"code\":\"no\"}";
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8(request).unwrap()
        };
        let body = json!({ "x": 1 });
        let call = api.post("/v1/a", Some("secret"), Some(&body));
        let (request, answer) = tokio::join!(server, call);
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.json()), (409, json!({ "code": "no" })));
        assert!(request.starts_with("POST /v1/a HTTP/1.1\r\n"), "{request}");
        assert!(request.contains("authorization: Bearer secret\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_an_error_with_its_cause() {
        // Bound and dropped: nothing listens there.
        let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let error = Api::new(&format!("http://{gone}")).get("/", None).await.unwrap_err();
        assert!(error.to_string().contains("refused"), "{error}");
    }
}
