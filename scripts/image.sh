#!/usr/bin/env bash
# Builds the container image from target/static/plenum, looks at what is in it, and runs it as it is: its root, its user,
# nothing else, against a PostgreSQL: once by buildah, and five times in a bare chroot, which is timed. Keeps
# target/static/image.tar. Needs buildah, and root, who may mount and chroot; says so where that is not to be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

[ "$(id -u)" -eq 0 ] || { echo 'image: it is looked into by mount and chroot, which need root' >&2 && exit 1; }
command -v buildah >/dev/null || { echo 'image: buildah is missing (scripts/packages.sh install buildah)' >&2 && exit 1; }

ready_ms_max=100 # from the start of the process, with the database up and its schema there
built=${CARGO_TARGET_DIR:-target}/static
work=$(mktemp -d)
chmod 755 "$work"
build() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
server=
container=
# All that a process started, and what they started.
descendants() {
    local child
    for child in $(pgrep -P "$1"); do
        echo "$child"
        descendants "$child"
    done
}
finish() {
    local status=$?
    # shellcheck disable=SC2046 # numbers
    [ -z "$server" ] || kill -KILL "$server" $(descendants "$server") 2>/dev/null || true
    [ ! -d "$work/postgres/data" ] || scripts/postgres.sh stop "$work/postgres" || true
    [ -z "$container" ] || build umount "$container" >/dev/null 2>&1 || true
    [ "$status" -eq 0 ] || { echo 'image: FAILED' >&2 && cat "$work"/*.log >&2 2>/dev/null; }
    rm -rf "$work"
    exit "$status"
}
trap finish EXIT

version=$("$built/plenum" --version | cut -d ' ' -f 2)
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
mkdir "$work/context"
cp "$built/plenum" "$work/context/plenum"
# The health check is of Docker's format; OCI's has none.
# Times of the commit, not of today: the same executable makes the same image.
made=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
build bud --quiet --timestamp "$made" --format docker --isolation chroot --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    -f deploy/Dockerfile -t "plenum:$version" "$work/context" >"$work/build.log" 2>&1
container=$(build from "plenum:$version" 2>>"$work/build.log")
root=$(build mount "$container")

holds=$(cd "$root" && find . -mindepth 1)
[ "$holds" = ./plenum ] || { echo "image: it holds more than the executable: $holds" >&2 && exit 1; }
inspected=$(build inspect --type image "plenum:$version")
labels=org.opencontainers.image
for words in '"User": "65532:65532"' '"Test": \[' '"SIGTERM"' "\"$labels.title\": \"Plenum\"" "\"$labels.licenses\": \"MIT OR" \
    "\"$labels.version\": \"$version\"" "\"$labels.revision\": \"$revision\"" "\"$labels.description\": \"."; do
    grep -q "$words" <<<"$inspected" || { echo "image: not in its configuration: $words" >&2 && exit 1; }
done

url=$(scripts/postgres.sh start "$work/postgres")
alone=(chroot --userspec=65532:65532 "$root" /plenum)
"${alone[@]}" migrate --database-url "$url" 2>"$work/migrate.log"

# As a container engine would: buildah adds /proc, /dev and the like, and takes user and environment from the image.
ops=127.0.0.1:$((20000 + RANDOM % 12000))
in_container=(build run --isolation chroot --env "PLENUM_DATABASE_URL=$url" --env PLENUM_LISTEN=127.0.0.1:0 --env "PLENUM_OPS_LISTEN=$ops"
    --env PLENUM_DRAIN_SECONDS=0)
other=$(build from "plenum:$version" 2>>"$work/build.log")
"${in_container[@]}" "$other" /plenum serve 2>"$work/container.log" &
server=$!
for ((tries = 0; tries < 100; tries++)); do # not by asking: a second process while the first is put in its root breaks that
    if grep -q '"message":"ready"' "$work/container.log"; then break; fi
    sleep 0.1
done
"${in_container[@]}" "$other" /plenum health
grep -q '"message":"ready"' "$work/container.log"
kill -TERM "$(descendants "$server" | tail -n 1)" # the innermost is the server itself
wait "$server"
server=

times=()
for _ in 1 2 3 4 5; do
    rm -f "$work/log" && mkfifo "$work/log"
    begun=${EPOCHREALTIME/./}
    "${alone[@]}" serve --database-url "$url" --listen 127.0.0.1:0 --ops-listen 127.0.0.1:0 --log json \
        --drain-seconds 0 2>"$work/log" &
    server=$!
    exec 3<"$work/log"
    until read -r -t 20 -u 3 line && [[ $line == *'"message":"ready"'* ]]; do printf '%s\n' "$line" >>"$work/server.log"; done
    times+=($(((${EPOCHREALTIME/./} - begun) / 1000)))
    ops=$(sed -n 's/.*"ops_listen":"\([^"]*\)".*/\1/p' <<<"$line")
    "${alone[@]}" health --ops-listen "$ops"
    kill -TERM "$server"
    cat <&3 >>"$work/server.log"
    wait "$server"
    server=
done
middle=$(printf '%s\n' "${times[@]}" | sort -n | sed -n 3p)
[ "$middle" -lt "$ready_ms_max" ] || { echo "image: ready after ${times[*]} ms" >&2 && exit 1; }

rm -f "$built/image.tar"
build push --quiet "plenum:$version" "docker-archive:$built/image.tar:plenum:$version"
echo "image: plenum:$version holds the executable alone, runs as 65532, ready after ${times[*]} ms; $built/image.tar"
