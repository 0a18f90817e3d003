//! Protections that lie in SQL or in a setting of the connection, turned off one at a time where `PLENUM_MUTATION` names
//! one; those in Rust are in `src/mutation.rs`. Without the variable, nothing happens here.
//! Must never be the reason why a test fails that is not about the protection. Called by `server` alone.

/// The variable that names the protection to turn off.
pub(crate) const NAME: &str = "PLENUM_MUTATION";

/// A text of `sql/functions/`, and what stands in for it.
const FUNCTIONS: &[(&str, &str, &str)] = &[
    ("do_nothing_is_success", "WHEN v.id IS NOT NULL THEN 2", "WHEN v.id IS NOT NULL THEN 0"),
    ("poll_before_vote", "WHEN v.id = i.id THEN 1", "WHEN v.id = i.id AND p.state = 'open' THEN 1"),
    ("repeat_without_write", "PERFORM pg_logical_emit_message(true, 'plenum', 'repeat');", "NULL;"),
    ("close_without_lock", "ORDER BY p.session_id, p.n FOR SHARE OF p;", "ORDER BY 1;"),
    (
        "vote_replaces_vote",
        "ON CONFLICT DO NOTHING\n        RETURNING session_id, poll, answer",
        "ON CONFLICT (session_id, poll, participant) DO UPDATE SET answer = excluded.answer
        RETURNING session_id, poll, answer",
    ),
];

const VOTES: &str = include_str!("../../../sql/functions/40_votes.sql");

/// The name of the protection to turn off.
fn name() -> Option<String> {
    std::env::var(NAME).ok()
}

/// The address of the database, with the setting that the mutation is about.
pub(super) fn of_url(url: &str) -> String {
    match name().as_deref() {
        Some("commit_without_flush") => format!("{url}&options=-c%20synchronous_commit%3Doff"),
        _ => url.to_owned(),
    }
}

/// Replaces the function that the mutation is about.
pub(super) async fn of_functions(url: &str) {
    let name = name();
    let Some((_, from, to)) = FUNCTIONS.iter().find(|(of, ..)| name.as_deref() == Some(of)) else {
        return;
    };
    assert!(VOTES.contains(from), "the text that {name:?} replaces is no longer there");
    let sql = super::database::connect(url).await;
    sql.batch_execute(&VOTES.replace(from, to)).await.unwrap();
}
