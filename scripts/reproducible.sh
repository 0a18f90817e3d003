#!/usr/bin/env bash
# Builds what is committed twice, from two folders with two target folders, and fails unless both executables are the same, byte
# for byte. Five minutes and more. The compiler, the C library and the C compiler are part of the inputs: another machine
# makes the same bytes with the same versions of them, which the last lines name.
#
#   scripts/reproducible.sh            both, compared
#   scripts/reproducible.sh one NAME   one build in a folder of that name; prints its checksum
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

one() {
    local folder=$work/$1
    mkdir -p "$folder/source"
    git archive HEAD | tar -x -C "$folder/source"
    (cd "$folder/source" && CARGO_TARGET_DIR=$folder/built scripts/static.sh >&2)
    sha256sum "$folder/built/static/plenum" | cut -d ' ' -f 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if [ "${1:-}" = one ]; then
    one "$2"
    exit
fi
first=$(one a)
second=$(one another-folder-with-a-longer-name)
rustc --version
cc --version | head -n 1
ldd --version 2>/dev/null | head -n 1
[ "$first" = "$second" ] || { echo "reproducible: NOT the same: $first and $second" >&2 && exit 1; }
echo "reproducible: twice $first"
