#!/usr/bin/env bash
# Builds the container image from target/static/plenum, looks at what is in it, and runs it as it is: its root, its user,
# nothing else, against a PostgreSQL. Needs root (chroot) and buildah; keeps target/static/image.tar.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

ready_ms_max=100 # from the start of the process, with the database up and its schema there
built=${CARGO_TARGET_DIR:-target}/static
work=$(mktemp -d)
chmod 755 "$work"
build() { buildah --storage-driver vfs --root "$work/store" --runroot "$work/run" "$@"; }
server=
container=
finish() {
    local status=$?
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
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
build bud --quiet --format docker --isolation chroot --build-arg "VERSION=$version" --build-arg "REVISION=$revision" \
    -f deploy/Dockerfile -t "plenum:$version" "$work/context" >"$work/build.log" 2>&1
container=$(build from "plenum:$version" 2>>"$work/build.log")
root=$(build mount "$container")

holds=$(cd "$root" && find . -type f)
[ "$holds" = ./plenum ] || { echo "image: it holds more than the executable: $holds" >&2 && exit 1; }
inspected=$(build inspect --type image "plenum:$version")
for words in '"User": "65532:65532"' '"org.opencontainers.image.version": "'"$version"'"' '"Test": \[' '"SIGTERM"'; do
    grep -q "$words" <<<"$inspected" || { echo "image: not in its configuration: $words" >&2 && exit 1; }
done

url=$(scripts/postgres.sh start "$work/postgres")
alone=(chroot --userspec=65532:65532 "$root" /plenum)
"${alone[@]}" migrate --database-url "$url" 2>"$work/migrate.log"
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
