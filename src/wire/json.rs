//! JSON from the network, read in place: one object, its fields by name, the last of two equal names. Flat walking over
//! simd-json's tape, so that nothing recurses on what a client sent. Every accessor answers with a [`Fault`] that names
//! the field and never what stood in it. Used by `inbound.rs` and the REST handlers.

use simd_json::{Node, StaticNode};

use super::{Code, Fault};
use crate::domain::Timestamp;

/// One JSON object.
#[derive(Debug)]
pub struct Object<'a> {
    fields: Vec<(&'a str, Value<'a>)>,
}

/// One value in it.
#[derive(Clone, Debug)]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number that fits.
    Int(i64),
    /// Any other number.
    Number,
    /// Text.
    Text(&'a str),
    /// An array, item by item.
    Array(Vec<Value<'a>>),
    /// An object.
    Object(Vec<(&'a str, Value<'a>)>),
    /// Deeper than anything that this protocol reads.
    Deep,
}

/// Objects in objects in arrays: `{"answer":{"choices":[1]}}` is the deepest there is.
const DEPTH_MAX: usize = 3;

impl<'a> Object<'a> {
    /// Reads one object from the whole of `bytes`.
    ///
    /// # Errors
    /// `bad_request` for what is not JSON, not UTF-8, or no object.
    pub fn parse(bytes: &'a mut [u8]) -> Result<Self, Fault> {
        if bytes.is_empty() {
            return Err(Fault::new(Code::BadRequest, "a JSON object is expected"));
        }
        let invalid = || Fault::new(Code::BadRequest, "this is not valid JSON");
        // simd-json lets a zero byte after a number pass, where JSON has no place for one.
        if bytes.contains(&0) || !surrogates_are_paired(bytes) || !long_numbers_fit(bytes) {
            return Err(invalid());
        }
        let tape = simd_json::to_tape(bytes).map_err(|_| invalid())?;
        let mut nodes = tape.0.into_iter();
        match value(&mut nodes, 0) {
            Some(Value::Object(fields)) => Ok(Self { fields }),
            _ => Err(Fault::new(Code::BadRequest, "a JSON object is expected")),
        }
    }

    /// The value of `name`; `None` where it is left out.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        last(&self.fields, name)
    }

    /// Text, or nothing where the field is left out.
    ///
    /// # Errors
    /// `unprocessable` where it is something else.
    pub fn optional_text(&self, name: &'static str) -> Result<Option<&'a str>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Text(text)) => Ok(Some(text)),
            Some(_) => Err(Fault::field(name, "this must be text")),
        }
    }

    /// Text that must be there.
    ///
    /// # Errors
    /// `unprocessable` where it is not.
    pub fn text(&self, name: &'static str) -> Result<&'a str, Fault> {
        self.optional_text(name)?.ok_or_else(|| Fault::field(name, "this is required"))
    }

    /// Words for people: 1 to `chars_max` code points, no U+0000, kept exactly.
    ///
    /// # Errors
    /// `unprocessable` where it is not so.
    pub fn words(&self, name: &'static str, chars_max: usize) -> Result<&'a str, Fault> {
        words(name, self.text(name)?, chars_max)
    }

    /// A list of words for people.
    ///
    /// # Errors
    /// `unprocessable` where it is no list, or an item is at fault.
    pub fn list_of_words(
        &self,
        name: &'static str,
        chars_max: usize,
    ) -> Result<Vec<String>, Fault> {
        let Some(Value::Array(items)) = self.get(name) else {
            return Err(Fault::field(name, "this must be a list of texts"));
        };
        items
            .iter()
            .map(|item| match item {
                Value::Text(text) => words(name, text, chars_max).map(ToOwned::to_owned),
                _ => Err(Fault::field(name, "this must be a list of texts")),
            })
            .collect()
    }

    /// A whole number from `min` to `max`, or nothing where the field is left out.
    ///
    /// # Errors
    /// `unprocessable` where it is something else.
    pub fn optional_int(
        &self,
        name: &'static str,
        min: i64,
        max: i64,
    ) -> Result<Option<i64>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Int(number)) if (min..=max).contains(number) => Ok(Some(*number)),
            Some(_) => {
                Err(Fault::field(name, format!("this must be a whole number from {min} to {max}")))
            }
        }
    }

    /// A time, `None` where the field is left out, `Some(None)` where it is null.
    ///
    /// # Errors
    /// `unprocessable` where it is something else.
    pub fn nullable_time(&self, name: &'static str) -> Result<Option<Option<Timestamp>>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Null) => Ok(Some(None)),
            Some(Value::Text(text)) => match Timestamp::parse(text) {
                Some(at) => Ok(Some(Some(at))),
                None => Err(Fault::field(name, "this must be a time like 2026-11-24T10:00:00Z")),
            },
            Some(_) => Err(Fault::field(name, "this must be a time like 2026-11-24T10:00:00Z")),
        }
    }
}

/// The last of the fields called `name`.
#[must_use]
pub fn last<'v, 'a>(fields: &'v [(&'a str, Value<'a>)], name: &str) -> Option<&'v Value<'a>> {
    fields.iter().rev().find(|(field, _)| *field == name).map(|(_, value)| value)
}

/// Whether every escaped surrogate stands in a pair. simd-json 0.17 lets a lone one through and makes text of it that is not
/// UTF-8.
fn surrogates_are_paired(bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at..).unwrap_or_default();
        let taken = match (escaped(rest), rest.get(6..).and_then(escaped)) {
            (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
            (Some(0xD800..=0xDFFF), _) => return false,
            (Some(_), _) => 6,
            (None, _) => 2,
        };
        rest = rest.get(taken..).unwrap_or_default();
    }
    true
}

/// The number in `\uXXXX` at the beginning of `bytes`.
fn escaped(bytes: &[u8]) -> Option<u32> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether long numbers are numbers, and end where JSON lets them. simd-json 0.17 looks at what follows a number, but not where
/// that has 19 digits and more. Looks at every 19th byte, since such a number lies over one of them; where one is, which text
/// and ids can be as well, another reader judges the whole, once.
fn long_numbers_fit(bytes: &[u8]) -> bool {
    const LONG: usize = 19;
    let in_number = |at: &usize| {
        let sign = bytes.get(*at).copied().unwrap_or_default();
        sign.is_ascii_digit() || matches!(sign, b'.' | b'e' | b'E' | b'+' | b'-')
    };
    let mut at = LONG - 1;
    while at < bytes.len() {
        let before = (0..at).rev().take_while(in_number).count();
        let after = (at..bytes.len()).take_while(in_number).count();
        if after > 0 && before + after >= LONG {
            return serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok();
        }
        at += after + LONG;
    }
    true
}

fn words<'a>(name: &'static str, text: &'a str, chars_max: usize) -> Result<&'a str, Fault> {
    if text.contains('\0') {
        return Err(Fault::field(name, "the character U+0000 is not allowed"));
    }
    // A code point has at most four bytes, so most texts need not be counted.
    let fits = text.len() <= chars_max || text.chars().take(chars_max + 1).count() <= chars_max;
    if text.is_empty() || !fits {
        return Err(Fault::field(name, format!("this must have 1 to {chars_max} characters")));
    }
    Ok(text)
}

/// `3.0` and `3e0` are the number 3: JSON knows no integers, and JSON Schema calls every number without a fraction one.
#[expect(clippy::cast_possible_truncation, reason = "it has no fraction and lies within 2^53")]
fn whole(number: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && number.abs() <= EXACT_MAX).then_some(number as i64)
}

/// One value off the tape. Recurses at most [`DEPTH_MAX`] deep; what lies deeper is skipped by count.
fn value<'a>(nodes: &mut std::vec::IntoIter<Node<'a>>, depth: usize) -> Option<Value<'a>> {
    Some(match nodes.next()? {
        Node::String(text) => Value::Text(text),
        Node::Static(StaticNode::Null) => Value::Null,
        Node::Static(StaticNode::Bool(_)) => Value::Bool,
        Node::Static(StaticNode::I64(number)) => Value::Int(number),
        Node::Static(StaticNode::U64(number)) => {
            i64::try_from(number).map_or(Value::Number, Value::Int)
        }
        Node::Static(StaticNode::F64(number)) => whole(number).map_or(Value::Number, Value::Int),
        Node::Object { count, .. } | Node::Array { count, .. } if depth == DEPTH_MAX => {
            if count > 0 {
                nodes.nth(count - 1);
            }
            Value::Deep
        }
        Node::Array { len, .. } => {
            let mut items = Vec::with_capacity(len);
            for _ in 0..len {
                items.push(value(nodes, depth + 1)?);
            }
            Value::Array(items)
        }
        Node::Object { len, .. } => {
            let mut fields = Vec::with_capacity(len);
            for _ in 0..len {
                let Node::String(name) = nodes.next()? else { return None };
                fields.push((name, value(nodes, depth + 1)?));
            }
            Value::Object(fields)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Result<(), Code> {
        Object::parse(&mut text.as_bytes().to_vec()).map(|_| ()).map_err(|fault| fault.code)
    }

    #[test]
    fn of_two_equal_names_the_last_wins() {
        let mut bytes = br#"{"a":1,"b":[{"c":{"d":[[1]]}}],"a":2}"#.to_vec();
        let object = Object::parse(&mut bytes).unwrap();
        assert_eq!(object.optional_int("a", 0, 9), Ok(Some(2)));
        assert!(matches!(object.get("b"), Some(Value::Array(_))));
    }

    #[test]
    fn a_number_without_a_fraction_is_whole_however_it_is_written() {
        for (text, read) in [
            ("3.0", Some(3)),
            ("3e0", Some(3)),
            ("0.3e1", Some(3)),
            ("-0.0", Some(0)),
            ("3.5", None),
            ("1e-1", None),
            ("9007199254740994.0", None),
            ("1e300", None),
        ] {
            let mut bytes = format!("{{\"a\":{text}}}").into_bytes();
            let object = Object::parse(&mut bytes).unwrap();
            assert_eq!(object.optional_int("a", -9, 9).ok().flatten(), read, "{text}");
        }
    }

    #[test]
    fn what_is_no_json_object_is_a_bad_request() {
        let deep = "[".repeat(100_000);
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(60_000), "]".repeat(60_000));
        for text in [
            "",
            " ",
            "{",
            "{\"a\":2\0}",
            "[]",
            "1",
            "null",
            "\"x\"",
            "{} {}",
            "{}x",
            "{\"a\":1,}",
            "{'a':1}",
            "{\"a\":01}",
            "{\"a\":1844674407370955161P}",
            "{\"a\":12345678901234567890.5x}",
            "{\"a\":1.2345678901234567890123e5P}",
            "{\"a\":[-1234567890123456789\u{e9}]}",
            "{\"a\":-9223372036854775808.1e-70.5}",
            "{\"a\":1234567890123456789-5}",
            "{\"a\":\"\\ud800\"}",
            "{\"a\":\"\\udc00\"}",
            "{\"a\":\"\\ud800\\u0041\"}",
            "{\"a\":\"\n\"}",
            "{\"a\":99999999999999999999999}",
            deep.as_str(),
        ] {
            assert_eq!(
                code(text),
                Err(Code::BadRequest),
                "{}",
                text.chars().take(40).collect::<String>()
            );
        }
        assert_eq!(code(&nested), Ok(()));
        assert!(Object::parse(&mut b"{\"a\":\"\xff\"}".to_vec()).is_err());
        assert_eq!(code("{\"a\":\"12345678901234567890x\",\"b\":1844674407370955161 }"), Ok(()));
        assert_eq!(code("{\"a\":\"\\\\ud800 \\ud83d\\ude00 \\u00e9\"}"), Ok(()));
    }

    #[test]
    fn words_are_counted_in_code_points_and_kept_exactly() {
        let check = |text: &str, max: usize| words("title", text, max).map(str::len).ok();
        assert_eq!(check("ééé", 3), Some(6));
        assert_eq!(check("éééé", 3), None);
        assert_eq!(check("", 3), None);
        assert_eq!(check("a\0", 3), None);
        assert_eq!(check(" a ", 3), Some(3));
    }
}
