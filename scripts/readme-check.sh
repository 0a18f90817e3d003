#!/usr/bin/env bash
# Runs the README's walk-through as a reader would, block after block, and looks at what comes back, so that the page
# stays true. Starts a server of its own on free ports, with its own data, and stops it; or uses the one that is named.
#
#   scripts/readme-check.sh [http://127.0.0.1:8080]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

. scripts/scratch.sh readme-check

# What a reader would paste, in one shell. The one thing that differs from a reader: before it stops watching it waits until
# the watcher has shown the last event.
walk() {
    cat <<'EOT'
seen() { until grep -q '"kind":"poll.closed"' "$1"; do [ "$SECONDS" -lt 30 ] || return 1; done; }
EOT
    awk '/^<!-- walk ends/ { exit } /^<!-- walk:/ { inside = 1 } inside && /^```$/ { block = 0 } block { print }
         inside && /^```bash$/ { block = 1 }' README.md |
        sed -e "s|http://127.0.0.1:8080|$base|" -e "s|^kill |seen '$work/walk.log'; kill |"
}

expect() {
    grep -qF -- "$1" "$work/walk.log" || fail "not in the output: $1"
}

if [ $# -gt 0 ]; then base=${1%/}; else start_server --data-dir "$work/data"; fi
walk >"$work/walk.sh"
[ "$(grep -c curl "$work/walk.sh")" -ge 10 ] || fail 'the walk-through was not found in README.md'
bash -euo pipefail "$work/walk.sh" >"$work/walk.log" 2>"$work/errors.log"

for words in 'join code ' '"state":"draft"' '"state":"open"' '"type":"welcome"' '"repeat":false' '"repeat":true' \
    '"code":"already_voted"' '"kind":"poll.closed"' '"state":"closed"' '"counts":[0,1]' 'poll,vote_id,participant,answer,at'; do
    expect "$words"
done
echo "readme-check: every command of the README works"
