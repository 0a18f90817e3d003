//! A session as it is stored, and its join code. What is live (participants, `last_seq`) or of one instance (`join_url`)
//! is added by `wire`.

use serde::{Deserialize, Serialize};

use super::{SessionId, Timestamp};

/// One live event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// What people type to join.
    pub code: Code,
    /// 1–300 code points.
    pub title: String,
    /// As stored; see [`Session::state_at`].
    pub state: SessionState,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it is to begin.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub starts_at: Option<Timestamp>,
    /// How many are expected; feeds the forecast of capacity.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub expected_participants: Option<i32>,
}

impl Session {
    /// A scheduled session is live from its time on, without anybody doing anything.
    #[must_use]
    pub fn state_at(&self, now: Timestamp) -> SessionState {
        match (self.state, self.starts_at) {
            (SessionState::Scheduled, Some(start)) if start <= now => SessionState::Live,
            (state, _) => state,
        }
    }
}

/// Where a session is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// It starts later.
    Scheduled,
    /// It runs.
    Live,
    /// It is over; votes are refused.
    Ended,
}

/// A join code: exactly eight decimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Code(String);

impl Code {
    /// Reads what a person typed: spaces and dashes are ignored.
    #[must_use]
    pub fn parse(typed: &str) -> Option<Self> {
        let digits: String = typed.chars().filter(|c| !matches!(c, ' ' | '-')).collect();
        (digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(Self(digits))
    }

    /// The eight digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::Code;

    #[test]
    fn a_code_is_eight_digits_whatever_the_spacing() {
        assert_eq!(Code::parse("1234 5678").as_ref().map(Code::as_str), Some("12345678"));
        assert_eq!(Code::parse("12-34-56-78").as_ref().map(Code::as_str), Some("12345678"));
        for bad in ["", "1234567", "123456789", "1234567a", "१२३४५६७८"] {
            assert!(Code::parse(bad).is_none(), "{bad}");
        }
    }
}
