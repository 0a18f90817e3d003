# shellcheck shell=bash
# A folder that goes with the script, a server that ends with it, and the ends of the logs where something failed. Not a command:
# sourced by the scripts that start a server of their own, as `. scripts/scratch.sh NAME`, from the root of the repository.

check=$1 # what its messages begin with
root=$PWD
work=$(mktemp -d)
chmod 755 "$work" # PostgreSQL runs as another user where this runs as root
server=
base=

fail() { echo "$check: $*" >&2 && exit 1; }

# Ends the server as an operator would; succeeds if it does. Killed where it is not gone within 20 s.
stop_server() {
    local ending=$server tries=0
    server=
    kill -TERM "$ending" 2>/dev/null || true
    while kill -0 "$ending" 2>/dev/null; do
        if ((++tries == 200)); then kill -KILL "$ending"; fi
        sleep 0.1
    done
    wait "$ending"
}

finish() {
    local status=$?
    cd "$root" || exit 1
    [ -z "$server" ] || stop_server || status=$?
    [ ! -d "$work/postgres/data" ] || scripts/postgres.sh stop "$work/postgres" || true
    if [ "$status" -ne 0 ]; then
        echo "$check: FAILED" >&2
        tail -n 20 "$work"/*.log >&2 || true
    fi
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

# Starts a server with these arguments, on free ports, and reads its log until it says where it listens: $base. From then on
# the log goes to a file.
start_server() {
    local line=
    rm -f "$work/pipe" && mkfifo "$work/pipe"
    "${PLENUM:-${CARGO_TARGET_DIR:-target}/debug/plenum}" serve --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --log json --drain-seconds 0 "$@" \
        >"$work/out.log" 2>"$work/pipe" &
    server=$!
    exec 3<"$work/pipe"
    until [[ $line == *'"message":"ready"'* ]]; do
        read -r -t 120 -u 3 line || fail 'the server did not get ready'
        printf '%s\n' "$line" >>"$work/server.log"
    done
    cat <&3 >>"$work/server.log" &
    # shellcheck disable=SC2034 # for the script
    base=http://$(sed -n 's/.*"listen":"\([^"]*\)".*/\1/p' <<<"$line")
}
