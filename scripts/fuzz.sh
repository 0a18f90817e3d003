#!/usr/bin/env bash
# Fuzzes the readers of whatever comes from outside, with libFuzzer and AddressSanitizer, on the stable toolchain.
#
#   scripts/fuzz.sh seconds N [target…]   each target for N seconds; all of them without names
#   scripts/fuzz.sh replay                every input that is kept, once
#   scripts/fuzz.sh keep [target…]        take into tests/fuzz/corpus/ what the last runs found to reach more code, made small
#   scripts/fuzz.sh try target file       one input, with its trace
#   scripts/fuzz.sh build                 builds them and no more
#   scripts/fuzz.sh lock                  after a change of Cargo.lock: the same versions for the targets
#
# What a run finds is kept in target/fuzz-found/; a crash's input goes into tests/fuzz/corpus/ together with its mending.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

crate=tests/fuzz
built=${CARGO_TARGET_DIR:-target}/fuzz
found=${CARGO_TARGET_DIR:-target}/fuzz-found
all=$(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' "$crate/Cargo.toml")
machine=$(rustc -vV | sed -n 's/^host: //p')

say() { printf 'fuzz: %s\n' "$*"; }

versions() { sed -n '/^name = /{N;s/name = "\(.*\)"\nversion = "\(.*\)"/\1 \2/p}' "$1" | sort; }

# The flags of cargo-fuzz, so that it need not be installed. RUSTC_BOOTSTRAP lets a stable compiler take -Zsanitizer; naming
# the target keeps the flags away from build scripts.
build() {
    command -v c++ >/dev/null || { say 'a C++ compiler is needed for libFuzzer (g++)' >&2 && exit 1; }
    local other
    other=$(comm -13 <(versions Cargo.lock) <(versions "$crate/Cargo.lock") | grep -vE '^(arbitrary|jobserver|libfuzzer-sys|plenum-fuzz) ' || true)
    [ -z "$other" ] || { say "other versions than the server's: ${other//$'\n'/, } (scripts/fuzz.sh lock)" >&2 && exit 1; }
    RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$built RUSTFLAGS="--cfg fuzzing -Zsanitizer=address -Cpasses=sancov-module \
        -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
        -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares" \
        cargo build --locked --release --manifest-path "$crate/Cargo.toml" --target "$machine" --bins
}

program() { printf '%s' "$built/$machine/release/$1"; }

# The longest input: a message of 16 KiB and a bit, so that one byte too many is within reach.
longest() {
    case $1 in
        frames | messages) echo 20000 ;;
        *) echo 2000 ;;
    esac
}

# 64 MiB at once are far more than any of these inputs may cost. What was freed lately is kept by the sanitizer, to see it used
# again; by default for 256 MiB of it, which a long run would take for a leak.
run() {
    local target=$1
    shift
    mkdir -p "$found/$target"
    ASAN_OPTIONS=quarantine_size_mb=32 "$(program "$target")" -artifact_prefix="$found/" -max_len="$(longest "$target")" -dict="$crate/dict/$target" \
        -timeout=10 -rss_limit_mb=1024 -malloc_limit_mb=64 -print_final_stats=1 -print_funcs=0 "$@"
}

mode=${1:-}
[ $# -eq 0 ] || shift
case $mode in
    build) build ;;
    lock)
        cp Cargo.lock "$crate/Cargo.lock"
        cargo metadata --format-version 1 --manifest-path "$crate/Cargo.toml" >/dev/null
        ;;
    seconds)
        seconds=$1
        shift
        [ $# -gt 0 ] || read -ra targets <<<"${all//$'\n'/ }"
        [ $# -eq 0 ] || targets=("$@")
        build
        for target in "${targets[@]}"; do
            log=$found/$target.log
            mkdir -p "$found/$target"
            run "$target" -max_total_time="$seconds" -seed="${SEED:-0}" "$found/$target" "$crate/corpus/$target" >"$log" 2>&1 || {
                tail -n 60 "$log"
                say "$target: FOUND something, see $log; the input is the newest file in $found/"
                exit 1
            }
            last=$(grep -E '^#[0-9]+.*(DONE|pulse|NEW|REDUCE|INITED)' "$log" | tail -n 1)
            say "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs in $seconds s," \
                "$(sed -n 's/.*cov: \([0-9]*\) ft: \([0-9]*\) corp: \([^ ]*\).*/\1 edges, \2 features, corpus \3/p' <<<"$last"), nothing found"
        done
        ;;
    replay)
        build
        for target in $all; do
            run "$target" -runs=0 "$crate/corpus/$target" >/dev/null 2>"$found/$target.log" || {
                tail -n 60 "$found/$target.log"
                exit 1
            }
            say "$target: $(find "$crate/corpus/$target" -type f | wc -l) inputs replayed"
        done
        ;;
    keep)
        build
        # shellcheck disable=SC2086 # names, split on purpose
        [ $# -gt 0 ] || set -- $all
        for target in "$@"; do
            # Edges alone count, not how often they are passed: some hundred files instead of thousands.
            run "$target" -set_cover_merge=1 -use_counters=0 -max_len=2000 "$crate/corpus/$target" "$found/$target" >"$found/$target.log" 2>&1
            say "$target: $(du -sb --apparent-size "$crate/corpus/$target" | cut -f 1) bytes of corpus"
        done
        ;;
    try)
        build
        run "$1" "$2"
        ;;
    *)
        sed -n 4,9p "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
esac
