#!/usr/bin/env bash
# Runs the demo in the directory $1 up to the report; a second run must have nothing to do.
set -euo pipefail
hamflow="${CARGO_TARGET_DIR:-target}/release/hamflow"
[ -x "$hamflow" ] || { echo "$hamflow does not exist; run cargo build --release first" >&2; exit 1; }
hamflow=$(realpath "$hamflow")
cp pipeline.toml "$1/"
cd "$1"
time "$hamflow" run --profile demo
"$hamflow" run --profile demo --json | tee again.json
grep -q '"event":"run_finished","ran":0,"cached":0' again.json
"$hamflow" dag --profile demo
"$hamflow" metrics --profile demo
python3 - out/evaluate/metrics.json <<'P'
import json, sys
value = json.load(open(sys.argv[1]))["test"]["balanced_accuracy"]
print("test balanced accuracy of the demo:", value)
assert 0.4 <= value <= 0.95, "the demo should be learnable and not trivial"
P
grep -qi "synthetic data" out/report/index.html
"$hamflow" cache verify --profile demo
