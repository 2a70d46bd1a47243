#!/usr/bin/env bash
# Writes the seeds of the stages' targets: bash fuzz/stage-seeds.sh PROGRAM CORPUS
# PROGRAM is `hamflow`; CORPUS is the folder that `python3 tests/jpegs.py CORPUS` wrote.
set -euo pipefail
program=$(realpath "$1")
corpus=$(realpath "$2")
root=$(cd "$(dirname "$0")/.." && pwd)
seeds=$root/fuzz/seeds
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
cd "$project"
put() { mkdir -p "$seeds/$1"; cat > "$seeds/$1/$2"; }
cat > pipeline.toml <<'TOML'
[stages.synthetic]
images = 100
height = 24
width = 32
[stages.metadata]
csv = "synthetic.metadata"
images = "synthetic.images"
[stages.preprocess]
table = "metadata"
images = "synthetic.images"
height = 4
width = 5
part_size = 8
[stages.split]
table = "metadata"
[stages.train]
shards = "preprocess"
split = "split"
epochs = 1
batch_size = 30
TOML
"$program" run 2> /dev/null
# A seal is written once the inputs are older than a tick of the clock.
until [ -f cache/seal ]; do "$program" run 2> /dev/null; done
# Behind the magic (15 bytes) and the checksum (32).
tail -c +48 cache/seal | put seal run
put card trained < out/train/model/card.json
put shard small < "$(find out/preprocess/shards -name '*.arrow' | sort | head -n 1)"
head -n 5 out/synthetic/*.csv | put csv ham10000
printf 'sep=;\r\n# remark\r\nlesion id;"a ""b""";c\r\n1;x y;\r\n;;\r\n' | put csv spreadsheet
printf '"a","b"\n"1","x",NA\n"2","y",3\n' | put csv rows-of-r
printf '\xff\xfea\x00,\x00b\x00\n\x001\x00,\x002\x00\n\x00' | put csv utf16
put pipeline small < pipeline.toml
put pipeline ham10000 < "$root/pipeline.toml"
put pipeline matrix < "$root/examples/matrix/pipeline.toml"
put pipeline command < "$root/examples/command/pipeline.toml"
for codec in none gzip brotli lz4 zstd; do put parquet "$codec" < "$root/stages/ml/src/table/fixtures/$codec.parquet"; done
# Two tensors: a header of JSON behind its length, then the numbers.
header='{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[],"data_offsets":[8,12]}}'
length=$(printf '\\x%x' "${#header}")
{ printf "$length"'\0\0\0\0\0\0\0'; printf '%s' "$header"; printf '\0\0\200?\0\0\0@\0\0@@'; } | put safetensors two
put line pipe <<< 'cat {inputs.x} | awk '"'{{print}}'"' > {outputs.y}; echo "$(ls {params.z})" # {threads}'
printf 'python3 <<E\nprint({params.a})\nE\necho `x` $(( 1 + {threads} )) \\{params.b}' | put line places
for name in interleaved-2x2_1x1_1x1 separate-2x2_1x1_1x1 progressive-2x2_1x1_1x1 separate-restart-rows-2x2_1x1_1x1; do
  put jpeg "$name" < "$corpus/sampling-common-$name.jpg"
done
put jpeg finer-chroma < "$corpus/sampling-chroma-finer-interleaved-1x1_2x2_2x2.jpg"
put jpeg adobe < "$corpus/colour-adobe-twice.jpg"
