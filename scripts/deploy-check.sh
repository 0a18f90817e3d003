#!/usr/bin/env bash
# Every file of deploy/ is looked at by the tool that knows it: promtool (rules and their unit tests, configuration),
# kustomize and the schemas of Kubernetes, the schema of Compose, Grafana's types, systemd-analyze, a run of the topology, and
# a small run of the orchestrator's loop. So are the workflows beside it, and what docs/OPERATING.md says of the embedded
# PostgreSQL. tests/it/runbook.rs sees that no file is forgotten.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=target/deploy-tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$tools/bin/python" -c 'import check_jsonschema, grafana_foundation_sdk, kubernetes_validate' 2>/dev/null || [ ! -x "$tools/bin/zizmor" ]; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 check-jsonschema==0.39.0 \
        zizmor==1.32.0 pyyaml 'grafana-foundation-sdk==1769699998!10.1.0'
fi

promtool check config deploy/prometheus/prometheus.yml
promtool test rules deploy/prometheus/alerts_test.yml

# Schemas that come with the tool; a misspelt key has to be seen, or the file was not looked at.
fits() { "$tools/bin/check-jsonschema" --quiet --builtin-schema "vendor.$1" "${@:2}"; }
fits compose-spec deploy/compose.yml
fits github-workflows .github/workflows/*.yml
sed 's/stop_grace_period/stop_grase_period/' deploy/compose.yml >"$work/compose.yml"
sed 's/runs-on/run-on/' .github/workflows/release.yml >"$work/workflow.yml"
if fits compose-spec "$work/compose.yml" >/dev/null || fits github-workflows "$work/workflow.yml" >/dev/null; then
    echo 'the schemas of Compose or of workflows let anything pass' >&2 && exit 1
fi
"$tools/bin/zizmor" --offline --no-progress --quiet .github/workflows
echo 'compose.yml and the workflows: valid; a misspelt key would not be'

# Of Grafana's provisioning there is no schema; that it is YAML, and names folders and addresses that Compose gives it.
"$tools/bin/python" - <<'PY'
import sys, yaml
read = lambda name: yaml.safe_load(open(f"deploy/{name}"))
services = read("compose.yml")["services"]
folder = read("grafana/provisioning/dashboards.yml")["providers"][0]["options"]["path"]
url = read("grafana/provisioning/datasources.yml")["datasources"][0]["url"]
if f"./grafana:{folder}:ro" not in services["grafana"]["volumes"] or url != "http://prometheus:9090" or "prometheus" not in services:
    sys.exit(f"Grafana's provisioning names what Compose does not give it: {folder}, {url}")
PY

# Grafana's own types: what they do not know is lost when a dashboard is read and written again.
"$tools/bin/python" - deploy/grafana/*.json <<'PY'
import json, sys
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard
plugins.register_default_plugins()
def lost(before, after, at=""):
    if isinstance(before, dict) and isinstance(after, dict):
        return [more for key in before for more in (lost(before[key], after[key], f"{at}.{key}") if key in after else [f"{at}.{key}"])]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [more for nth, pair in enumerate(zip(before, after)) for more in lost(*pair, f"{at}[{nth}]")]
    return [] if before == after else [at]
def unknown(text):
    before = json.loads(text)
    return lost(before, json.loads(JSONEncoder().encode(Dashboard.from_json(before))))
texts = {name: open(name).read() for name in sys.argv[1:]}
wrong = {name: found for name, text in texts.items() if (found := unknown(text))}
if wrong:
    sys.exit(f"unknown to Grafana: {wrong}")
for typo in (("gridPos", "gridpos"), ('"expr"', '"expression"'), ("fieldConfig", "fieldconfig")):
    if not unknown(next(iter(texts.values())).replace(*typo)):
        sys.exit(f"the types of Grafana let {typo[1]} pass")
print(f"grafana: {len(texts)} dashboards hold nothing that its types do not know; misspelt keys would be seen")
PY

# By kubectl where there is one; otherwise file by file, which misses the overlays' patches (there are none so far).
for folder in deploy/kubernetes/base deploy/kubernetes/components/* deploy/kubernetes/overlays/*; do
    name=$(basename "$folder")
    if command -v kubectl >/dev/null 2>&1; then
        kubectl kustomize "$folder" >"$work/$name.yaml"
    else
        for file in "$folder"/*.yaml; do
            case $file in */kustomization.yaml | */adapter-rule.yaml) ;; *) printf -- '---\n' && cat "$file" ;; esac
        done >"$work/$name.yaml"
    fi
    # 1.30 is the oldest that has the kubelet's sleep. Kinds of KEDA and of the Prometheus operator have no schema there.
    for version in 1.30 1.37; do
        said=$("$tools/bin/kubernetes-validate" --strict -k "$version" "$work/$name.yaml" 2>&1) || {
            printf '%s\n' "$said" >&2
            exit 1
        }
    done
    foreign=$(grep -cE '^apiVersion: (keda\.sh|monitoring\.coreos\.com)/' "$work/$name.yaml" || true)
    [ "$(grep -c "Couldn't find schema" <<<"$said" || true)" -eq "$foreign" ] || { printf '%s\n' "$said" >&2 && exit 1; }
    echo "kubernetes/$name: $(grep -c passed <<<"$said") kinds valid"
done

# The alerts as the Prometheus operator takes them, by the runbook's block: the same groups, and nothing else.
ln -s "$PWD/deploy" "$work/deploy"
scripts/runbook.sh rules | (cd "$work" && bash -euo pipefail)
"$tools/bin/python" - "$work/plenum-rules.yaml" <<'PY'
import sys, yaml
rules, alerts = yaml.safe_load(open(sys.argv[1])), yaml.safe_load(open("deploy/prometheus/alerts.yml"))
if rules["kind"] != "PrometheusRule" or rules["spec"] != alerts or not alerts["groups"]:
    sys.exit("the runbook makes other rules of alerts.yml")
PY

# An embedded PostgreSQL is backed up, and the backup put into a new one, by the runbook's blocks.
(
    . scripts/scratch.sh embedded
    PATH=$(scripts/postgres.sh bin):$PATH
    mkdir "$work/old" "$work/new"
    start_server --data-dir "$work/old/.plenum"
    created=$(curl -fsS "$base/v1/sessions" -d '{"title":"Kept"}')
    field() { sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p" <<<"$created"; }
    scripts/runbook.sh embedded-backup | (cd "$work/old" && bash -euo pipefail)
    stop_server
    mv "$work/old/plenum.dump" "$work/new/"
    start_server --data-dir "$work/new/.plenum"
    scripts/runbook.sh embedded-restore | (cd "$work/new" && bash -euo pipefail) >/dev/null
    stop_server
    start_server --data-dir "$work/new/.plenum"
    curl -fsS "$base/v1/sessions/$(field id)" -H "Authorization: Bearer $(field presenter_token)" | grep -q '"Kept"' || fail 'the session is gone'
    stop_server
    echo 'embedded: backed up by its socket, and what it held is in a new one'
)

scripts/systemd-check.sh
scripts/topology-check.sh

# The orchestrator's loop, small: instances are started and drained as the signal says. Its figures are of a debug build.
python3 deploy/local/timeline.py
PLENUM_PROFILE=debug deploy/local/autoscale.py --small --out target/autoscale-small
