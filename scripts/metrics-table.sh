#!/usr/bin/env bash
# Makes docs/METRICS.md from the program itself: the part below its marker is `plenum metrics`. With --check it only says
# whether the page is what would be written. A test (tests/it/observability.rs) does the same.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

plenum=${PLENUM:-${CARGO_TARGET_DIR:-target}/debug/plenum}
page=docs/METRICS.md
marker='<!-- made by scripts/metrics-table.sh from here on -->'

made=$(awk -v marker="$marker" '{ print } $0 == marker { exit }' "$page" && "$plenum" metrics)
case ${1:-} in
    --check) diff -u "$page" <(printf '%s\n' "$made") ;;
    '') printf '%s\n' "$made" >"$page" ;;
    *)
        echo "usage: scripts/metrics-table.sh [--check]" >&2
        exit 2
        ;;
esac
