#!/bin/sh
# Prints one block of commands or settings of a page: the one below `<!-- run by …: NAME -->`. The scripts that CI runs take
# them from here, so that what stands in the runbook is what was run.
#
#   scripts/runbook.sh NAME [PAGE]      docs/OPERATING.md, if none is named
set -eu
page=${2:-$(dirname "$0")/../docs/OPERATING.md}
awk -v marker=": $1 -->" '
    index($0, "<!-- run by ") == 1 && substr($0, length($0) - length(marker) + 1) == marker { below = 1; next }
    below && /^```/ { if (inside) { found = 1; exit }; inside = 1; next }
    inside { print }
    END { if (!found) exit 1 }' "$page" || {
    echo "runbook: no block $1 in $page" >&2
    exit 1
}
