#!/usr/bin/env bash
# Writes the seeds of the engine's targets, from what a small pipeline leaves behind: bash fuzz/seeds.sh PROGRAM
# PROGRAM is `hamflow` with the toy kinds: cargo build --example toy
set -euo pipefail
program=$(realpath "$1")
seeds=$(cd "$(dirname "$0")" && pwd)/seeds
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"
mkdir data remote
for name in a1 a2 b1; do echo "keep $name" > "data/$name.txt"; done
key=$("$program" cache keygen 2> /dev/null)
cat > pipeline.toml <<TOML
[inputs]
data = "data"
rows = "data/a1.txt"
[stages.pieces]
folder = "inputs.data"
[stages.rows]
from = "inputs.rows"
[stages.shout]
from = "rows"
[cache.remote]
url = "$project/remote"
[cache.remote.keys]
main = ["$(sed -n 2p <<< "$key")"]
TOML
HAMFLOW_SIGNING_KEY=$(sed -n 1p <<< "$key") "$program" run 2> /dev/null
"$program" cache export bundle.tar > /dev/null
put() { mkdir -p "$seeds/$1"; cat > "$seeds/$1/$2"; }
echo -n 'shards/part-0001.arrow' | put path plain
echo -n '../../etc/passwd' | put path upwards
grep -lr '^hamflow-tree 1' cache/cas | head -n 1 | xargs cat | put tree part
count=0
for result in $(find cache/ac -type f | sort); do
  count=$((count + 1)); tail -n +2 "$result" | put result "$count"
  [ "$count" -lt 4 ] || break
done
find remote/ac -type f | sort | head -n 1 | xargs cat | put envelope signed
find remote/ac -type f | sort | head -n 1 | xargs tail -n 1 | put envelope body
find remote/pack -type f | sort | head -n 1 | xargs cat | put pack small
put bundle export < bundle.tar
put lock pipeline < pipeline.lock
find cache/memo -type f | sort | head -n 1 | xargs cat | put memo answer
find cache/runs -name record.json | head -n 1 | xargs sed -E 's/"host": "[^"]*"/"host": "machine"/; s|"/[^"]*/toy"|"hamflow"|' | put record run
put laid out < cache/laid
# Behind the magic (16 bytes) and the checksum (32).
tail -c +49 cache/index | put index stats
