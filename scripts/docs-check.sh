#!/bin/sh
# Documents point at things that exist: relative links of every page, and every path of the tree that a page names in
# backquotes. `make lint` runs it, so that a renamed file is missed at once.
set -eu
cd "$(dirname "$0")/.."

missing=$(
    for page in README.md CONTRIBUTING.md CHANGELOG.md docs/*.md deploy/*.md docs/decisions/*.md; do
        folder=$(dirname "$page")
        # [text](target), without anchors and without addresses of the web
        tr '\n' ' ' <"$page" | grep -o ']([^)]*)' | sed -e 's/^](//' -e 's/)$//' -e 's/#.*//' |
            grep -v -e '^$' -e '^[a-z]*:' | while IFS= read -r target; do
            [ -e "$folder/$target" ] || echo "$page: no such file: $target"
        done
        # `src/…`, as a path from the top of the tree; placeholders such as NNNN or * are left alone
        # shellcheck disable=SC2016 # backquotes of Markdown
        grep -o '`[a-z.]*/[A-Za-z0-9_./-]*`' "$page" | tr -d '`' |
            grep -E '^(src|sql|tests|docs|loadtest|bench|deploy|scripts|\.ci|\.github)/' | grep -v NNNN |
            while IFS= read -r path; do
                [ -e "$path" ] || echo "$page: no such path: $path"
            done
    done | sort -u
)
[ -z "$missing" ] || {
    printf '%s\n' "$missing" >&2
    exit 1
}
