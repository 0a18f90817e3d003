//! Tokens: made and read here, and nowhere else. A participant's is signed and not stored; a presenter's is random, and
//! only its hash is stored; both say to which session they belong. Comparisons take the same time whatever they compare.
//! Never logs a token or a key. Used by `http` and `ws`; `store` makes the signing secret and epochs with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::domain::{ParticipantId, SessionId};

const PARTICIPANT: u8 = 1;
const PRESENTER: u8 = 2;
/// Kind, session, participant.
const SIGNED_BYTES: usize = 1 + 16 + 16;
const MAC_BYTES: usize = 32;
const SECRET_BYTES: usize = 32;

/// The hash of a presenter's secret, as it is stored.
pub type PresenterHash = [u8; 32];

/// What a well-formed token says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    /// Signed by us: it is what it says.
    Participant {
        /// Of which session.
        session: SessionId,
        /// Who.
        participant: ParticipantId,
    },
    /// Still to be compared with the hash that is stored for the session.
    Presenter {
        /// Of which session.
        session: SessionId,
        /// See [`same_hash`].
        hash: PresenterHash,
    },
}

/// Signs participants' tokens and checks them.
#[derive(Clone)]
pub struct Signer {
    key: Hmac<Sha256>,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// `secret`: any text; the same on all instances.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        let key = Hmac::new_from_slice(secret.as_bytes()).expect("HMAC takes a key of any length");
        Self { key }
    }

    /// The token of a participant.
    #[must_use]
    pub fn participant_token(&self, session: SessionId, participant: ParticipantId) -> String {
        let mut bytes = [0_u8; SIGNED_BYTES + MAC_BYTES];
        let (signed, mac) = bytes.split_at_mut(SIGNED_BYTES);
        write(signed, PARTICIPANT, session.0, participant.0.as_bytes());
        mac.copy_from_slice(&self.key.clone().chain_update(&*signed).finalize().into_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; `None` for whatever is not exactly one of ours.
    #[must_use]
    pub fn read(&self, token: &str) -> Option<Token> {
        if token.len() > 2 * (SIGNED_BYTES + MAC_BYTES) {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (head, rest) = bytes.split_first_chunk::<17>()?;
        let (kind, session) = head.split_first()?;
        let session = SessionId(Uuid::from_slice(session).ok()?);
        match *kind {
            PARTICIPANT => {
                let (participant, mac) = rest.split_first_chunk::<16>()?;
                let signed = bytes.get(..SIGNED_BYTES)?;
                self.key.clone().chain_update(signed).verify_slice(mac).ok()?;
                Some(Token::Participant {
                    session,
                    participant: ParticipantId(Uuid::from_bytes(*participant)),
                })
            }
            PRESENTER if rest.len() == SECRET_BYTES => {
                Some(Token::Presenter { session, hash: Sha256::digest(rest).into() })
            }
            _ => None,
        }
    }
}

fn write(into: &mut [u8], kind: u8, session: Uuid, rest: &[u8]) {
    let parts = [kind].into_iter().chain(*session.as_bytes()).chain(rest.iter().copied());
    into.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
}

/// A new presenter's token, and the hash of it to store.
///
/// # Errors
/// Where the operating system has no random bytes.
pub fn new_presenter_token(
    session: SessionId,
) -> Result<(String, PresenterHash), getrandom::Error> {
    let mut secret = [0_u8; SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    let mut bytes = [0_u8; 1 + 16 + SECRET_BYTES];
    write(&mut bytes, PRESENTER, session.0, &secret);
    Ok((URL_SAFE_NO_PAD.encode(bytes), Sha256::digest(secret).into()))
}

/// `BYTES` random bytes as text, for `settings` and epochs.
///
/// # Errors
/// Where the operating system has no random bytes.
pub fn random_text<const BYTES: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0_u8; BYTES];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// Eight random digits, each code as likely as any other.
///
/// # Errors
/// Where the operating system has no random bytes.
pub fn random_code() -> Result<String, getrandom::Error> {
    const CODES: u32 = 100_000_000;
    loop {
        let drawn = getrandom::u32()?;
        // The last, incomplete run of codes would favour the low ones.
        if drawn < u32::MAX - u32::MAX % CODES {
            return Ok(format!("{:08}", drawn % CODES));
        }
    }
}

/// Whether two hashes are the same, in constant time.
#[must_use]
pub fn same_hash(stored: &[u8], given: &PresenterHash) -> bool {
    stored.ct_eq(given).into()
}

/// Whether a key is the one configured, in constant time whatever its length.
#[must_use]
pub fn same_key(configured: &str, given: &str) -> bool {
    Sha256::digest(configured.as_bytes()).ct_eq(&Sha256::digest(given.as_bytes())).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_nothing_near_it_does() {
        let signer = Signer::new("secret");
        let (session, participant) = (SessionId(Uuid::now_v7()), ParticipantId(Uuid::now_v7()));
        let token = signer.participant_token(session, participant);
        assert_eq!(signer.read(&token), Some(Token::Participant { session, participant }));
        assert_eq!(Signer::new("other").read(&token), None);
        for at in 0..token.len() {
            let mut forged = token.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(signer.read(std::str::from_utf8(&forged).unwrap()), None, "byte {at}");
            assert_eq!(signer.read(&token[..at]), None, "cut at {at}");
        }
        assert_eq!(signer.read(&format!("{token}A")), None);
    }

    #[test]
    fn a_presenter_token_matches_its_own_hash_alone() {
        let signer = Signer::new("secret");
        let session = SessionId(Uuid::now_v7());
        let (token, stored) = new_presenter_token(session).unwrap();
        let Some(Token::Presenter { session: read, hash }) = signer.read(&token) else {
            panic!("not read")
        };
        assert_eq!(read, session);
        assert!(same_hash(&stored, &hash));
        let (other, _) = new_presenter_token(session).unwrap();
        let Some(Token::Presenter { hash, .. }) = signer.read(&other) else { panic!("not read") };
        assert!(!same_hash(&stored, &hash));
    }

    #[test]
    fn tokens_and_codes_use_their_alphabets() {
        let (token, _) = new_presenter_token(SessionId(Uuid::now_v7())).unwrap();
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        let code = random_code().unwrap();
        assert!(code.len() == 8 && code.bytes().all(|b| b.is_ascii_digit()));
    }
}
