#!/usr/bin/env bash
# Asks the RustSec database whether any dependency has a known vulnerability, is yanked or is not maintained; each of these
# fails. Fetching the database needs cargo-deny, git and a network that reaches it, and is given up after a minute: then it
# exits 1 as well, or with --if-reachable says NOT CHECKED and exits 0, for CI where the network may be closed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seconds_max=60

not_checked() {
    printf 'audit: NOT CHECKED: %s\n' "$*"
    [ "$mode" = --if-reachable ] && exit 0
    exit 1
}

mode=${1:-}
command -v cargo-deny >/dev/null 2>&1 || not_checked 'cargo-deny is not installed (cargo install cargo-deny --locked)'
status=0
fetched=$(GIT_TERMINAL_PROMPT=0 timeout "$seconds_max" cargo deny --locked fetch db 2>&1) || status=$?
if [ "$status" -ne 0 ]; then
    printf '%s\n' "$fetched" | tail -n 5
    # Another fault, such as one in deny.toml, is no matter of the network.
    [ "$status" -eq 124 ] || grep -q 'failed to fetch database' <<<"$fetched" || exit 1
    not_checked 'advisory database not reachable'
fi
cargo deny --all-features --locked check --hide-inclusion-graph advisories
echo 'audit: no dependency has a known vulnerability'
