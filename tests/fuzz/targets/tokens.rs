//! Tokens, join codes and cursors: what is read is exactly what was made, and nothing near it is.
#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use libfuzzer_sys::fuzz_target;
use plenum::auth::{Signer, Token, same_hash, same_key};
use plenum::domain::{Code, ParticipantId, SessionId};
use plenum::http::fuzzing;
use plenum_fuzz::Input;
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// The corpus holds tokens that this secret signed.
const SECRET: &str = "a secret of the corpus";

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    if input.byte() & 1 == 0 {
        let text = String::from_utf8_lossy(input.0);
        strangers(&text);
        typed(&text);
    } else {
        minted(&mut input);
    }
});

/// Whatever the server believes, it could have written: byte for byte, so that no token has two spellings.
fn strangers(text: &str) {
    let signer = Signer::new(SECRET);
    match signer.read(text) {
        Some(Token::Participant { session, participant }) => {
            assert_eq!(signer.participant_token(session, participant), text);
            assert_eq!(Signer::new("another secret").read(text), None);
        }
        Some(Token::Presenter { session, hash }) => {
            let bytes = URL_SAFE_NO_PAD.decode(text).expect("it was read");
            assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), text);
            assert_eq!(bytes.len(), 1 + 16 + 32);
            assert_eq!((bytes[0], &bytes[1..17]), (2, &session.0.as_bytes()[..]));
            assert_eq!(hash[..], Sha256::digest(&bytes[17..])[..]);
        }
        None => {}
    }
}

/// A token that was made reads back; one bit later, one sign more or less, it does not.
fn minted(input: &mut Input<'_>) {
    let session = SessionId(Uuid::from_bytes(input.array()));
    let participant = ParticipantId(Uuid::from_bytes(input.array()));
    let (at, flip) = (input.number(), 1 << (input.byte() & 7));
    let secret = String::from_utf8_lossy(input.0);
    let signer = Signer::new(&secret);
    let token = signer.participant_token(session, participant);
    assert_eq!(signer.read(&token), Some(Token::Participant { session, participant }));
    let mut forged = token.clone().into_bytes();
    let at = at % forged.len();
    forged[at] ^= flip;
    assert_eq!(signer.read(&String::from_utf8_lossy(&forged)), None, "bit {flip} of {at}");
    for near in [format!("{token}A"), format!("{token}="), format!(" {token}"), token[..at].into()]
    {
        assert_eq!(signer.read(&near), None, "{near}");
    }
    // HMAC fills short keys up with zeros, so a secret that ends in them is another's equal.
    if !secret.ends_with('\0') && secret != SECRET {
        assert_eq!(Signer::new(SECRET).read(&token), None);
    }
    assert!(same_key(&secret, &secret) && !same_key(&secret, &format!("{secret}x")));
    let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
    assert!(same_hash(&hash, &hash) && !same_hash(&hash[..31], &hash));
}

/// What a person types, and what a client hands back.
fn typed(text: &str) {
    let code = Code::parse(text);
    if let Some(code) = &code {
        assert!(
            code.as_str().len() == 8 && code.as_str().bytes().all(|sign| sign.is_ascii_digit())
        );
        assert_eq!(Code::parse(code.as_str()).as_ref(), Some(code));
        assert!(text.chars().all(|sign| " -0123456789".contains(sign)));
    }
    let signs = text.chars().filter(|sign| !matches!(sign, ' ' | '-'));
    assert_eq!(
        code.is_some(),
        signs.clone().count() == 8 && signs.clone().all(|sign| sign.is_ascii_digit())
    );
    if let Some(cursor) = fuzzing::cursor(text) {
        assert_eq!(fuzzing::cursor(&cursor).as_ref(), Some(&cursor));
    }
}
