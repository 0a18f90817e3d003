//! The web pages: files that `build.rs` packed and gzipped, found by path, answered with what keeps a page to itself (no inline
//! code, no third party, no frame). A page comes in the reader's language; its assets carry the version in their path and
//! are kept for good. Called by `router.rs`.

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_ENCODING, ACCEPT_LANGUAGE, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_ENCODING,
    CONTENT_SECURITY_POLICY, ETAG, HeaderMap, HeaderName, HeaderValue, IF_NONE_MATCH,
    REFERRER_POLICY, VARY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Request, Response, StatusCode};

use super::body;
use super::respond::{self, Answered, Body};
use crate::wire::{Code, Fault};

/// What people open and what their browsers fetch; not part of the API, so not in the OpenAPI document.
pub(super) const ROUTES: &[(&str, &[&str])] = &[
    ("/", &["GET"]),
    ("/j/{code}", &["GET"]),
    ("/present", &["GET"]),
    ("/screen", &["GET"]),
    ("/check", &["GET"]),
    ("/plenum.js", &["GET"]),
    ("/plenum.d.ts", &["GET"]),
    ("/assets/{version}/{name}", &["GET"]),
    ("/assets/{version}/lang/{name}", &["GET"]),
];

/// One file as it is sent.
pub(super) struct File {
    name: &'static str,
    kind: &'static str,
    etag: &'static str,
    plain: &'static [u8],
    gzip: &'static [u8],
}

mod made {
    use super::File;
    include!(concat!(env!("OUT_DIR"), "/web.rs"));
}

/// Scripts, styles and connections of this server alone. `blob:` is the picture of a QR code that was fetched with a token.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; \
     base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);
const PERMISSIONS: HeaderName = HeaderName::from_static("permissions-policy");
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Asked for again each time, and answered with 304 as long as it is the same.
const REVALIDATE: &str = "no-cache";
/// The path changes when the content does.
const FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// Answers the request for a page or one of its files.
pub(super) fn answer(request: &Request<Incoming>, route: &str) -> Answered {
    let path = request.uri().path();
    match route {
        "/" | "/j/{code}" => page(request, "join"),
        "/present" | "/screen" | "/check" => page(request, path.trim_start_matches('/')),
        "/plenum.js" | "/plenum.d.ts" => {
            let mut response = file(request, asset(path.trim_start_matches('/'))?, REVALIDATE);
            // Pages of others may import the client; it carries no secret.
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            Ok(response)
        }
        _ => versioned(request, path.trim_start_matches("/assets/")),
    }
}

/// `{version}/{name}`. While instances of two releases run side by side, a page of one may ask the other for its files: it gets
/// those that are here, and keeps them for no longer than the page.
fn versioned(request: &Request<Incoming>, rest: &str) -> Answered {
    let (version, name) = rest.split_once('/').unwrap_or_default();
    let cache = if version == made::VERSION { FOR_GOOD } else { REVALIDATE };
    Ok(file(request, asset(name)?, cache))
}

fn asset(name: &str) -> Result<&'static File, Fault> {
    made::ASSETS.iter().find(|file| file.name == name).ok_or_else(nothing)
}

fn nothing() -> Fault {
    Fault::new(Code::NotFound, "there is nothing at this address")
}

fn page(request: &Request<Incoming>, name: &str) -> Answered {
    let asked = body::query(request, "lang");
    let accepted = text(request.headers(), &ACCEPT_LANGUAGE);
    let variants = || made::PAGES.iter().filter(|(page, ..)| *page == name);
    let languages: Vec<&str> = variants().map(|(_, language, _)| *language).collect();
    let chosen = choose(asked.as_deref().unwrap_or_default(), &languages)
        .or_else(|| choose(accepted, &languages))
        .unwrap_or("en");
    let (.., page) = variants().find(|(_, language, _)| *language == chosen).ok_or_else(nothing)?;
    let mut response = file(request, page, REVALIDATE);
    let headers = response.headers_mut();
    headers.insert(VARY, HeaderValue::from_static("accept-encoding, accept-language"));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(
        PERMISSIONS,
        HeaderValue::from_static("camera=(), microphone=(), geolocation=(), payment=(), usb=()"),
    );
    Ok(response)
}

fn file(request: &Request<Incoming>, file: &'static File, cache: &'static str) -> Response<Body> {
    let gzip = accepts_gzip(text(request.headers(), &ACCEPT_ENCODING));
    let etag = format!("\"{}{}\"", file.etag, if gzip { "-gz" } else { "" });
    let known = text(request.headers(), &IF_NONE_MATCH);
    let same = known.split(',').any(|known| known.trim().trim_start_matches("W/") == etag);
    let mut response = match (same, gzip) {
        (true, _) => respond::nothing(),
        (false, true) => respond::with(200, file.kind, file.gzip),
        (false, false) => respond::with(200, file.kind, file.plain),
    };
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    if gzip && !same {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    if let Ok(etag) = HeaderValue::from_str(&etag) {
        headers.insert(ETAG, etag);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static(cache));
    headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

/// A header as text; empty where it is missing or no text.
pub(super) fn text<'h>(headers: &'h HeaderMap, name: &HeaderName) -> &'h str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// `gzip;q=0` means no; all other weights mean yes.
fn accepts_gzip(accepted: &str) -> bool {
    weighted(accepted).any(|(name, weight)| name.eq_ignore_ascii_case("gzip") && weight > 0.0)
}

/// The language among those here that the reader likes best; `de-AT` is served by `de`.
pub(super) fn choose(accepted: &str, languages: &[&'static str]) -> Option<&'static str> {
    let mut best: Option<(&'static str, f32)> = None;
    for (tag, weight) in weighted(accepted) {
        let primary = tag.split('-').next().unwrap_or_default();
        let known = languages.iter().find(|language| language.eq_ignore_ascii_case(primary));
        if let Some(language) = known
            && weight > best.map_or(0.0, |(_, weight)| weight)
        {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

/// `a, b;q=0.5` as names with weights.
fn weighted(list: &str) -> impl Iterator<Item = (&str, f32)> {
    list.split(',').map(|item| {
        let (name, rest) = item.split_once(';').unwrap_or((item, ""));
        let weight = rest.trim().strip_prefix("q=").and_then(|weight| weight.trim().parse().ok());
        (name.trim(), weight.unwrap_or(1.0))
    })
}

#[cfg(test)]
mod tests {
    use super::{accepts_gzip, choose, made};

    #[test]
    fn the_best_liked_language_that_is_here_is_chosen() {
        let here = ["de", "en"];
        for (accepted, chosen) in [
            ("de-AT,de;q=0.9,en;q=0.8", Some("de")),
            ("fr, en;q=0.3, de;q=0.7", Some("de")),
            ("EN", Some("en")),
            ("de;q=0, en;q=0.1", Some("en")),
            ("fr", None),
            ("", None),
            (";;,q=,-", None),
        ] {
            assert_eq!(choose(accepted, &here), chosen, "{accepted}");
        }
    }

    #[test]
    fn gzip_is_sent_to_whoever_takes_it() {
        for (accepted, yes) in [
            ("gzip", true),
            ("br, GZIP;q=0.5", true),
            ("gzip;q=0", false),
            ("br", false),
            ("", false),
        ] {
            assert_eq!(accepts_gzip(accepted), yes, "{accepted}");
        }
    }

    #[test]
    fn every_page_is_there_in_every_language() {
        for page in ["join", "present", "screen", "check"] {
            for language in ["de", "en"] {
                let found = made::PAGES.iter().any(|(p, l, _)| *p == page && *l == language);
                assert!(found, "{page} {language}");
            }
        }
    }
}
