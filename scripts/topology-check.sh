#!/usr/bin/env bash
# The topology of deploy/compose.yml without containers, from the same files: PostgreSQL, two instances, HAProxy with
# deploy/haproxy/haproxy.cfg, Prometheus with deploy/prometheus. A vote goes in by the balancer; Prometheus sees both instances
# and evaluates the alerts; then an instance is drained and the balancer serves on. Left out: Grafana, which Debian lacks.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

plenum=${PLENUM:-$PWD/${CARGO_TARGET_DIR:-target}/debug/plenum}
work=$(mktemp -d)
chmod 755 "$work"
started=()
finish() {
    local status=$?
    for pid in ${started[@]+"${started[@]}"}; do
        kill -KILL "$pid" 2>/dev/null || true
        wait "$pid" 2>/dev/null || true
    done
    [ ! -d "$work/postgres/data" ] || scripts/postgres.sh stop "$work/postgres" || true
    [ "$status" -eq 0 ] || { echo 'topology: FAILED' >&2 && tail -n 15 "$work"/*.log >&2; }
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
free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}
field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }

url=$(scripts/postgres.sh start "$work/postgres")
balancer=$(free_port)
for n in 1 2; do
    listen[n]=127.0.0.1:$(free_port)
    ops[n]=127.0.0.1:$(free_port)
    agent[n]=127.0.0.1:$(free_port)
    behind=(--trusted-proxy 127.0.0.1)
    [ ! -f deploy/haproxy/haproxy.cfg ] ||
        behind+=(--proxy-protocol --agent-listen "${agent[n]}" --drain-notice-seconds 4)
    PLENUM_API_KEY=topology "$plenum" serve --database-url "$url" --listen "${listen[n]}" --ops-listen "${ops[n]}" \
        --instance-id "plenum-$n" --log json --drain-seconds 6 "${behind[@]}" 2>"$work/plenum-$n.log" &
    instance[n]=$!
    started+=($!)
    until_true "plenum-$n is ready" "$plenum" health --ops-listen "${ops[n]}" 2>/dev/null
done

# HAProxy is given addresses by the variables that deploy/compose.yml sets; the ports differ, since all run on one host here.
if [ -f deploy/haproxy/haproxy.cfg ]; then
    PLENUM_1=${listen[1]} PLENUM_1_OPS_PORT=${ops[1]#*:} PLENUM_1_AGENT_PORT=${agent[1]#*:} \
        PLENUM_2=${listen[2]} PLENUM_2_OPS_PORT=${ops[2]#*:} PLENUM_2_AGENT_PORT=${agent[2]#*:} \
        PLENUM_BIND=127.0.0.1:$balancer PLENUM_SYSLOG=stderr PLENUM_HAPROXY_SOCKET="$work/haproxy.sock" PLENUM_HAPROXY_AS_CALLER=1 PLENUM_MAXCONN=500 \
        haproxy -f deploy/haproxy/haproxy.cfg 2>"$work/haproxy.log" &
    started+=($!)
    base=http://127.0.0.1:$balancer
    until_true 'HAProxy serves' curl -fsS -o /dev/null "$base/v1/openapi.json" 2>/dev/null
else
    echo 'topology: no deploy/haproxy/haproxy.cfg, so the instances are called directly'
    base=http://${listen[1]}
fi

# The one thing that differs for Prometheus is how it finds the instances: there is no DNS with both here.
web=127.0.0.1:$(free_port)
cp deploy/prometheus/alerts.yml "$work/"
sed '/dns_sd_configs/,$d' deploy/prometheus/prometheus.yml >"$work/prometheus.yml"
printf '    static_configs: [{targets: ["%s", "%s"]}]\n' "${ops[1]}" "${ops[2]}" >>"$work/prometheus.yml"
sed -i 's/_interval: .*s$/_interval: 1s/' "$work/prometheus.yml"
prometheus --config.file="$work/prometheus.yml" --storage.tsdb.path="$work/tsdb" --web.listen-address="$web" \
    >"$work/prometheus.log" 2>&1 &
started+=($!)

created=$(curl -fsS "$base/v1/sessions" -H 'Authorization: Bearer topology' -d '{"title":"Topology"}')
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
# People come, vote and are sent to the other instance while theirs is drained; nobody may notice.
if [ "$base" = "http://127.0.0.1:$balancer" ]; then
    PLENUM_API_KEY=topology "${plenum%/*}/plenum-loadtest" load --scenario tide --with 'levels=[[40, 1.0, 2.0], [60, 1.0, 9.0]]' \
        --url "$base" --out "$work/load" >"$work/load.log" 2>&1 &
    load=$!
    started+=($!)
    until_true 'votes are cast' asks 'sum(plenum_votes_total{outcome="accepted"}) > bool 60' '"1"'
    kill -TERM "${instance[2]}"
    wait "${instance[2]}"
    wait "$load"
    for _ in 1 2 3 4 5 6; do vote; done
else
    kill -TERM "${instance[2]}"
    wait "${instance[2]}"
fi

# Every panel's query is one that Prometheus takes, and after what has happened each shows a number: a rate as soon as its
# series was scraped twice.
panels() {
    python3 - "http://$web" >"$work/panels.log" <<'PY'
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
echo "topology: votes by $base, $(cat "$work/panels.log"), alerts evaluated, one instance drained and none missed"
