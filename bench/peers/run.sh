#!/usr/bin/env bash
# The same work on other servers and on Plenum, in turn, ROUNDS times; a table of medians at the end. Everything runs on this
# machine, on ports of its own, with one PostgreSQL that a Plenum started for the purpose runs. See docs/BENCHMARKS.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
rounds=${ROUNDS:-3}
only=${ONLY:-} # fanout, votes or burst; empty: all
root=$PWD/../..
target=${CARGO_TARGET_DIR:-$root/target}
work=$(mktemp -d)
chmod 755 "$work"
pids=()

finish() {
    for pid in ${pids[@]+"${pids[@]}"}; do kill "$pid" 2>/dev/null || true; done
    wait
    rm -rf "$work"
}
trap finish EXIT

say() { printf 'peers: %s\n' "$*" >&2; }

# Starts a command whose first line of output is its address; leaves $address and $pid.
start() {
    local log=$work/$1.log
    shift
    "$@" >"$log" 2>&1 &
    pid=$!
    pids+=("$pid")
    for _ in $(seq 200); do
        address=$(head -n 1 "$log")
        [ -z "$address" ] || return 0
        kill -0 "$pid" || { cat "$log" >&2; exit 1; }
        sleep 0.05
    done
    say "$1 does not start"
    exit 1
}

stop() {
    kill "$pid"
    wait "$pid" 2>/dev/null || true
}

CARGO_TARGET_DIR=$target/peers cargo build --release --locked
axum=$target/peers/release/axum-poll
driver=$target/peers/release/peer-driver
(cd node-ws && npm install --no-audit --no-fund --loglevel=error >&2)

say 'a PostgreSQL for the peers'
"$target/release/plenum" serve --log json --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --data-dir "$work/plenum" >/dev/null 2>"$work/plenum.log" &
pids+=($!)
until folder=$(sed -n 's/.*"database":"host=\([^ ]*\) .*/\1/p' "$work/plenum.log" | tr -d "'") && [ -n "$folder" ]; do sleep 0.1; done
export DATABASE_URL="postgres://plenum@localhost/plenum?host=$folder"

measure() { # name, what, url, publish url, count, events, in flight
    local name=$1 what=$2 line
    [ -z "$only" ] || [ "$only" = "$what" ] || return 0
    line=$("$driver" "$2" "$3" "$4" "$pid" "$5" "$6" "$7") || line='failed'
    printf '%s %s-%s-%s %s\n' "$name" "$what" "$5" "$7" "$line" | tee -a "$work/lines" >&2
}

all() { # name: fan-out, votes and bursts of a poll server that runs at $address
    local url=http://$address
    measure "$1" fanout "$url" "$url" 500 600 1
    measure "$1" fanout "$url" "$url" 500 1600 16
    measure "$1" votes "$url" "$url" 200 "$votes" 1
    measure "$1" votes "$url" "$url" 200 "$votes" 8
    measure "$1" burst "$url" "$url" 400 5 1
}

nchan() {
    local port folder=$work/nginx module
    mkdir -p "$folder" && chmod 777 "$folder"
    module=$(ls /usr/lib/nginx/modules/ngx_nchan_module.so)
    port=$((20000 + RANDOM % 10000))
    sed "s|@MODULE@|$module|; s|@FOLDER@|$folder|g; s|@PORT@|$port|" nchan.conf >"$folder/nginx.conf"
    nginx -c "$folder/nginx.conf" -e "$folder/error.log" &
    pid=$!
    pids+=("$pid")
    until (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; do sleep 0.1; done
    measure nchan fanout "http://127.0.0.1:$port" "http://127.0.0.1:$port/publish/v1/ws" 500 600 1
    measure nchan fanout "http://127.0.0.1:$port" "http://127.0.0.1:$port/publish/v1/ws" 500 1600 16
    stop
}

plenum() { # folder of the report, scenarios, further arguments; what its goals are is another matter
    local folder=$1 scenario=$2
    shift 2
    "$target/release/plenum-loadtest" load --scenario "$scenario" "$@" --out "$work/$folder" >/dev/null 2>&1 || true
}

for round in $(seq "$rounds"); do
    say "round $round of $rounds"
    votes=40
    start axum "$axum" && all axum && stop
    TUNED=1 start axum-tuned "$axum" && all axum-tuned && stop
    votes=20
    start node node node-ws/server.js && all node && stop
    nchan
    [ "$only" = burst ] || plenum "plenum-$round" fanout_500,flat_out --with rounds=1
    [ "$only" = burst ] || plenum "plenum-together-$round" fanout_500 --with rounds=1 --with in_flight=16 --with events=1600 --with timed_events=0
    plenum "plenum-burst-$round" burst
done
node table.js "$work" "$rounds"
