#!/usr/bin/env bash
# The backup and restore of docs/OPERATING.md, and what operators do with data, with its own commands: a session is voted
# in, backed up, voted in again, and restored; votes of the backup are there and counted, and a client that saw more than the
# backup holds gets the snapshot. Then it is listed, exported and erased.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

export PLENUM=${PLENUM:-$PWD/${CARGO_TARGET_DIR:-target}/debug/plenum}
. scripts/scratch.sh restore
PATH=$(scripts/postgres.sh bin):$PATH

field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }
as() { curl -fsS -H "Authorization: Bearer $1" "${@:2}"; }
vote() {
    local token
    token=$(curl -fsS "$base/v1/join" -d "{\"code\":\"$code\"}" | field token)
    as "$token" -o /dev/null "$base/v1/sessions/$session/votes" \
        -d "{\"id\":\"$(cat /proc/sys/kernel/random/uuid)\",\"poll\":1,\"answer\":{\"choices\":[1]}}"
}
# The first line of the stream is the welcome.
welcome() { as "$presenter" -N --max-time 5 "$base/v1/sessions/$session/stream$1" 2>/dev/null | sed -n '/^data:/{p;q}' || true; }

PLENUM_DATABASE_URL=$(scripts/postgres.sh start "$work/postgres")
export PLENUM_DATABASE_URL
port=${PLENUM_DATABASE_URL#*127.0.0.1:}
port=${port%%/*}
export PGHOST=127.0.0.1 PGPORT=$port PGUSER=plenum
start_server --database-url "$PLENUM_DATABASE_URL"
created=$(curl -fsS "$base/v1/sessions" -d '{"title":"Kept"}')
session=$(field id <<<"$created") presenter=$(field presenter_token <<<"$created") code=$(field code <<<"$created")
as "$presenter" -o /dev/null "$base/v1/sessions/$session/polls" -d '{"kind":"choice","question":"?","options":["a","b"]}'
as "$presenter" -o /dev/null -X POST "$base/v1/sessions/$session/polls/1/open"
vote && vote

scripts/runbook.sh restore >"$work/commands.sh"
pushd "$work" >/dev/null
head -n 1 "$work/commands.sh" | bash -euo pipefail
popd >/dev/null
vote # after the backup: in the old history alone
before=$(as "$presenter" "$base/v1/sessions/$session" | sed -n 's/.*"last_seq":\([0-9]*\).*/\1/p')
old=$(welcome "" | field epoch)
stop_server

pushd "$work" >/dev/null
tail -n +2 "$work/commands.sh" | bash -euo pipefail >/dev/null
popd >/dev/null
start_server --database-url "${PLENUM_DATABASE_URL/\/plenum\?/\/restored?}"
results=$(as "$presenter" "$base/v1/sessions/$session/polls/1/results")
grep -q '"votes":2' <<<"$results" || fail "not the votes of the backup: $results"
back=$(welcome "?after=$before")
grep -q '"resumed":false' <<<"$back" || fail "a client of the old history went on: $back"
new=$(field epoch <<<"$back")
[ "${new:-$old}" != "$old" ] || fail "the epoch did not change: $new"
vote
results=$(as "$presenter" "$base/v1/sessions/$session/polls/1/results")
grep -q '"votes":3' <<<"$results" || fail "it does not go on: $results"

# What operators do with data, by its own block, with a session that is there.
mkdir "$work/programs" && ln -s "$PLENUM" "$work/programs/plenum"
scripts/runbook.sh admin | sed "s/SESSION/$session/" >"$work/admin.sh"
export PLENUM_DATABASE_URL=${PLENUM_DATABASE_URL/\/plenum\?/\/restored?}
pushd "$work" >/dev/null
PATH=$work/programs:$PATH bash -euo pipefail admin.sh
[ "$(wc -l <session.csv)" -eq 4 ] || { echo 'restore: not a line for each vote' >&2 && cat session.csv >&2 && exit 1; }
popd >/dev/null
gone=$(curl -s -o /dev/null -w '%{http_code}' "$base/v1/sessions/$session" -H "Authorization: Bearer $presenter")
case $gone in 401 | 404) ;; *) fail "an erased session answers $gone" ;; esac
stop_server
echo 'restore: the votes of the backup are there, clients of the old history get the snapshot, voting goes on; sessions are listed, exported, erased'
