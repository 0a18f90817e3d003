#!/usr/bin/env bash
# Holds a real server to its OpenAPI document with a client that nobody here wrote: schemathesis makes requests from the
# document, right and wrong ones, and compares each answer with what the document promises. First without a token, then
# as the presenter of a session. Starts a server of its own on free ports, with its own data, and stops it.
#
#   scripts/schemathesis.sh        SEED=7 EXAMPLES=200 scripts/schemathesis.sh for another or a longer run
#
# Left out: the streams. /v1/ws is no HTTP exchange, and server-sent events do not end; tests/it has both.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

seed=${SEED:-1} examples=${EXAMPLES:-15}
tool='schemathesis==4.32.5'
venv=$PWD/target/schemathesis
. scripts/scratch.sh schemathesis

# POST with a token and a body; prints the answer.
post() { curl -sS --fail-with-body -X POST -H "Authorization: Bearer $2" -H 'Content-Type: application/json' -d "$3" "$base$1"; }
field() { sed -n "s/.*\"$1\":\"\([^\"]*\)\".*/\1/p"; }

# What a document cannot say: that max_choices is not above the number of options. So 422 is an answer to a poll that
# fits the document. The session and its poll stand in for ids that no generator would guess.
settings() {
    printf '[parameters]\n"path.id" = "%s"\n"path.n" = 1\n' "$id"
    for operation in 'POST /v1/sessions/{id}/polls' 'PATCH /v1/sessions/{id}/polls/{n}'; do
        printf '\n[[operations]]\ninclude-name = "%s"\n' "$operation"
        printf '[operations.checks]\npositive_data_acceptance.expected-statuses = ["2xx", 401, 403, 404, 409, 422]\n'
    done
}

# One run. The arguments go to the tool.
run() {
    settings >"$work/schemathesis.toml"
    # It keeps notes in the folder where it is started.
    (cd "$work" && exec "$venv/bin/schemathesis" --config-file "$work/schemathesis.toml" run "$base/v1/openapi.json" --url "$base" \
        --seed "$seed" --max-examples "$examples" --generation-database none \
        --phases examples,coverage,fuzzing --request-timeout 10 --continue-on-failure --warnings off \
        --exclude-path-regex '/(ws|stream)$' "$@")
}

[ -x "$venv/bin/schemathesis" ] || {
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: "$tool"
}
start_server --data-dir "$work/data" --api-key an-operators-key-for-this-run
session=$(post /v1/sessions an-operators-key-for-this-run '{"title":"Held to its word"}')
id=$(field id <<<"$session") presenter=$(field presenter_token <<<"$session")
post "/v1/sessions/$id/polls" "$presenter" '{"kind":"choice","question":"Yes?","options":["yes","no"]}' >"$work/poll"

failed=0
echo "schemathesis: without a token"
run || failed=1
echo "schemathesis: as a presenter"
# Deleting the session would end the run early: the calls after it would all be 404.
run --header "Authorization: Bearer $presenter" --exclude-method DELETE || failed=1
[ "$failed" -eq 0 ] || exit 1
echo "schemathesis: every answer was as the document says"
