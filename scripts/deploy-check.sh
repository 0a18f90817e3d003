#!/usr/bin/env bash
# Every file of deploy/ is looked at by the tool that knows it: promtool (rules and their unit tests, configuration),
# kustomize and the schemas of Kubernetes, the schema of Compose, Grafana's types, systemd-analyze, a run of the topology, and
# a small run of the orchestrator's loop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools=target/deploy-tools
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! "$tools/bin/python" -c 'import compose_spec, grafana_foundation_sdk, kubernetes_validate' 2>/dev/null; then
    python3 -m venv "$tools"
    "$tools/bin/pip" install --quiet --disable-pip-version-check kubernetes-validate==1.37.0 compose-spec==0.2.1 pyyaml \
        'grafana-foundation-sdk==1769699998!10.1.0'
fi

promtool check config deploy/prometheus/prometheus.yml
promtool test rules deploy/prometheus/alerts_test.yml

"$tools/bin/python" - deploy/compose.yml <<'PY'
import sys, yaml, compose_spec
text = open(sys.argv[1]).read()
plain = yaml.safe_load(text)  # merges what << names
for name in [name for name in plain if name.startswith("x-")]:
    del plain[name]
compose_spec.PyCompose.from_yaml(yaml.safe_dump(plain)).validate()
typo = yaml.safe_dump(plain).replace("stop_grace_period", "stop_grase_period")
try:
    compose_spec.PyCompose.from_yaml(typo)
except ValueError:
    print("compose.yml: valid; a misspelt key would not be")
else:
    sys.exit("the schema of Compose lets anything pass")
for folder in ("prometheus", "grafana/provisioning"):
    import glob
    for name in glob.glob(f"deploy/{folder}/*.yml"):
        yaml.safe_load(open(name))
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
for folder in deploy/kubernetes/base deploy/kubernetes/overlays/*; do
    name=$(basename "$folder")
    if command -v kubectl >/dev/null 2>&1; then
        kubectl kustomize "$folder" >"$work/$name.yaml"
    else
        for file in "$folder"/*.yaml; do
            case $file in */kustomization.yaml | */adapter-rule.yaml) ;; *) printf -- '---\n' && cat "$file" ;; esac
        done >"$work/$name.yaml"
    fi
    # 1.30 is the oldest that has the kubelet's sleep. Kinds of other projects (KEDA, the Prometheus operator) have no schema there.
    for version in 1.30 1.37; do
        said=$("$tools/bin/kubernetes-validate" --strict -k "$version" "$work/$name.yaml" 2>&1) || {
            printf '%s\n' "$said" >&2
            exit 1
        }
    done
    [ "$(grep -c "Couldn't find schema" <<<"$said" || true)" -le 1 ] || { printf '%s\n' "$said" >&2 && exit 1; }
    echo "kubernetes/$name: $(grep -c passed <<<"$said") kinds valid"
done

if command -v systemd-analyze >/dev/null 2>&1; then
    # The executable is not installed here, and verify wants one.
    cp deploy/systemd/plenum.socket "$work/"
    sed "s|/usr/local/bin/plenum|$(command -v true)|" deploy/systemd/plenum.service >"$work/plenum.service"
    said=$(systemd-analyze verify "$work/plenum.service" "$work/plenum.socket" 2>&1) || { printf '%s\n' "$said" >&2 && exit 1; }
    [ -z "$(grep -F "$work" <<<"$said" || true)" ] || { printf '%s\n' "$said" >&2 && exit 1; }
    systemd-analyze security --offline=true --threshold=20 "$work/plenum.service" | tail -n 1
else
    echo 'systemd-analyze is not here, so the unit is not checked'
fi

scripts/topology-check.sh

# The orchestrator's loop, small: instances are started and drained as the signal says. Its figures are of a debug build.
python3 deploy/local/timeline.py
PLENUM_PROFILE=debug deploy/local/autoscale.py --small --out target/autoscale-small
