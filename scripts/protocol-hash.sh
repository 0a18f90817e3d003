#!/bin/sh
# Binds docs/PROTOCOL.md to the code that speaks it: its last line holds the SHA-256 of src/wire/*.rs, joined in the order
# of their names (bytes, not locale). A test fails when they part, so nobody changes the wire without reading the page.
#
#   scripts/protocol-hash.sh           prints the hash of the code
#   scripts/protocol-hash.sh --write   writes it into the page
set -eu
LC_ALL=C
export LC_ALL
cd "$(dirname "$0")/.."

sha256() {
    if command -v sha256sum >/dev/null 2>&1; then sha256sum; else shasum -a 256; fi
}

hash=$(cat src/wire/*.rs | sha256 | cut -d ' ' -f 1)
case ${1:-} in
    '') printf '%s\n' "$hash" ;;
    --write)
        page=docs/PROTOCOL.md
        { sed '/^wire-hash: /d' "$page"; printf 'wire-hash: %s\n' "$hash"; } >"$page.new"
        mv "$page.new" "$page"
        ;;
    *)
        echo "usage: scripts/protocol-hash.sh [--write]" >&2
        exit 2
        ;;
esac
