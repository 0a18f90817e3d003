#!/usr/bin/env bash
# A throwaway PostgreSQL for scripts: durable as a real one, on a free port of 127.0.0.1, as an unprivileged user where this
# runs as root. Nothing else may be in the folder.
#
#   url=$(scripts/postgres.sh start DIR)      makes and starts it; prints the URL of its empty database
#   scripts/postgres.sh stop DIR              stops it
#   scripts/postgres.sh bin                   prints the folder of its programs
#   scripts/postgres.sh port                  prints a free port
set -euo pipefail

bin() {
    local folder newest=
    for folder in "$(dirname "$(command -v postgres || echo /)")" /usr/pgsql-*/bin /usr/lib/postgresql/*/bin "${PG_BIN:-}"; do
        [ ! -x "$folder/initdb" ] || newest=$folder # the last one wins
    done
    [ -n "$newest" ] || {
        echo 'postgres: PostgreSQL is not installed (scripts/packages.sh install postgres)' >&2
        exit 1
    }
    echo "$newest"
}

# PostgreSQL refuses to run as root.
as_owner() {
    if [ "$(id -u)" -eq 0 ]; then setpriv --reuid="$owner" --regid="$owner" --clear-groups "$@"; else "$@"; fi
}

free_port() {
    local port
    while port=$((20000 + RANDOM % 12000)); do
        (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
    done
    echo "$port"
}

owner=postgres
id "$owner" >/dev/null 2>&1 || owner=nobody
programs=$(bin)
dir=${2:-}
case ${1:-} in
    bin) echo "$programs" ;;
    port) free_port ;;
    start)
        mkdir -p "$dir"
        [ "$(id -u)" -ne 0 ] || chown "$owner" "$dir"
        cd "$dir"
        as_owner "$programs/initdb" --no-sync -U plenum -A trust -E UTF8 --locale=C -D "$dir/data" >"$dir/initdb.log"
        port=$(free_port)
        as_owner "$programs/pg_ctl" start -s -w -D "$dir/data" -l "$dir/log" \
            -o "-c port=$port -c listen_addresses=127.0.0.1 -c unix_socket_directories=$dir -c max_connections=${PG_CONNECTIONS:-200}"
        "$programs/createdb" -h 127.0.0.1 -p "$port" -U plenum plenum
        echo "postgres://plenum@127.0.0.1:$port/plenum?sslmode=disable"
        ;;
    stop) cd / && as_owner "$programs/pg_ctl" stop -s -m fast -D "$dir/data" ;;
    *)
        echo 'usage: scripts/postgres.sh start DIR | stop DIR | bin | port' >&2
        exit 2
        ;;
esac
