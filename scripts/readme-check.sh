#!/usr/bin/env bash
# Runs the README's walk-through as a reader would, block after block, and looks at what comes back, so that the page
# stays true. Starts a server of its own on free ports, with its own data, and stops it; or uses the one that is named.
#
#   scripts/readme-check.sh [http://127.0.0.1:8080]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
chmod 755 "$work" # PostgreSQL runs as another user where this runs as root
server_pid=

finish() {
    local status=$?
    if [ -n "$server_pid" ]; then
        kill -TERM "$server_pid" 2>/dev/null || true
        wait "$server_pid" || status=$?
    fi
    if [ "$status" -ne 0 ]; then
        echo "readme-check: FAILED" >&2
        for file in walk.out walk.err server.log; do
            [ ! -f "$work/$file" ] || sed "s/^/  $file: /" "$work/$file" >&2
        done
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

# Starts the server and reads its log until it says where it listens; from then on the log goes to a file.
start_server() {
    local binary=${CARGO_TARGET_DIR:-target}/debug/plenum line=
    mkfifo "$work/log"
    "$binary" serve --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --data-dir "$work/data" --log json --drain-seconds 0 \
        >"$work/server.out" 2>"$work/log" &
    server_pid=$!
    exec 3<"$work/log"
    until [[ $line == *'"message":"ready"'* ]]; do
        read -r -t 120 -u 3 line || {
            echo "readme-check: the server did not get ready" >&2
            exit 1
        }
        printf '%s\n' "$line" >>"$work/server.log"
    done
    cat <&3 >>"$work/server.log" &
    base=http://$(sed -n 's/.*"listen":"\([^"]*\)".*/\1/p' <<<"$line")
}

# What a reader would paste, in one shell. The one thing that differs from a reader: before it stops watching it waits until
# the watcher has shown the last event.
walk() {
    cat <<'EOT'
seen() { until grep -q '"kind":"poll.closed"' "$1"; do [ "$SECONDS" -lt 30 ] || return 1; done; }
EOT
    awk '/^<!-- walk ends/ { exit } /^<!-- walk:/ { inside = 1 } inside && /^```$/ { block = 0 } block { print }
         inside && /^```bash$/ { block = 1 }' README.md |
        sed -e "s|http://127.0.0.1:8080|$base|" -e "s|^kill |seen '$work/walk.out'; kill |"
}

expect() {
    grep -qF -- "$1" "$work/walk.out" || {
        echo "readme-check: not in the output: $1" >&2
        exit 1
    }
}

if [ $# -gt 0 ]; then base=${1%/}; else start_server; fi
walk >"$work/walk.sh"
[ "$(grep -c curl "$work/walk.sh")" -ge 10 ] || {
    echo "readme-check: the walk-through was not found in README.md" >&2
    exit 1
}
bash -euo pipefail "$work/walk.sh" >"$work/walk.out" 2>"$work/walk.err"

for words in 'join code ' '"state":"draft"' '"state":"open"' '"type":"welcome"' '"repeat":false' '"repeat":true' \
    '"code":"already_voted"' '"kind":"poll.closed"' '"state":"closed"' '"counts":[0,1]' 'poll,vote_id,participant,answer,at'; do
    expect "$words"
done
echo "readme-check: every command of the README works"
