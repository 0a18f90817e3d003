#!/usr/bin/env bash
# What a vote and a delivery cost with 1, 2, 4 and 10 instances, the same work on each (loadtest/scenarios/growth.toml), as
# ratios to one instance; and how many statements a second the database runs when all of them idle with watched sessions.
# Prints the table of docs/CAPACITY.md. Needs release binaries (make loadtest builds them), curl and psql.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
chmod 755 "$work"
pids=()
finish() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do kill -TERM "$pid" 2>/dev/null && wait "$pid" || true; done
    [ ! -d "$work/postgres/data" ] || scripts/postgres.sh stop "$work/postgres" || true
    rm -rf "$work"
}
trap finish EXIT
PATH=$(scripts/postgres.sh bin):$PATH

figure() { # report, key
    python3 - "$1" "$2" <<'PYTHON'
import json, statistics, sys
figures = json.load(open(sys.argv[1]))["findings"][0]["figures"]
print(next((statistics.median(one["rounds"]) for one in figures if one["key"] == sys.argv[2]), "nan"))
PYTHON
}

# Statements a second while so many instances idle, each with ten watched sessions.
idle() {
    local count=$1 url base created before after nth
    url=$(scripts/postgres.sh start "$work/postgres")
    pids=()
    for ((nth = 0; nth < count; nth++)); do
        "$target/release/plenum" serve --database-url "$url" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --log json \
            --drain-seconds 0 2>"$work/$nth.log" &
        pids+=($!)
        until grep -q '"message":"ready"' "$work/$nth.log"; do sleep 0.1; done
        base=http://$(sed -n 's/.*"ready","listen":"\([^"]*\)".*/\1/p' "$work/$nth.log")
        for _ in 1 2 3 4 5 6 7 8 9 10; do
            created=$(curl -fsS "$base/v1/sessions" -d '{"title":"Idle"}')
            curl -fsSN "$base/v1/sessions/$(sed 's/.*"id":"\([^"]*\)".*/\1/' <<<"$created")/stream" \
                -H "Authorization: Bearer $(sed 's/.*"presenter_token":"\([^"]*\)".*/\1/' <<<"$created")" >/dev/null 2>&1 &
        done
    done
    sleep 3
    before=$(psql -Atq "$url" -c "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    sleep 15
    after=$(psql -Atq "$url" -c "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    for nth in "${pids[@]}"; do kill -TERM "$nth" && wait "$nth" || true; done
    pids=()
    scripts/postgres.sh stop "$work/postgres"
    rm -rf "$work/postgres"
    awk -v before="$before" -v after="$after" 'BEGIN { printf "%.0f", (after - before) / 15 }'
}

echo '| instances | participants | votes/s | server, s per 1,000 votes | PostgreSQL, s per 1,000 votes | server, s per million deliveries | ratio | idle: statements/s |'
echo '| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
first=
for instances in 1 2 4 10; do
    "$target/release/plenum-loadtest" load --scenario growth --instances "$instances" \
        --with "participants=$((60 * instances))" --with "votes=$((450 * instances))" --out "$work/report" >"$work/load.log" 2>&1 || {
        cat "$work/load.log" >&2
        exit 1
    }
    vote=$(figure "$work/report/report.json" server_cpu_us)
    postgres=$(figure "$work/report/report.json" postgres_cpu_us)
    delivery=$(figure "$work/report/report.json" server_cpu_per_million)
    statements=$(idle "$instances")
    first=${first:-$delivery}
    awk -v n="$instances" -v v="$vote" -v p="$postgres" -v d="$delivery" -v f="$first" -v s="$statements" \
        'BEGIN { printf "| %d | %d | %d | %.2f | %.2f | %.2f | %.2f | %s |\n", n, 60 * n, 30 * n, v / 1000, p / 1000, d, d / f, s }'
done
