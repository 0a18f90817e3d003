#!/usr/bin/env bash
# What a vote and a delivery cost with 1, 2, 4 and 10 instances on one database, the same work on each: a session of its own
# with 100 participants and 100 votes a second (loadtest/scenarios/growth.toml), a load generator for each, all at once. And how
# many statements a second the database runs while all of them idle. Prints the table of docs/CAPACITY.md: medians of ROUNDS
# rounds (5), each of which runs every number of instances once, for a machine does not cost the same from one minute to the next.
# INSTANCES="1 10" measures others. Needs release binaries (make loadtest builds them), curl and psql.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

target=${CARGO_TARGET_DIR:-target}
work=$(mktemp -d)
chmod 755 "$work"
pids=()
leave() {
    local pid
    for pid in ${pids[@]+"${pids[@]}"}; do
        kill -TERM "$pid" 2>/dev/null || true
        wait "$pid" || true
    done
    pids=()
    [ ! -d "$work/postgres/data" ] || scripts/postgres.sh stop "$work/postgres"
    rm -rf "$work/postgres"
}
trap 'leave; rm -rf "$work"' EXIT
PATH=$(scripts/postgres.sh bin):$PATH

# Processor seconds of all instances.
server_cpu() {
    local pid
    for pid in "${pids[@]}"; do sed 's/.*) //' "/proc/$pid/stat"; done | awk '{ ticks += $12 + $13 } END { print ticks / 100 }'
}

# Processor seconds of PostgreSQL: its first process with the children that ended, and those that live.
postgres_cpu() {
    local first
    first=$(head -n 1 "$work/postgres/data/postmaster.pid")
    {
        sed 's/.*) //' "/proc/$first/stat" | awk '{ print $12 + $13 + $14 + $15 }'
        cat /proc/[0-9]*/stat 2>/dev/null | sed 's/.*) //' | awk -v first="$first" '$2 == first { print $12 + $13 }'
    } | awk '{ ticks += $1 } END { print ticks / 100 }'
}

# Frames handed to clients by all instances.
delivered() {
    local log
    for log in "$work"/instance-*.log; do
        curl -fsS "http://$(sed -n 's/.*"ops_listen":"\([^"]*\)".*/\1/p' "$log")/metrics"
    done | awk '/^plenum_events_delivered_total / { sum += $2 } END { print sum }'
}

commits() { psql -Atq "$url" -c 'SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()'; }

# One number of instances, once: a line "instances vote delivery postgres idle" for the table.
measure() {
    local instances=$1 nth base idle server postgres generators=()
    url=$(PG_CONNECTIONS=300 scripts/postgres.sh start "$work/postgres")
    rm -f "$work"/*.log
    for ((nth = 0; nth < instances; nth++)); do
        "$target/release/plenum" serve --database-url "$url" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --log json \
            --drain-seconds 0 2>"$work/instance-$nth.log" &
        pids+=($!)
        until grep -qs '"message":"ready"' "$work/instance-$nth.log"; do sleep 0.1; done
    done
    sleep 3
    idle=$(commits)
    sleep 10
    idle=$((($(commits) - idle) / 10))
    server=$(server_cpu) postgres=$(postgres_cpu)
    for ((nth = 0; nth < instances; nth++)); do
        base=$(sed -n 's/.*"listen":"\([^"]*\)","ops_listen":"\([^"]*\)".*/--url http:\/\/\1 --ops-url http:\/\/\2/p' "$work/instance-$nth.log")
        # shellcheck disable=SC2086 # two flags and their values
        "$target/release/plenum-loadtest" load --scenario growth $base --out "$work/report-$nth" >"$work/load-$nth.log" 2>&1 &
        generators+=($!)
    done
    for nth in "${!generators[@]}"; do
        wait "${generators[$nth]}" || {
            cat "$work/load-$nth.log" >&2
            exit 1
        }
    done
    # Two rounds of 1,500 votes each; the joins are in it.
    awk -v n="$instances" -v votes="$((3 * instances))" -v s="$(server_cpu)" -v s0="$server" \
        -v p="$(postgres_cpu)" -v p0="$postgres" -v d="$(delivered)" -v idle="$idle" \
        'BEGIN { print n, (s - s0) / votes, (s - s0) / d * 1e6, (p - p0) / votes, idle }' | tee -a "$work/measured" >&2
    leave
}

# The median of one column of what was measured with so many instances.
median() {
    awk -v n="$1" -v column="$2" '$1 == n { print $column }' "$work/measured" | sort -g |
        awk '{ value[NR] = $1 } END { print (value[int((NR + 1) / 2)] + value[int(NR / 2) + 1]) / 2 }'
}

counts=${INSTANCES:-1 2 4 10}
for ((round = 1; round <= ${ROUNDS:-5}; round++)); do
    for instances in $counts; do measure "$instances"; done
done
echo '| instances | votes/s in all | server, s per 1,000 votes | ratio | server, s per million deliveries | ratio | PostgreSQL, s per 1,000 votes | idle: statements/s |'
echo '| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |'
first=${counts%% *}
first_vote=$(median "$first" 2) first_delivery=$(median "$first" 3)
for instances in $counts; do
    awk -v n="$instances" -v v="$(median "$instances" 2)" -v fv="$first_vote" -v d="$(median "$instances" 3)" \
        -v fd="$first_delivery" -v p="$(median "$instances" 4)" -v s="$(median "$instances" 5)" \
        'BEGIN { printf "| %d | %d | %.2f | %.2f | %.1f | %.2f | %.2f | %d |\n", n, 100 * n, v, v / fv, d, d / fd, p, s }'
done
