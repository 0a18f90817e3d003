//! Cross-origin calls: pages of other sites may join, follow and vote over HTTP, as `plenum.js` does where no WebSocket gets
//! through, from the same origins that may open a WebSocket. Must never allow credentials of the browser's own (there are
//! none: tokens are sent by scripts), nor share a presenter's routes. Called by `router.rs`.

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, Response};

use super::respond::{self, Body};
use crate::ws::Rules;

/// What a participant calls.
const SHARED: [&str; 3] = ["/v1/join", "/v1/sessions/{id}/stream", "/v1/sessions/{id}/votes"];

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const ANY: HeaderValue = HeaderValue::from_static("*");
const SENT: HeaderValue =
    HeaderValue::from_static("authorization, content-type, last-event-id, traceparent");
const SHOWN: HeaderValue = HeaderValue::from_static("retry-after, traceparent");
/// Two hours: no browser remembers for longer.
const REMEMBERED_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// Who asks from where, of a request for a shared route.
pub(super) struct Visitor {
    /// What its page may be told that it is; `None`: the page may not see the answer.
    allowed: Option<HeaderValue>,
    /// Asks beforehand, what it may do.
    asks: bool,
}

impl Visitor {
    /// `None` where no other site is concerned: the route is not shared, or no page asks.
    pub(super) fn of(
        rules: &Rules,
        route: &str,
        method: &Method,
        headers: &HeaderMap,
    ) -> Option<Visitor> {
        let origin = headers.get(ORIGIN).filter(|_| SHARED.contains(&route))?;
        let allowed = match rules.allowed_origins.is_empty() {
            true => Some(ANY),
            false => Some(origin.clone()).filter(|_| rules.admits(headers)),
        };
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        Some(Visitor { allowed, asks })
    }

    /// Whether its page is one that may not connect. Its browser would keep the answer from it, but not the call from us.
    pub(super) const fn is_refused(&self) -> bool {
        self.allowed.is_none()
    }

    /// What may be done, where that is the question.
    pub(super) fn preflight(&self, methods: &[&str]) -> Option<Response<Body>> {
        let mut response = self.asks.then(respond::nothing)?;
        if self.allowed.is_some() {
            let methods = HeaderValue::from_str(&methods.join(", ")).ok()?;
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, SENT);
            headers.insert(ACCESS_CONTROL_MAX_AGE, REMEMBERED_SECONDS);
        }
        Some(response)
    }

    /// Lets the page see the answer, if it may.
    pub(super) fn mark(self, headers: &mut HeaderMap) {
        headers.append(VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = self.allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, SHOWN);
        }
    }
}

/// Whether a browser sends this for a page, whatever its site, and it is not only to look: operators have no pages.
pub(super) fn is_deed_of_a_page<B>(request: &Request<B>) -> bool {
    let site = request.headers().get(SEC_FETCH_SITE).is_some_and(|site| site != "none");
    request.method() != Method::GET && (site || request.headers().contains_key(ORIGIN))
}
