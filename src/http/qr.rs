//! QR codes as SVG: of a session's join link, for everybody; of the console's link with its token, for whoever brings that token
//! in a header, since the token must be in no address that a server sees. Called by `router.rs`.

use std::fmt::Write as _;
use std::sync::LazyLock;

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HOST, HeaderName};
use qrcode::{Color, EcLevel, QrCode};

use super::respond::{self, Answered};
use super::{pages, token};
use crate::auth::Token;
use crate::domain::Code as JoinCode;
use crate::limits::{HOST_BYTES_MAX, PICTURES_PER_SECOND};
use crate::wire::{Code, Fault};
use crate::ws::Edge;

/// Drawing is the dearest thing that needs no token.
static PICTURES: LazyLock<DefaultDirectRateLimiter> =
    LazyLock::new(|| RateLimiter::direct(Quota::per_second(PICTURES_PER_SECOND)));

/// Modules around the code that stay white, as the standard asks for.
const QUIET: usize = 4;
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// `/qr/{code}.svg`, or `/qr/remote.svg` with the presenter's token.
pub(super) fn answer(edge: &Edge, request: &Request<Incoming>) -> Answered {
    let name = request.uri().path().trim_start_matches("/qr/").strip_suffix(".svg");
    let base = base(edge, request);
    let link = match name {
        Some("remote") => {
            let given = token::bearer(request.headers()).unwrap_or_default();
            let Some(Token::Presenter { session, .. }) = edge.read_token(given) else {
                return Err(Fault::new(Code::InvalidToken, "the presenter's token is needed"));
            };
            format!("{base}/present#{session}/{given}")
        }
        Some(digits) => match JoinCode::parse(digits) {
            Some(_) if PICTURES.check().is_err() => {
                let fault =
                    Fault::new(Code::RateLimited, "too many pictures at once; wait a moment");
                return Err(fault.retry_after(1_000));
            }
            Some(code) => format!("{base}/j/{}", code.as_str()),
            None => return Err(nothing()),
        },
        None => return Err(nothing()),
    };
    let svg = svg(&link).ok_or_else(nothing)?;
    Ok(respond::with(200, "image/svg+xml", svg))
}

fn nothing() -> Fault {
    Fault::new(Code::NotFound, "there is nothing at this address")
}

/// What links begin with: what the operator said, or the address by which this very request came, for on a laptop in a hall
/// nobody sets one. It goes to whoever asked and is not cached, so a forged header fools its sender alone.
fn base(edge: &Edge, request: &Request<Incoming>) -> String {
    if let Some(url) = &edge.rules.public_url {
        return url.clone();
    }
    let headers = request.headers();
    let proto = pages::text(headers, &FORWARDED_PROTO);
    let scheme = if proto == "https" { "https" } else { "http" };
    let plain = |sign: char| sign.is_ascii_alphanumeric() || ".-:[]_".contains(sign);
    let host = pages::text(headers, &HOST);
    let fit = host.len() <= HOST_BYTES_MAX && host.chars().all(plain);
    let host = if fit { host } else { "" };
    format!("{scheme}://{host}")
}

/// One path of horizontal bars; level M survives a thumbprint on the lens and keeps the squares large.
fn svg(text: &str) -> Option<String> {
    let code = QrCode::with_error_correction_level(text, EcLevel::M).ok()?;
    let width = code.width();
    let size = width + 2 * QUIET;
    let mut path = String::new();
    for (row, colors) in code.to_colors().chunks(width).enumerate() {
        let mut at = 0;
        for run in colors.chunk_by(PartialEq::eq) {
            if run.first() == Some(&Color::Dark) {
                let (x, y, length) = (at + QUIET, row + QUIET, run.len());
                let _ = write!(path, "M{x} {y}h{length}v1h-{length}z");
            }
            at += run.len();
        }
    }
    Some(format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {size} {size}\" \
         shape-rendering=\"crispEdges\"><path fill=\"#fff\" d=\"M0 0h{size}v{size}H0z\"/>\
         <path d=\"{path}\"/></svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::svg;

    #[test]
    fn a_link_becomes_one_dark_path_on_white() {
        let svg = svg("https://plenum.example/j/12345678").unwrap();
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>"), "{svg}");
        // Version 3 has 29 modules a side; the first run is the top of the finder pattern.
        assert!(svg.contains("viewBox=\"0 0 37 37\"") && svg.contains("M4 4h7v1h-7z"), "{svg}");
    }

    #[test]
    fn what_fits_no_code_is_none() {
        assert!(svg(&"x".repeat(4_000)).is_none());
    }
}
