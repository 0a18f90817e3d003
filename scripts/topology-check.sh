#!/usr/bin/env bash
# The first deployment of docs/OPERATING.md, "On one machine, from nothing": its blocks are run as they stand there, but for
# ports, in a folder of their own. It is the topology of deploy/compose.yml, from the same files: PostgreSQL, two instances,
# HAProxy, Prometheus. Then a vote goes in by the balancer; Prometheus sees both instances and evaluates the alerts; an instance
# is drained and the balancer serves on; every panel of the dashboards shows a number. Left out: Grafana itself.
set -euo pipefail
[ -n "${TOPOLOGY_TIMED:-}" ] || TOPOLOGY_TIMED=1 exec timeout 240 "$0" # the runbook's loops have no end of their own
cd "$(dirname "${BASH_SOURCE[0]}")/.."

root=$PWD
built=$PWD/${CARGO_TARGET_DIR:-target}/debug
work=$(mktemp -d)
chmod 755 "$work"
finish() {
    local status=$? pid
    for pid in $(jobs -p); do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ ! -f "$work/try/postgres/data/postmaster.pid" ] || scripts/postgres.sh stop "$work/try/postgres" || true
    [ "$status" -eq 0 ] || { echo 'topology: FAILED' >&2 && tail -n 15 "$work"/*.log "$work"/try/*.log >&2; }
    cd /
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

# Waits until a command succeeds; 20 s are the end.
until_true() {
    local what=$1 end=$((SECONDS + 20))
    shift
    until "$@"; do
        [ "$SECONDS" -lt "$end" ] || { echo "topology: not in time: $what" >&2 && return 1; }
        sleep 0.2
    done
}
is_free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
# The first four digits of three free ports that end with 0, 1 and 2.
free_ports() {
    local first
    while first=$((2000 + RANDOM % 1200)); do
        if is_free "${first}0" && is_free "${first}1" && is_free "${first}2"; then break; fi
    done
    echo "$first"
}
field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

# What an operator has before the first command: the source and what `make static` made, here of the debug build.
mkdir -p "$work/target/static"
cp -r deploy "$work/deploy"
sed -i 's/_interval: .*s$/_interval: 1s/' "$work/deploy/prometheus/prometheus.yml"
ln -s "$root/scripts" "$work/scripts"
ln -s "$built/plenum" "$work/target/static/plenum"
cd "$work"
listen=$(free_ports) ops=$(free_ports) agent=$(free_ports) front=$(free_ports)0 prometheus=$(free_ports)0
runbook() {
    scripts/runbook.sh "$1" | sed -e "s/\b800\([\$12]\)/$listen\1/g" -e "s/\b946\([\$12]\)/$ops\1/g" \
        -e "s/\b947\([\$12]\)/$agent\1/g" -e "s/\b8080\b/$front/g" -e "s/\b9090\b/$prometheus/g" >"$1.block"
    # shellcheck disable=SC1090 # as if it had been typed here
    . "./$1.block"
}
runbook try-database
runbook try-instances
mapfile -t instances <<<"$(jobs -p)"
runbook try-balancer
runbook try-prometheus
base=http://127.0.0.1:$front web=127.0.0.1:$prometheus
until_true 'HAProxy serves' curl -fsS -o /dev/null "$base/v1/openapi.json" 2>/dev/null
until_true 'Prometheus answers' curl -fsS -o /dev/null "http://$web/-/ready" 2>/dev/null
created=$(curl -fsS "$base/v1/sessions" -H "Authorization: Bearer $PLENUM_API_KEY" -d '{"title":"Topology"}')
session=$(field id <<<"$created") presenter=$(field presenter_token <<<"$created") code=$(field code <<<"$created")
curl -fsS -o /dev/null "$base/v1/sessions/$session/polls" -H "Authorization: Bearer $presenter" \
    -d '{"kind":"choice","question":"?","options":["a","b"]}'
curl -fsS -o /dev/null -X POST "$base/v1/sessions/$session/polls/1/open" -H "Authorization: Bearer $presenter"
vote() {
    local token
    token=$(curl -fsS "$base/v1/join" -d "{\"code\":\"$code\"}" | field token)
    curl -fsS -o /dev/null "$base/v1/sessions/$session/votes" -H "Authorization: Bearer $token" \
        -d "{\"id\":\"$(cat /proc/sys/kernel/random/uuid)\",\"poll\":1,\"answer\":{\"choices\":[1]}}"
}
for _ in 1 2 3 4; do vote; done

asks() { curl -fsS "http://$web/api/v1/query" --data-urlencode "query=$1" 2>/dev/null | grep -q "$2"; }
until_true 'Prometheus scrapes both instances' asks 'sum(up{job="plenum"})' '"2"'
until_true 'Prometheus counts the votes' asks 'sum(plenum_votes_total{outcome="accepted"})' '"4"'
until_true 'both instances know of each other' asks 'min(plenum_instances_seen)' '"2"'
until_true 'alerts are evaluated' asks 'count(ALERTS) or vector(0)' '"0"'
runbook try-look >look.log
for words in '"plenum-1"' '"plenum-2"' '"imbalance"' '"desired_instances"' '"2"]' '"presenter_token"'; do
    grep -q "$words" look.log || { echo "topology: not to be seen: $words" >&2 && cat look.log >&2 && exit 1; }
done

# People come, vote and are sent to the other instance while theirs is drained; nobody may notice.
"$built/plenum-loadtest" load --scenario tide --with 'levels=[[40, 1.0, 2.0], [60, 1.0, 9.0]]' \
    --url "$base" --out load >load.log 2>&1 &
load=$!
until_true 'votes are cast' asks 'sum(plenum_votes_total{outcome="accepted"}) > bool 60' '"1"'
kill -TERM "${instances[1]}"
wait "${instances[1]}"
wait "$load"
for _ in 1 2 3 4 5 6; do vote; done

# Every panel's query is one that Prometheus takes, and after what has happened each shows a number: a rate as soon as its
# series was scraped twice.
panels() {
    python3 - "http://$web" >panels.log <<'PY'
import glob, json, math, sys, urllib.parse, urllib.request
asked, empty = 0, []
for name in sorted(glob.glob("deploy/grafana/*.json")):
    for panel in json.load(open(name))["panels"]:
        for target in panel["targets"]:
            query = urllib.parse.urlencode({"query": target["expr"].replace("$instance", ".*")})
            with urllib.request.urlopen(f"{sys.argv[1]}/api/v1/query?{query}") as answer:
                found = json.load(answer)["data"]["result"]
            asked += 1
            if not any(math.isfinite(float(one["value"][1])) for one in found):
                empty.append(f"{name}, {panel['title']}: {target['expr']}")
print("\n".join(empty) or f"each of {asked} panel queries shows a number")
sys.exit(1 if empty else 0)
PY
}
until_true 'every panel shows a number' panels

until_true 'the lost instance is seen' asks 'count(up{job="plenum"} == 0)' '"1"'
runbook try-end
echo "topology: the runbook's blocks work as they stand; votes by $base, $(cat panels.log), alerts evaluated, one instance drained and none missed"
