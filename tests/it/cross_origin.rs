//! Pages of other sites: what they may call over HTTP, what stays with this one, and what no page may do. The WebSocket's part is in
//! `socket_protocol`; a real page of another site is in `tests/browser/pages.test.mjs`.

use crate::support::*;

const HERE: &str = "https://polls.example";
const ELSEWHERE: &str = "https://elsewhere.example";

/// What a browser sends before it lets a page call.
async fn preflight(room: &Room, path: &str, method: &str, origin: &str) -> RawAnswer {
    let request = format!(
        "OPTIONS {path} HTTP/1.1\r\nHost: plenum\r\nOrigin: {origin}\r\n\
         Access-Control-Request-Method: {method}\r\n\
         Access-Control-Request-Headers: authorization\r\n\r\n"
    );
    exchange(room.server.listen, request).await
}

async fn join(room: &Room, origin: &str) -> RawAnswer {
    let body = json!({"code": room.code}).to_string();
    let request = format!(
        "POST /v1/join HTTP/1.1\r\nHost: plenum\r\n{origin}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    exchange(room.server.listen, request).await
}

fn seen_by(answer: &RawAnswer) -> Option<&str> {
    assert!(answer.header("access-control-allow-credentials").is_none(), "{answer:?}");
    answer.header("access-control-allow-origin")
}

#[tokio::test]
async fn a_page_of_another_site_may_do_what_a_participant_does() {
    let room = Room::open().await;
    let (stream, votes) = (room.path("/stream"), room.path("/votes"));
    for (path, method) in [("/v1/join", "POST"), (stream.as_str(), "GET"), (votes.as_str(), "POST")]
    {
        let answer = preflight(&room, path, method, ELSEWHERE).await;
        assert_eq!((answer.status, seen_by(&answer)), (204, Some("*")), "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), Some(method), "{path}");
        let headers = answer.header("access-control-allow-headers").unwrap_or_default();
        for needed in ["authorization", "content-type", "last-event-id"] {
            assert!(headers.contains(needed), "{path}: {headers}");
        }
    }
    let joined = join(&room, &format!("Origin: {ELSEWHERE}\r\n")).await;
    assert_eq!((joined.status, seen_by(&joined)), (200, Some("*")));
    // A page that may not see a refusal could not tell its reader what to do, nor when to come again.
    let request = format!("POST {votes} HTTP/1.1\r\nHost: plenum\r\nOrigin: {ELSEWHERE}\r\n\r\n");
    let refused = exchange(room.server.listen, request).await;
    assert_eq!((refused.status, seen_by(&refused)), (401, Some("*")));
    let shown = refused.header("access-control-expose-headers").unwrap_or_default();
    assert!(shown.contains("retry-after"), "{shown}");
}

#[tokio::test]
async fn what_presenters_do_is_not_for_pages_of_other_sites() {
    let room = Room::open().await;
    for (path, method) in [
        ("/v1/sessions".to_owned(), "POST"),
        (room.path(""), "PATCH"),
        (room.path("/polls"), "POST"),
        (room.path("/export"), "GET"),
    ] {
        let answer = preflight(&room, &path, method, ELSEWHERE).await;
        assert_eq!((answer.status, seen_by(&answer)), (405, None), "{path}");
    }
    let without_origin = join(&room, "").await;
    assert_eq!((without_origin.status, seen_by(&without_origin)), (200, None));
}

#[tokio::test]
async fn with_an_origin_list_only_pages_of_those_see_answers() {
    let room = Room::with(&["--allowed-origin", HERE]).await;
    let suffixed = format!("{HERE}.elsewhere.example");
    let own = Some("http://plenum"); // the Host of these requests
    for (origin, seen) in [
        (HERE, Some(HERE)),
        ("http://plenum", own),
        (ELSEWHERE, None),
        (&suffixed, None),
        ("null", None),
    ] {
        let answer = preflight(&room, "/v1/join", "POST", origin).await;
        assert_eq!((answer.status, seen_by(&answer)), (204, seen), "{origin}");
        assert_eq!(answer.header("access-control-allow-methods").is_some(), seen.is_some());
        let joined = join(&room, &format!("Origin: {origin}\r\n")).await;
        let status = if seen.is_some() { 200 } else { 403 };
        assert_eq!((joined.status, seen_by(&joined)), (status, seen), "{origin}");
        // Or a cache would hand one site's answer to another.
        assert_eq!(joined.header("vary"), Some("origin"), "{origin}");
    }
}

/// A browser beside the server would call for any page that its user looks at.
#[tokio::test]
async fn no_page_drains_an_instance_and_none_of_another_site_creates_sessions() {
    let mut room = Room::open().await;
    for line in ["Origin: https://elsewhere.example", "Sec-Fetch-Site: cross-site"] {
        let drain =
            format!("POST /drain HTTP/1.1\r\nHost: x\r\n{line}\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(exchange(room.server.ops, drain).await.status, 403, "{line}");
        let look = format!("GET /livez HTTP/1.1\r\nHost: x\r\n{line}\r\n\r\n");
        assert_eq!(exchange(room.server.ops, look).await.status, 200, "{line}");
    }
    let body = r#"{"title":"Theirs"}"#;
    for (origin, status) in
        [("https://elsewhere.example", 403), ("null", 403), ("http://plenum", 201)]
    {
        let create = format!(
            "POST /v1/sessions HTTP/1.1\r\nHost: plenum\r\nOrigin: {origin}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        assert_eq!(exchange(room.server.listen, create).await.status, status, "{origin}");
    }
    assert_eq!(room.server.ops_get("/readyz").await.status, 200);
    room.server.stop().await;
}
