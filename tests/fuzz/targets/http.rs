//! Paths, queries and headers: what the router finds is what the path says, what a query holds is what a form wrote, and a
//! proxy's header names the client that it has in it. The first byte of an input says which of them the rest is.
#![no_main]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hyper::Uri;
use hyper::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use plenum::http::{ROUTES, fuzzing};
use plenum_fuzz::Input;

const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
const BLOCK: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    match input.byte() & 7 {
        0 | 1 => {
            // As hyper reads a request line.
            if let Ok(uri) = Uri::try_from(input.0) {
                path(uri.path());
                query(uri.query().unwrap_or_default());
            }
        }
        2 => written_path(&mut input),
        3 => written_query(&mut input),
        4 => headers(input.0),
        5 => proxied(input.0),
        _ => written_block(&mut input),
    }
});

/// A path that was found has the shape of its route, and what was read out of it stands in it.
fn path(path: &str) {
    let Some((route, session, poll)) = fuzzing::route(path) else {
        let fixed = |route: &str| !route.contains('{') && route == path;
        assert!(!ROUTES.iter().any(|(route, _)| fixed(route)), "{path}");
        return;
    };
    let (wanted, given): (Vec<_>, Vec<_>) = (route.split('/').collect(), path.split('/').collect());
    assert_eq!(wanted.len(), given.len(), "{path} is no {route}");
    for (wanted, given) in wanted.into_iter().zip(given) {
        match wanted {
            "{id}" => assert_eq!(given.to_ascii_lowercase(), session.to_string()),
            "{n}" => {
                assert!(given.bytes().all(|sign| sign.is_ascii_digit()), "{given}");
                let digits = given.trim_start_matches('0');
                assert_eq!(poll.to_string(), if digits.is_empty() { "0" } else { digits });
            }
            "{code}" | "{version}" | "{name}" => {}
            _ => assert_eq!(wanted, given),
        }
    }
}

fn query(query: &str) {
    for name in ["after", "token", "lang", "cursor", "limit"] {
        let value = fuzzing::query(query, name);
        assert!(value.is_none() || query.len() >= name.len(), "{query}");
        if let Some(number) = value.as_deref().and_then(|text| fuzzing::int(text, 0)) {
            assert!(number >= 0);
        }
        if let Some(cursor) = value.as_deref().and_then(fuzzing::cursor) {
            assert_eq!(fuzzing::cursor(&cursor).as_ref(), Some(&cursor));
        }
    }
}

/// Every route with anything in its places: it is found if they hold what belongs there, and no other route is.
fn written_path(input: &mut Input<'_>) {
    let (route, _) = ROUTES[usize::from(input.byte()) % ROUTES.len()];
    let id = uuid::Uuid::from_bytes(input.array());
    let poll = input.line();
    let path = route.replace("{id}", &id.to_string()).replace("{n}", poll);
    let fits = !poll.is_empty()
        && poll.bytes().all(|sign| sign.is_ascii_digit())
        && poll.parse::<i32>().is_ok();
    let found = fuzzing::route(&path);
    // Other spellings of the same id are no address: one session, one path.
    for other in [id.simple().to_string(), id.braced().to_string(), id.urn().to_string()] {
        let path = route.replace("{id}", &other).replace("{n}", "1");
        assert!(!route.contains("{id}") || fuzzing::route(&path).is_none(), "{path}");
    }
    match route.contains("{n}") {
        // With a slash in it, it can be the path of another route.
        true if poll.contains('/') => {}
        true => assert_eq!(found.map(|(found, ..)| found), fits.then_some(route), "{path}"),
        false => assert_eq!(found.map(|(found, ..)| found), Some(route), "{path}"),
    }
    if let Some((_, session, number)) = found.filter(|_| route.contains("{id}")) {
        assert_eq!(session.0, id);
        assert!(!route.contains("{n}") || !fits || poll.parse() == Ok(number.0));
    }
}

/// Pairs that are written as RFC 3986 and forms say read back, and of two equal names the last one.
fn written_query(input: &mut Input<'_>) {
    let mut text = String::new();
    let mut last = None;
    while !input.0.is_empty() && text.len() < 4_096 {
        let (style, value) = (input.byte(), input.line());
        let named = style & 1 == 0;
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(if named { "token=" } else { "other=" });
        for byte in value.bytes() {
            match byte {
                b' ' if style & 2 == 0 => text.push('+'),
                _ if byte.is_ascii_alphanumeric() && style & 4 == 0 => text.push(char::from(byte)),
                _ => text.push_str(&format!("%{byte:02x}")),
            }
        }
        if named {
            last = Some(value);
        }
    }
    assert_eq!(fuzzing::query(&text, "token").as_deref(), last);
}

fn headers(bytes: &[u8]) {
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        headers.insert(AUTHORIZATION, value);
    }
    if let Some(token) = fuzzing::bearer(&headers) {
        let text = std::str::from_utf8(bytes).expect("tokens are text");
        assert!(text[..7].eq_ignore_ascii_case("bearer ") && text[7..].trim() == token);
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some((trace, sampled)) = fuzzing::trace(text) {
        assert_eq!(text[3..35], format!("{trace:032x}"));
        assert!(trace != 0 && !text.starts_with("ff"));
        assert_eq!(sampled, u8::from_str_radix(&text[53..55], 16).expect("read before") & 1 == 1);
    }
    let language = fuzzing::language(text, &["de", "en"]);
    let named = |language: &str| text.to_ascii_lowercase().contains(language);
    assert!(language.is_none_or(named), "{text}");
}

/// Whatever is believed of a proxy's header, a strict reading of its text or bytes finds as well.
fn proxied(bytes: &[u8]) {
    // As it comes off a socket: a line ends with its first break, and is not longer than the standard allows.
    let line = bytes
        .iter()
        .take(107)
        .position(|byte| *byte == b'\n')
        .map_or(&[][..], |end| &bytes[..=end]);
    let bytes = if bytes.starts_with(BLOCK) { bytes } else { line };
    let Some(client) = fuzzing::proxied(bytes, PROXY) else { return };
    if let Some(rest) = bytes.strip_prefix(BLOCK) {
        let expected = match (rest[0], rest[1] >> 4) {
            (0x20, _) | (0x21, 0) => PROXY,
            (0x21, 1) => Ipv4Addr::from(<[u8; 4]>::try_from(&rest[4..8]).expect("four")).into(),
            (0x21, 2) => {
                Ipv6Addr::from(<[u8; 16]>::try_from(&rest[4..20]).expect("16")).to_canonical()
            }
            other => panic!("{other:x?} is no command and family"),
        };
        assert_eq!(client, expected);
        return;
    }
    let text = std::str::from_utf8(bytes).expect("a line is text");
    let line = text.strip_suffix("\r\n").expect("a line ends");
    assert!(!line.contains(['\r', '\n']) && line.len() <= 105, "{line:?}");
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => assert_eq!(client, PROXY),
        ["PROXY", family @ ("TCP4" | "TCP6"), from, to, from_port, to_port] => {
            let from: IpAddr = from.parse().expect("an address");
            let to: IpAddr = to.parse().expect("an address");
            assert!(from.is_ipv4() == (family == "TCP4") && from.is_ipv4() == to.is_ipv4());
            assert!(from_port.parse::<u16>().is_ok() && to_port.parse::<u16>().is_ok());
            assert_eq!(client, from.to_canonical());
        }
        _ => panic!("{line:?}"),
    }
}

/// A block with a client in it names that client, whatever is added behind the addresses.
fn written_block(input: &mut Input<'_>) {
    let (six, from) = (input.byte() & 1 == 1, input.array::<16>());
    let family = if six { 0x21 } else { 0x11 };
    let addresses = if six { 36 } else { 12 };
    let mut body = from[..if six { 16 } else { 4 }].to_vec();
    body.resize(addresses, 7);
    body.extend(input.bytes(900));
    let mut block = BLOCK.to_vec();
    block.extend([0x21, family]);
    block.extend((body.len() as u16).to_be_bytes());
    block.extend(&body);
    let client = match six {
        true => Ipv6Addr::from(from).to_canonical(),
        false => Ipv4Addr::from(<[u8; 4]>::try_from(&from[..4]).expect("four")).into(),
    };
    assert_eq!(fuzzing::proxied(&block, PROXY), Some(client));
}
