//! Which request a log line belongs to: the id of a W3C trace, taken over from whoever calls if it is one, made here
//! otherwise, and handed on in the answer. Never repeats what a client sent: ids are read into numbers and written anew.
//! Called by `router.rs`.

use hyper::header::HeaderValue;

/// Where the ids travel, in both directions.
pub(super) const TRACEPARENT: &str = "traceparent";
/// Of version 00: `00-{trace}-{parent}-{flags}`.
const LENGTH: usize = 2 + 1 + 32 + 1 + 16 + 1 + 2;

/// The ids of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Trace {
    /// The same over all services that a request goes through.
    id: u128,
    /// This server's part of it.
    span: u64,
    /// Whether somebody records it; handed on as it came.
    sampled: bool,
}

impl Trace {
    /// Goes on with the trace that `header` names, or begins one.
    pub(super) fn begin(header: Option<&str>) -> Self {
        let (id, sampled) =
            header.and_then(read).unwrap_or_else(|| (uuid::Uuid::new_v4().as_u128(), false));
        let span = getrandom::u64().unwrap_or_default().max(1); // 0 is not allowed
        Self { id, span, sampled }
    }

    /// As logs name it.
    pub(super) fn id(self) -> String {
        format!("{:032x}", self.id)
    }

    /// For the answer.
    pub(super) fn header(self) -> Option<HeaderValue> {
        let text = format!("00-{:032x}-{:016x}-0{}", self.id, self.span, u8::from(self.sampled));
        HeaderValue::try_from(text).ok()
    }
}

/// The trace and whether it is sampled; `None` for what the recommendation calls invalid.
pub(super) fn read(header: &str) -> Option<(u128, bool)> {
    let lower = header.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'));
    let mut parts = header.split('-');
    let (version, id, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    // Later versions may add parts; version 00 may not, and ff is none.
    let known =
        version.len() == 2 && version != "ff" && (version != "00" || header.len() == LENGTH);
    if !lower || !known || (id.len(), parent.len(), flags.len()) != (32, 16, 2) {
        return None;
    }
    let id = u128::from_str_radix(id, 16).ok().filter(|id| *id != 0)?;
    u64::from_str_radix(parent, 16).ok().filter(|parent| *parent != 0)?;
    Some((id, u8::from_str_radix(flags, 16).ok()? & 1 == 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_trace_is_taken_over_with_a_span_of_its_own() {
        let trace = Trace::begin(Some(VALID));
        assert_eq!(trace.id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let header = trace.header().unwrap();
        let text = header.to_str().unwrap();
        assert!(text.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-") && text.ends_with("-01"));
        assert!(!text.contains("00f067aa0ba902b7"), "{text}");
        assert_eq!(text.len(), LENGTH);
    }

    #[test]
    fn what_is_no_trace_is_not_taken_over() {
        let long = format!("{VALID}-00");
        for bad in [
            "",
            "x",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            &long,
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        assert!(read(&long.replace("00-4b", "01-4b")).is_some(), "a later version may say more");
    }
}
