//! One moment as the protocol writes it: RFC 3339, UTC, exactly three decimals, `Z`. Used wherever a time is shown.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

/// A moment; shown in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp(pub OffsetDateTime);

impl Timestamp {
    /// The clock of this machine. Never compared with another machine's.
    #[must_use]
    pub fn now() -> Self {
        Self(OffsetDateTime::now_utc())
    }

    /// Reads RFC 3339 with any offset. `None` for anything else, and for years that its UTC form cannot show.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
        (1..=9999).contains(&at.year()).then_some(Self(at))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let shape = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        let utc = self.0.to_offset(UtcOffset::UTC);
        f.write_str(&utc.format(shape).map_err(|_| std::fmt::Error)?)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not an RFC 3339 time"))
    }
}

#[cfg(test)]
mod tests {
    use super::Timestamp;

    fn check(input: &str, expected: Option<&str>) {
        assert_eq!(
            Timestamp::parse(input).map(|at| at.to_string()).as_deref(),
            expected,
            "{input}"
        );
    }

    #[test]
    fn times_are_shown_in_utc_with_three_decimals() {
        check("2026-11-24T10:00:00Z", Some("2026-11-24T10:00:00.000Z"));
        check("2026-11-24T10:00:00.123456+02:00", Some("2026-11-24T08:00:00.123Z"));
        check("9999-12-31T23:59:59-01:00", None);
        check("0000-01-01T00:00:00Z", None);
        check("tomorrow", None);
    }
}
