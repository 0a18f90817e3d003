//! Client messages and bodies of REST: the server's reading of JSON against `serde_json`'s, field by field, and what is made of
//! it against a second opinion. What goes back to the client is read as well.
#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use plenum::domain::Timestamp;
use plenum::http::fuzzing;
use plenum::wire::json::{Object, Value};
use plenum::wire::{Code, inbound, outbound};
use plenum_fuzz::messages::{self, Refusal, agrees};
use serde_json::Value as Json;

fuzz_target!(|bytes: &[u8]| -> Corpus {
    let theirs = serde_json::from_slice::<Json>(bytes);
    let mut copy = bytes.to_vec();
    let ours = Object::parse(&mut copy);
    match (&ours, &theirs) {
        (Ok(object), Ok(Json::Object(fields))) => {
            let (ours, theirs) = (all(object, fields), theirs.as_ref().expect("read above"));
            assert!(agrees(&ours, theirs, 0), "{ours:?} and {theirs}");
        }
        (Ok(_), Ok(_)) => panic!("taken for an object, and it is none"),
        (Ok(_), Err(error)) => {
            assert!(too_much_for_them(bytes), "taken, and it is no JSON: {error}")
        }
        (Err(fault), theirs) => {
            assert_eq!((fault.code, fault.field), (Code::BadRequest, None));
            let refused = theirs.as_ref().is_ok_and(Json::is_object) && !too_much_for_us(bytes);
            assert!(!refused, "refused, and it is JSON");
        }
    }
    match (ours, theirs) {
        (Ok(_), Ok(Json::Object(fields))) => judged(bytes, &fields),
        _ => unread(bytes),
    }
    Corpus::Keep
});

/// Every field that either has, as one value.
fn all<'a>(object: &Object<'a>, fields: &'a serde_json::Map<String, Json>) -> Value<'a> {
    let field = |name: &'a String| Some((name.as_str(), object.get(name)?.clone()));
    Value::Object(fields.keys().filter_map(field).collect())
}

/// `serde_json` goes 127 levels deep, and takes no number beyond the largest of 64 bits.
fn too_much_for_them(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count() > 127
}

/// Numbers that no integer of 64 bits holds are refused unless they are written with a fraction or an exponent; so are exponents
/// that 32 bits do not hold.
fn too_much_for_us(bytes: &[u8]) -> bool {
    let digits = |bytes: &[u8]| bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let exponents = bytes.split(|byte| matches!(byte, b'e' | b'E')).skip(1);
    let mut unsigned = exponents.map(|after| match after {
        [b'+' | b'-', rest @ ..] => rest,
        _ => after,
    });
    bytes.split(|byte| !byte.is_ascii_digit()).any(|run| run.len() >= 19)
        || unsigned.any(|exponent| digits(exponent) >= 10)
}

fn judged(bytes: &[u8], fields: &serde_json::Map<String, Json>) {
    let bare = |(id, fault): inbound::VoteFault| (id, bare(&fault));
    let copy = || bytes.to_vec();
    let hello = inbound::hello(&mut copy());
    assert_eq!(hello, messages::hello(fields));
    let message = inbound::message(&mut copy());
    if let Err((id, fault)) = &message {
        let told = outbound::error(*id, fault, None);
        let told: Json = serde_json::from_str(&told).expect("what the server writes is JSON");
        assert_eq!(told["code"], fault.code.as_str());
    }
    assert_eq!(message.map_err(bare), messages::message(fields));
    let mut whole = copy();
    let object = Object::parse(&mut whole).expect("it was read a moment ago");
    assert_eq!(inbound::vote(&object).map_err(bare), messages::vote(fields));
    let draft = fuzzing::draft(&mut copy());
    assert_eq!(draft.ok(), messages::draft(fields));
    if let Ok(Some(Some(at))) = object.nullable_time("starts_at") {
        let shown = at.to_string();
        let again = Timestamp::parse(&shown).expect("a time that the server writes, it reads");
        assert_eq!((shown.len(), again.to_string()), (24, shown));
        assert!((at.0 - again.0).whole_milliseconds() == 0);
    }
}

fn bare(fault: &plenum::wire::Fault) -> Refusal {
    (fault.code, fault.field)
}

/// What is no object is no message either, whoever reads it.
fn unread(bytes: &[u8]) {
    if Object::parse(&mut bytes.to_vec()).is_err() {
        assert_eq!(inbound::hello(&mut bytes.to_vec()), Err(inbound::HelloFault::Malformed));
        let message = inbound::message(&mut bytes.to_vec());
        assert!(matches!(message, Err((None, fault)) if fault.code == Code::BadRequest));
        assert!(fuzzing::draft(&mut bytes.to_vec()).is_err());
    }
}
