#!/usr/bin/env bash
# Runs all checks: format, lints, documentation, tests, and end-to-end runs of the program.
#
#   bash tests/check.sh          everything
#   bash tests/check.sh quick    without the demo and the real data
#
# The real data is expected at $HAMFLOW_DATA or ../shared; it is optional unless CI=true.
set -euo pipefail
cd "$(dirname "$0")/.."
step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }

step "format"
cargo fmt --all --check

step "dependency features"
# Development dependencies must not enable further features of normal dependencies, which would then be compiled twice, polars included.
features() { cargo tree --workspace -f '{p} {f}' --prefix none -e "$1" | sed 's/ (\*)//' | sort -u; }
twice=$(comm -23 <(features normal,build) <(features normal,build,dev))
[ -z "$twice" ] || { echo "compiled with other features for tests: $twice" >&2; exit 1; }

step "lints"
# Always select all packages or only the engine: other selections unify features differently and compile polars again.
cargo clippy --release --all-targets -- -D warnings
cargo clippy --release --all-targets --features cuda -- -D warnings
cargo clippy --release -p hamflow --no-default-features --all-targets -- -D warnings

step "documentation"
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --features cuda

step "Python packages"
if [ -z "${HAMFLOW_PYTHON:-}" ]; then
  venv="${XDG_CACHE_HOME:-$HOME/.cache}/hamflow-python"
  if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import datasets, gcp_storage_emulator, numpy, nvidia.cu13, polars, pyarrow, safetensors, tensorboard, yaml' 2>/dev/null; then
    python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check datasets gcp-storage-emulator numpy 'nvidia-cuda-nvrtc==13.*' polars pyarrow safetensors tensorboard pyyaml \
      || echo "cannot install the Python packages; tests that need them are skipped"
  fi
  export HAMFLOW_PYTHON="$venv/bin/python"
fi

step "servers"
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! { command -v nginx && command -v faketime; } > /dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light faketime > /dev/null || echo "cannot install nginx and faketime"
fi
servers="${XDG_CACHE_HOME:-$HOME/.cache}/hamflow-servers"
if [ ! -x "$servers/bin/s3s-fs" ]; then
  # In a separate target directory, since it needs other features of its dependencies.
  CARGO_TARGET_DIR="$servers/target" cargo install -q --root "$servers" --locked --features binary s3s-fs@0.14.1 || echo "cannot install s3s-fs"
  rm -rf "$servers/target"
fi
if command -v npm > /dev/null && [ ! -d "$servers/node_modules/azurite" ]; then
  npm install --prefix "$servers" --no-audit --no-fund --silent azurite@3.37.0 || echo "cannot install Azurite"
fi
export HAMFLOW_S3_SERVER="$servers/bin/s3s-fs" HAMFLOW_AZURITE="$servers/node_modules/azurite/dist/src/blob/main.js"

step "tests"
cargo test --release

step "tests on a file system with reflinks"
if [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null && ! command -v mkfs.xfs > /dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends xfsprogs > /dev/null || echo "cannot install mkfs.xfs"
fi
sharing=$(mktemp -d)
trap 'rm -rf "$sharing"' EXIT
mkdir "$sharing/mounted"
# An XFS image, mounted in a private mount namespace.
mounted='mount -o loop "$0/xfs" "$0/mounted"'
if ! command -v mkfs.xfs > /dev/null; then
  [ "${CI:-}" != true ] || { echo "CI must have mkfs.xfs" >&2; exit 1; }
  echo "SKIPPED: no mkfs.xfs, reflinks are not tested"
elif truncate -s 4G "$sharing/xfs" && mkfs.xfs -q "$sharing/xfs" && unshare --mount sh -c "$mounted" "$sharing"; then
  unshare --mount sh -c "$mounted && TMPDIR=\"\$0/mounted\" HAMFLOW_SHARES_BLOCKS=1 cargo test --release --test promises" "$sharing"
else
  echo "SKIPPED: cannot mount XFS, reflinks are not tested"
fi

step "tests of the engine without built-in kinds"
cargo test --release -p hamflow --no-default-features

step "the portable implementation"
# What macOS would compile (src/sys/portable.rs), with dependencies of its own: the flag is in their fingerprints.
python3 tests/portable.py
RUSTFLAGS="${RUSTFLAGS:-} --cfg hamflow_portable" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/portable" \
  cargo test --release -p hamflow --no-default-features

step "CUDA, without a GPU"
# NVRTC compiles the kernels without a device or driver.
nvrtc=$("$HAMFLOW_PYTHON" -c 'import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])' 2> /dev/null || true)
if [ -z "$nvrtc" ] && ! ldconfig -p 2> /dev/null | grep -q libnvrtc.so; then
  # If CI=true, the test fails.
  echo "SKIPPED: no NVRTC (pip install 'nvidia-cuda-nvrtc==13.*'), the kernels are not compiled"
fi
(
  [ -z "$nvrtc" ] || export LD_LIBRARY_PATH="$nvrtc/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
  cargo test --release --features cuda --lib -- ml::cuda ml::device
)

[ "${1:-}" = quick ] && exit 0

step "demo"
cargo build --release
demo=$(mktemp -d)
trap 'rm -rf "$sharing" "$demo"' EXIT
bash tests/demo.sh "$demo"

step "browser"
modules="${XDG_CACHE_HOME:-$HOME/.cache}/hamflow-browser"
if [ ! -x /usr/bin/chromium ] && [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null; then
  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core > /dev/null || echo "cannot install Chromium"
fi
if command -v npm > /dev/null && [ ! -d "$modules/node_modules/axe-core" ]; then
  npm install --prefix "$modules" --no-audit --no-fund --silent playwright-core@1.65.1 axe-core@4.14.1 || echo "cannot install playwright-core and axe-core"
fi
if [ -x /usr/bin/chromium ] && [ -d "$modules/node_modules/axe-core" ]; then
  export HAMFLOW_BROWSER_MODULES="$modules"
elif [ "${CI:-}" = true ]; then
  echo "CI must have Chromium, Node.js, playwright-core and axe-core" >&2
  exit 1
else
  echo "SKIPPED: no Chromium with playwright-core and axe-core, the pages are not tested"
fi

step "real data"
data="${HAMFLOW_DATA:-../shared}"
if [ -d "$data/ham10000" ]; then
  bash tests/real.sh "$data"
elif [ "${CI:-}" = true ]; then
  echo "the real data is not at $data, and CI must have it" >&2
  exit 1
else
  echo "SKIPPED: the real data is not at $data"
fi
step "all checks passed"
