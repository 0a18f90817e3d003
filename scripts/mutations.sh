#!/usr/bin/env bash
# Turns one protection off at a time, in a test build, and runs the test that is named for it: the test must fail. With no
# arguments all of them; otherwise those named. The table is in docs/RELIABILITY.md, made from the lines below.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# mutation, test that must fail without it. Those in Rust: src/mutation.rs. Those in SQL: tests/it/support/mutation.rs.
list='
ack_before_commit        protections::promise_1_no_ack_comes_while_the_vote_is_being_written
commit_without_flush     protections::promise_1_a_vote_acked_just_now_survives_kill_9_of_postgresql
do_nothing_is_success    promises::promise_1_no_accepted_vote_is_changed_by_another_one
vote_replaces_vote       promises::promise_1_no_accepted_vote_is_changed_by_another_one
poll_before_vote         faults::a_vote_retried_after_its_poll_closed_is_still_acked_as_repeat
new_name_on_retry        faults::a_commit_whose_answer_is_lost_is_retried_and_counted_once
repeat_without_write     protections::a_repeat_waits_for_the_standby_as_the_first_vote_did
warning_is_success       protections::a_vote_whose_wait_for_the_standby_was_cut_short_is_not_acked
close_without_lock       protections::promise_4_a_close_waits_for_the_vote_that_is_being_written
global_tail              protections::an_event_that_commits_late_is_delivered_all_the_same
notify_only_tail         cluster::a_lost_hint_costs_no_more_than_one_poll
replay_without_splice    protections::promise_5_an_event_published_during_a_replay_is_delivered
live_sessions_expire     erasing::ended_sessions_are_erased_when_their_time_is_over
down_at_once             scaling::the_number_falls_after_the_quiet_period_only
ready_while_leaving      lifecycle::a_draining_instance_is_not_ready_and_takes_nobody_in
reserved_bits_pass       ws_conformance::reserved_bits_and_opcodes_3_and_4
fragments_mix            ws_conformance::fragments_5
continues_nothing        ws_conformance::fragments_5
any_bytes_are_text       ws_conformance::utf_8_6
any_close_code           ws_conformance::closing_7
read_on_after_close      ws_conformance::closing_7
close_unanswered         ws_conformance::closing_7
gone_at_once             socket_frames::the_close_code_arrives_although_the_client_goes_on_sending
'
# The same, seen by the simulation (src/simulation/), whose seeds are tried one after another until one fails.
simulated='
ack_before_commit
new_name_on_retry
unknown_is_no
notify_only_tail
global_tail
replay_without_splice
welcome_from_behind
gap_is_taken
known_is_taken
any_history_is_lost
warning_is_success
oldest_results_win
old_history_stays
news_told_once
close_without_lock
'
seeds=simulation::whatever_a_seed_does_no_vote_is_lost_doubled_or_altered
list+=$(sed "/./s/$/ $seeds/" <<<"$simulated")

# Only the crates of this workspace are built anew: a wrapper adds the flag to them and to nothing else.
wrapper=$PWD/target/mutation-rustc
mkdir -p target
printf '#!/bin/sh\nexec "$@" --cfg plenum_mutation\n' >"$wrapper"
chmod +x "$wrapper"
export RUSTC_WORKSPACE_WRAPPER=$wrapper CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target}
built=$(cargo test --locked --lib --test it --no-run 2>&1 | tee /dev/stderr)
binary() { sed -n "s/.*Executable $1.*(\\(.*\\))$/\\1/p" <<<"$built"; }
units=$(binary unittests) tests=$(binary tests)

caught=0
missed=()
while read -r mutation test; do
    [ -n "$mutation" ] || continue
    [ $# -eq 0 ] || [[ " $* " == *" $mutation "* ]] || continue
    case $test in simulation::*) program=$units ;; *) program=$tests ;; esac
    output=$(PLENUM_MUTATION=$mutation "$program" --exact "$test" 2>&1) && status=0 || status=$?
    if [ "$status" -ne 0 ] && grep -q '0 passed; 1 failed' <<<"$output"; then
        printf 'caught  %-24s %s\n' "$mutation" "$test"
        grep -A1 -m1 -E 'panicked at (tests|src/simulation)' <<<"$output" | tail -n 1 | cut -c1-160 | sed 's/^/        /'
        caught=$((caught + 1))
    else
        printf 'MISSED  %-24s %s\n' "$mutation" "$test"
        missed+=("$mutation")
    fi
done <<<"$list"
printf '%d caught, %d missed\n' "$caught" "${#missed[@]}"
[ "$caught" -gt 0 ] && [ "${#missed[@]}" -eq 0 ]
