#!/usr/bin/env bash
# Kills a small pipeline of the built-in stages with SIGKILL at random instants, then lets it finish. The results must be identical to
# those of an undisturbed run, and the store must be intact. `bash bench/kill.sh [TIMES]`, 200 by default; needs a release build.
set -euo pipefail
cd "$(dirname "$0")/.."
hamflow=$(realpath "${CARGO_TARGET_DIR:-target}/release/hamflow")
times=${1:-200}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
options=(--profile demo --set stages.synthetic.images=160 --set stages.train.epochs=1
  --set stages.preprocess.height=12 --set stages.preprocess.width=16 --set stages.preprocess.part_size=16)
fresh() { rm -rf "$work/$1"; mkdir -p "$work/$1"; cp pipeline.toml "$work/$1/"; }
sums() { (cd "$work/$1/out" && find . -type f | sort | xargs -d '\n' sha256sum | sha256sum); }

fresh whole
start=$(date +%s%N)
(cd "$work/whole" && "$hamflow" run "${options[@]}" 2> /dev/null)
wall_ms=$((($(date +%s%N) - start) / 1000000))
wanted=$(sums whole)
echo "an undisturbed run takes $wall_ms ms"
for ((i = 1; i <= times; i++)); do
  # Every fourth time from scratch; otherwise with the state that the last killed run left.
  if ((i % 4 == 1)); then fresh killed; else rm -rf "$work/killed/out"; fi
  (cd "$work/killed" && exec setsid "$hamflow" run "${options[@]}" 2> /dev/null) &
  pid=$!
  sleep "$(awk -v ms="$wall_ms" -v seed="$RANDOM" 'BEGIN { srand(seed); printf "%.3f", rand() * ms / 1000 }')"
  kill -9 "$pid" 2> /dev/null || true
  wait "$pid" 2> /dev/null || true
  if ((i % 4 == 0)); then
    (cd "$work/killed" && "$hamflow" run "${options[@]}" 2> /dev/null)
    [ "$(sums killed)" = "$wanted" ] || { echo "after $i kills the results differ" >&2; exit 1; }
    (cd "$work/killed" && "$hamflow" cache verify "${options[@]}" > /dev/null) || { echo "after $i kills the store is damaged" >&2; exit 1; }
    printf '\r%d kills, same bytes' "$i"
  fi
done
echo
