#!/usr/bin/env bash
# Builds the one static executable, and fails unless it is one: no dynamic section, no interpreter, at most 10 MB, and it
# runs with nothing else in its root, and it names no folder and no day of the machine that built it, so that another
# machine can make the same bytes (scripts/reproducible.sh). With --check, looks at one that is built already.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bytes_max=10000000
arch=$(uname -m)
target=${PLENUM_STATIC_TARGET:-$arch-unknown-linux-gnu}
built=${CARGO_TARGET_DIR:-target}/$target/dist/plenum
kept=${CARGO_TARGET_DIR:-target}/static/plenum
crates=${CARGO_HOME:-$HOME/.cargo}

say() { printf 'static: %s\n' "$*"; }
fail() {
    say "$*" >&2
    exit 1
}

if [ "${1:-}" != --check ]; then
    # Naming the target keeps the flags away from build scripts and macros, which have to be dynamic. Without the relocation
    # model it would be a static PIE, which is loaded anywhere but carries a dynamic section for that. Random bytes come by
    # the system call: the other way looks for /dev/urandom, and an empty root has no /dev.
    # Panics name their file: folders of this machine become names that are the same everywhere.
    mkdir -p "${CARGO_TARGET_DIR:-target}"
    remaps="--remap-path-prefix=$PWD=/plenum --remap-path-prefix=$(cd "${CARGO_TARGET_DIR:-target}" && pwd)=/target"
    remaps+=" --remap-path-prefix=$crates=/cargo"
    # The allocator would say in its statistics, which nobody prints, when it was compiled.
    export CFLAGS="-ffile-prefix-map=$crates=/cargo -Wno-builtin-macro-redefined -D__DATE__=\"-\" -D__TIME__=\"-\" ${CFLAGS:-}"
    RUSTFLAGS="$remaps -C target-feature=+crt-static -C relocation-model=static --cfg getrandom_backend=\"linux_getrandom\" ${RUSTFLAGS:-}" \
        cargo build --locked --profile dist --target "$target" --bin plenum
    mkdir -p "$(dirname "$kept")"
    cp "$built" "$kept"
fi

bytes=$(wc -c <"$kept")
[ "$bytes" -le "$bytes_max" ] || fail "$bytes bytes, more than $bytes_max"
readelf -d "$kept" 2>&1 | grep -q 'There is no dynamic section' || fail 'it has a dynamic section'
if readelf -lW "$kept" | grep -q INTERP; then fail 'it asks for an interpreter'; fi

for folder in "$PWD" "$crates" "${HOME:-}"; do
    if [ "${#folder}" -gt 1 ] && grep -aqF "$folder/" "$kept"; then fail "it names a folder of this machine: $folder"; fi
done
if grep -aqF "$(LC_ALL=C date '+%b %e %Y')" "$kept"; then fail 'it holds the date of its build'; fi

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
cp "$kept" "$root/plenum"
if [ "$(id -u)" -eq 0 ]; then alone=(chroot "$root"); else alone=(unshare --map-root-user chroot "$root"); fi
version=$("${alone[@]}" /plenum --version) || fail 'it does not run alone'
say "$kept: $version, $bytes bytes, runs with nothing else in its root"
