#!/usr/bin/env bash
# The part of docs/OPERATING.md about hosts with systemd, without one that runs: the unit and the runbook's drop-in are
# verified, and the unit's own command is started with the runbook's settings on sockets that systemd's tool hands over,
# against a database that the runbook's SQL made, as a role that owns no more than it, over TLS with the certificate that the
# runbook's commands made.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if ! command -v systemd-analyze >/dev/null 2>&1 || ! command -v systemd-socket-activate >/dev/null 2>&1; then
    echo 'systemd: its tools are not here, so the unit is NOT CHECKED'
    exit 0
fi
plenum=$PWD/${CARGO_TARGET_DIR:-target}/debug/plenum
. scripts/scratch.sh systemd

# The executable is not installed here, and verify wants one.
mkdir "$work/units" "$work/units/plenum.socket.d"
cp deploy/systemd/plenum.socket "$work/units/"
scripts/runbook.sh sockets >"$work/units/plenum.socket.d/addresses.conf"
sed "s|/usr/local/bin/plenum|$(command -v true)|" deploy/systemd/plenum.service >"$work/units/plenum.service"
verify() { systemd-analyze verify "$work/units/plenum.service" "$work/units/plenum.socket" 2>&1; }
said=$(verify) || fail "$said"
! grep -F "$work" <<<"$said" || fail 'the unit or the drop-in has faults'
sed 's/ListenStream=1/ListenStreem=1/' "$work/units/plenum.socket.d/addresses.conf" >"$work/units/plenum.socket.d/typo.conf"
said=$(verify || true)
grep -q ListenStreem <<<"$said" || fail 'the drop-in is not looked at'
systemd-analyze security --offline=true --threshold=20 "$work/units/plenum.service" | tail -n 1

url=$(scripts/postgres.sh start "$work/postgres")
ask() { "$(scripts/postgres.sh bin)/psql" --quiet --no-psqlrc --no-align --tuples-only --set ON_ERROR_STOP=1 "$@"; }
command -v openssl >/dev/null || fail 'openssl is missing, and the database needs a certificate'
scripts/runbook.sh certificate | sed 's/10.0.0.20/127.0.0.1/' | (cd "$work" && bash -euo pipefail) >"$work/openssl.log" 2>&1
for file in server.crt server.key; do
    install -m 600 "$work/$file" "$work/postgres/data/$file"
    chown --reference="$work/postgres/data" "$work/postgres/data/$file"
done
scripts/runbook.sh database | sed 's/DATABASE plenum /DATABASE polls /; s/plenum LOGIN/voter LOGIN/; s/OWNER plenum/OWNER voter/' |
    ask "$url" >/dev/null
for ((tries = 0; tries < 50; tries++)); do # the settings are read a moment later
    if ask -c 'SELECT 1' "${url/disable/require}" >/dev/null 2>&1; then break; fi
    sleep 0.1
done
database_port=${url#*127.0.0.1:}
port() { scripts/postgres.sh port; }
listen=127.0.0.1:$(port) ops=127.0.0.1:$(port) agent=127.0.0.1:$(port)
# Of the sockets' order and of the command's words it is the unit that says. A database on this machine is asked for no proof
# unless the address says so; that of the runbook is on another one.
there="voter:CHANGE-ME@127.0.0.1:${database_port%%/*}/polls?sslmode=verify-full"
mapfile -t environment < <(scripts/runbook.sh environment | sed -e "s|plenum:CHANGE-ME@10.0.0.20/plenum?|$there\&|" \
    -e "s|/etc/ssl/|$work/|" -e "s/10.0.0.10/127.0.0.1/" -e "s/10.0.0.1:9465/$agent/" &&
    sed -n 's/^Environment=//p' deploy/systemd/plenum.service)
read -ra command < <(sed -n 's|^ExecStart=/usr/local/bin/plenum ||p' deploy/systemd/plenum.service)
((${#environment[@]} >= 9 && ${#command[@]} >= 5)) || fail 'settings or command were not found'
handed=()
for setting in "${environment[@]}"; do handed+=(-E "$setting"); done
systemd-socket-activate -l "$listen" -l "$ops" "${handed[@]}" "$plenum" "${command[@]}" 2>"$work/plenum.log" &
server=$!
# The first call starts it, and waits in the socket's queue meanwhile.
for ((tries = 0; tries < 50; tries++)); do
    if curl -fsS -o /dev/null --max-time 20 "http://$ops/readyz" 2>/dev/null; then break; fi
    sleep 0.1
done
"$plenum" health --ops-listen "$ops"
grep -q '"message":"ready"' "$work/plenum.log" || fail 'no JSON in the log'
[ "$(curl -fsS "http://$ops/cluster" | grep -c '"id" *: *"plenum-1"')" -eq 1 ] || fail 'another name than the settings give'
exec 4<>"/dev/tcp/127.0.0.1/${agent##*:}"
read -r -t 5 -u 4 said
[ "$said" = 'ready up 100%' ] || fail "the agent says: $said"
encrypted="SELECT bool_and(ssl)::text || count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE usename = 'voter'"
[[ $(ask -c "$encrypted" "$url") == true[1-9]* ]] || fail 'the database is not spoken to by TLS'
# A proxy is told apart: with its header the call is answered, without it is cut.
create=(curl -fsS --max-time 5 "http://$listen/v1/sessions" -H 'Authorization: Bearer CHANGE-ME' -d '{"title":"Host"}')
"${create[@]}" --haproxy-protocol | grep -q 'https://polls.example/' || fail 'no link to the public address'
! "${create[@]}" >/dev/null 2>&1 || fail 'served without a PROXY header'
kill -TERM "$server"
wait "$server"
server=
echo "systemd: unit, drop-in and settings of the runbook fit; served on the sockets that were handed over, with its certificate"
