//! Protections that lie in SQL, turned off one at a time where `PLENUM_MUTATION` names
//! one; those in Rust are in `src/mutation.rs`. Without the variable, nothing happens here.
//! Must never be the reason why a test fails that is not about the protection. Called by `server` alone.

/// The variable that names the protection to turn off.
pub(crate) const NAME: &str = "PLENUM_MUTATION";

/// Texts of `sql/functions/40_votes.sql`, and what stands in for each.
type Swaps = &'static [(&'static str, &'static str)];

const NO_LOCK: (&str, &str) = ("ORDER BY p.session_id, p.n FOR SHARE OF p;", "ORDER BY 1;");

const FUNCTIONS: &[(&str, Swaps)] = &[
    // An option of the address would not do: the server's own setting comes after it.
    (
        "commit_without_flush",
        &[(
            "    PERFORM 1 FROM polls p\n",
            "    PERFORM set_config('synchronous_commit', 'off', true);\n    PERFORM 1 FROM polls p\n",
        )],
    ),
    (
        "do_nothing_is_success",
        &[("WHEN v.id IS NOT NULL AND p.n IS NOT NULL THEN 2", "WHEN v.id IS NOT NULL THEN 0")],
    ),
    (
        "vote_replaces_vote",
        &[(
            "ON CONFLICT DO NOTHING\n",
            "ON CONFLICT (session_id, poll, participant) DO UPDATE SET answer = excluded.answer\n",
        )],
    ),
    (
        "poll_before_vote",
        &[(
            "WHEN v.id = i.id AND p.n IS NOT NULL THEN 1",
            "WHEN v.id = i.id AND p.state = 'open' THEN 1",
        )],
    ),
    // The lock is a write as well: the message is there so that nothing depends on that.
    (
        "repeat_without_write",
        &[NO_LOCK, ("PERFORM pg_logical_emit_message(true, 'plenum', 'repeat');", "NULL;")],
    ),
    (
        "close_without_lock",
        &[NO_LOCK, ("PERFORM pg_advisory_xact_lock_shared(52031, g.gate)\n", "PERFORM 1\n")],
    ),
];

const VOTES: &str = include_str!("../../../sql/functions/40_votes.sql");

/// The name of the protection to turn off.
fn name() -> Option<String> {
    std::env::var(NAME).ok()
}

/// Replaces the function that the mutation is about.
pub(super) async fn of_functions(url: &str) {
    let name = name();
    let Some((_, swaps)) = FUNCTIONS.iter().find(|(of, _)| name.as_deref() == Some(of)) else {
        return;
    };
    let mut text = VOTES.to_owned();
    for (from, to) in *swaps {
        assert!(text.contains(from), "the text that {name:?} replaces is no longer there");
        text = text.replace(from, to);
    }
    super::database::connect(url).await.batch_execute(&text).await.unwrap();
}
