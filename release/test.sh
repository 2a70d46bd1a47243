#!/usr/bin/env bash
# Tests what release/build.sh made, as someone without a compiler: installs the wheel and unpacks the archive into empty
# directories, and runs the demo.
#
#   bash release/test.sh FOLDER
set -euo pipefail
folder=$(cd "$1" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "release: $1" >&2; exit 1; }

python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q --disable-pip-version-check --no-index "$folder"/hamflow-*.whl
program="$work/venv/bin/hamflow"
[ -f "$work/venv/share/man/man1/hamflow-run.1" ] || fail "the wheel has no man pages"
[ -f "$work/venv/share/bash-completion/completions/hamflow" ] || fail "the wheel has no completions"

tar -C "$work" -xzf "$folder"/hamflow-*.tar.gz
unpacked=$(echo "$work"/hamflow-*/bin/hamflow)
cmp "$program" "$unpacked" || fail "the wheel and the archive have different binaries"
! ldd "$unpacked" 2>&1 | grep -q '=>' || fail "the binary is not static"
size=$(stat -c %s "$unpacked")
[ "$size" -lt $((40 * 1000 * 1000)) ] || fail "the binary has $size bytes, more than 40 MB"

# With nothing on the path but the shell's own programs, in a directory without a pipeline.
mkdir "$work/project"
cd "$work/project"
env -i PATH=/usr/bin:/bin HOME="$work" "$program" run --profile demo
[ -s out/report/index.html ] || fail "the demo made no report"
echo "the wheel and the archive work; the binary has $((size / 1000000)) MB"
