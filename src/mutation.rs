//! Protections that a test build can turn off one at a time, to prove that a named test sees each of them missing
//! (`make mutations`; the table is in docs/RELIABILITY.md). A build without `--cfg plenum_mutation` holds nothing of it: the
//! macro expands to nothing. Called by the few places that hold a protection.

/// Runs the statements only where the mutation of that name is asked for by `PLENUM_MUTATION`, in a test build.
#[cfg(plenum_mutation)]
macro_rules! mutation {
    ($name:literal, $($statements:tt)*) => {
        if std::env::var("PLENUM_MUTATION").is_ok_and(|name| name == $name) { $($statements)* }
    };
}

/// Nothing at all.
#[cfg(not(plenum_mutation))]
macro_rules! mutation {
    ($name:literal, $($statements:tt)*) => {};
}

pub(crate) use mutation;

/// Whether an event is newer than every event asked about before, whatever its session: where a tail that keeps one place in
/// the log of all sessions would go on.
#[cfg(plenum_mutation)]
pub(crate) fn is_newest(at: crate::domain::Timestamp) -> bool {
    static NEWEST: std::sync::Mutex<Option<time::OffsetDateTime>> = std::sync::Mutex::new(None);
    let mut newest = NEWEST.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let is_newest = newest.is_none_or(|newest| at.0 >= newest);
    *newest = (*newest).max(Some(at.0));
    is_newest
}
