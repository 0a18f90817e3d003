#!/bin/sh
# The one list of what Plenum needs from the system, and the way to get it.
#
#   scripts/packages.sh check   [group…]   says what is missing; exit 1 if anything is
#   scripts/packages.sh install [group…]   installs what is missing, and only that
#   scripts/packages.sh list    [group…]   prints the package names for this system
#
# Without groups: postgres and build, which is all that running and testing needs.
# Installing uses sudo unless it runs as root, and prints each command before it runs it.
set -eu

# group        Debian, Ubuntu    Fedora              macOS (Homebrew)
packages_table='
postgres       postgresql        postgresql-server   postgresql@17
build          build-essential   gcc                 -
haproxy        haproxy           haproxy             haproxy
nginx          nginx             nginx               nginx
pgbench        postgresql        postgresql-contrib  postgresql@17
curl           curl              curl                -
prometheus     prometheus        -                   prometheus
pgbouncer      pgbouncer         pgbouncer           pgbouncer
buildah        buildah           buildah             -
shellcheck     shellcheck        ShellCheck          shellcheck
python         python3-venv      python3-pip         -
faketime       faketime          libfaketime         libfaketime
systemd        systemd           systemd             -
openssl        openssl           openssl             openssl
nchan          libnginx-mod-nchan -                  -
node           nodejs            nodejs              node
npm            npm               nodejs-npm          node
chromium       chromium          chromium            -
pngquant       pngquant          pngquant            pngquant
'
# The oldest PostgreSQL whose features the schema uses.
postgres_oldest=14

say() { printf '%s\n' "packages: $*" >&2; }

# Folders that may hold the server programs, best first: the same places where the server looks.
postgres_folders() {
    [ -z "${PG_BIN:-}" ] || printf '%s\n' "$PG_BIN"
    on_path=$(command -v postgres 2>/dev/null) && dirname "$on_path"
    for folder in /usr/lib/postgresql/*/bin /usr/pgsql-*/bin \
        /opt/homebrew/opt/postgresql*/bin /usr/local/opt/postgresql*/bin; do
        [ ! -d "$folder" ] || printf '%s\n' "$folder"
    done
}

has_postgres() {
    found=$(postgres_folders | while IFS= read -r folder; do
        for program in initdb postgres pg_ctl; do
            [ -x "$folder/$program" ] || continue 2
        done
        major=$("$folder/postgres" --version | sed 's/^[^0-9]*\([0-9][0-9]*\).*/\1/')
        [ "${major:-0}" -ge "$postgres_oldest" ] || continue
        printf '%s\n' "$folder"
        break
    done)
    [ -n "$found" ]
}

has_pgbench() {
    found=$(postgres_folders | while IFS= read -r folder; do
        [ ! -x "$folder/pgbench" ] || printf '%s\n' "$folder"
    done)
    [ -n "$found" ]
}

has() {
    case $1 in
        postgres) has_postgres ;;
        pgbench) has_pgbench ;;
        build) command -v cc >/dev/null 2>&1 ;;
        nchan) ls /usr/lib/nginx/modules/ngx_nchan_module.so >/dev/null 2>&1 ;;
        haproxy | nginx | pgbouncer) PATH="$PATH:/usr/sbin:/usr/local/sbin" command -v "$1" >/dev/null 2>&1 ;;
        systemd) command -v systemd-analyze >/dev/null 2>&1 && command -v systemd-socket-activate >/dev/null 2>&1 ;;
        python) python3 -c 'import ensurepip, venv' >/dev/null 2>&1 ;;
        node) node -e 'process.exit(parseInt(process.versions.node, 10) < 20 ? 1 : 0)' >/dev/null 2>&1 ;;
        chromium) { command -v chromium || command -v chromium-browser || command -v google-chrome; } >/dev/null 2>&1 ;;
        *) command -v "$1" >/dev/null 2>&1 ;;
    esac
}

describe() {
    case $1 in
        postgres) echo "the PostgreSQL server programs (initdb, postgres, pg_ctl; version $postgres_oldest or newer)" ;;
        build) echo "a C compiler (cc)" ;;
        nchan) echo "nginx with the nchan module" ;;
        node) echo "Node.js 20 or newer" ;;
        python) echo "Python 3 with venv and pip" ;;
        systemd) echo "systemd's tools (systemd-analyze, systemd-socket-activate)" ;;
        *) echo "$1" ;;
    esac
}

system() {
    if command -v apt-get >/dev/null 2>&1; then
        echo debian
    elif command -v dnf >/dev/null 2>&1; then
        echo fedora
    elif [ "$(uname -s)" = Darwin ]; then
        echo macos
    else
        echo unknown
    fi
}

# The package of a group on this system; nothing where the group has none here.
package() {
    case $(system) in
        debian) column=2 ;;
        fedora) column=3 ;;
        macos) column=4 ;;
        *) column=0 ;;
    esac
    [ "$column" -eq 0 ] || printf '%s' "$packages_table" |
        awk -v group="$1" -v column="$column" '$1 == group && $column != "-" { print $column }'
}

missing() {
    for group in "$@"; do
        has "$group" || printf '%s\n' "$group"
    done
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        say "running: $*"
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        say "running: sudo $*"
        sudo "$@"
    else
        say "this needs root, and there is no sudo; as root, run: $*"
        exit 1
    fi
}

install_packages() {
    case $(system) in
        debian)
            as_root apt-get update -qq
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
            ;;
        fedora) as_root dnf install -y -q "$@" </dev/null ;;
        macos)
            command -v brew >/dev/null 2>&1 || {
                say "Homebrew is needed to install: $*"
                exit 1
            }
            say "running: brew install $*"
            brew install "$@"
            ;;
    esac
}

check() {
    lacking=$(missing "$@")
    [ -n "$lacking" ] || return 0
    for group in $lacking; do
        say "missing: $(describe "$group")"
    done
    # shellcheck disable=SC2086 # one line of group names, split on purpose
    say "to install: scripts/packages.sh install" $lacking
    return 1
}

install() {
    lacking=$(missing "$@")
    [ -n "$lacking" ] || return 0
    wanted=
    for group in $lacking; do
        name=$(package "$group")
        if [ -z "$name" ]; then
            say "missing: $(describe "$group"); there is no known package for this system, please install it yourself"
            [ "$(system)" != macos ] || [ "$group" != build ] || say "on macOS: xcode-select --install"
            exit 1
        fi
        say "missing: $(describe "$group"); installing the package $name"
        wanted="$wanted $name"
    done
    if [ "$(system)" = debian ] && ! has_postgres; then
        case $wanted in *postgresql*)
            say "note: the system starts a PostgreSQL of its own from this package (port 5432); Plenum does not use it"
            ;;
        esac
    fi
    # shellcheck disable=SC2086 # names of packages, split on purpose
    install_packages $wanted
    check "$@"
}

mode=${1:-}
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- postgres build
for group in "$@"; do
    printf '%s' "$packages_table" | grep -q "^$group " || {
        say "no such group: $group"
        exit 2
    }
done
case $mode in
    check) check "$@" ;;
    install) install "$@" ;;
    list) for group in "$@"; do package "$group"; done ;;
    *)
        say "usage: scripts/packages.sh check|install|list [group…]"
        exit 2
        ;;
esac
