#!/usr/bin/env bash
# Runs the checks: format, lints, documentation, tests, and end-to-end runs of the program.
#
#   bash tests/check.sh             everything, as CI does
#   bash tests/check.sh quick       format, lints, layers, unit and engine tests: no network, no root
#   bash tests/check.sh services    all tests, also those that need servers, Python packages, mounts or the real data
#   bash tests/check.sh real        the demo and the real data
#   bash tests/check.sh browser     the pages of the real data, in a browser too
#   bash tests/check.sh release     the wheel and the archive, built and installed
#
# The real data is expected at $HAMFLOW_DATA or ../shared. With CI=true, everything must be there.
set -euo pipefail
cd "$(dirname "$0")/.."
wanted="${1:-all}"
case "$wanted" in all | quick | services | real | browser | release) ;; *) sed -n '2,11s/^# \{0,1\}//p' "$0" >&2; exit 2 ;; esac
step() { printf '\n== %s (%s s)\n' "$1" "$SECONDS"; }
# Whether one of these steps was asked for.
for_step() { local step; for step in all "$@"; do [ "$wanted" = "$step" ] && return 0; done; return 1; }
# In CI everything must be there; elsewhere, says what is not checked.
missing() {
  [ "${CI:-}" != true ] || { echo "CI must have $1" >&2; exit 1; }
  echo "not checked, because there is no $1: $2"
}
apt() { [ "$(id -u)" = 0 ] && command -v apt-get > /dev/null && { apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" > /dev/null || echo "cannot install $*"; }; }
removed=()
trap 'rm -rf ${removed[@]+"${removed[@]}"}' EXIT
data="${HAMFLOW_DATA:-../shared}"
caches="${XDG_CACHE_HOME:-$HOME/.cache}"

# What ignored tests need: the reasons of `#[ignore = "needs …"]`.
needs() { grep -rhoP '#\[ignore = "needs \K[^"]+' tests src stages --include='*.rs' | sort -u; }
tests_that_need() {
  find tests src stages -name '*.rs' -exec cat {} + |
    awk -v reason="#[ignore = \"needs $1\"]" 'index($0, reason) { found = 1 } found && match($0, /fn [a-z0-9_]+/) { print substr($0, RSTART + 3, RLENGTH - 3); found = 0 }'
}
python_has() { "${HAMFLOW_PYTHON:-python3}" -c "import $1"; }
is_there() {
  case "$1" in
    "a C++ compiler") command -v "${CXX:-c++}" ;;
    "a GPU") nvidia-smi -L ;;
    "an evictable page cache") [ "${CI:-}" = true ] || [ "$(stat -f -c %T "${TMPDIR:-/tmp}")" != tmpfs ] ;;
    cjpeg) command -v cjpeg && command -v djpeg && command -v jpegtran && python_has "numpy, PIL" ;;
    Azurite) [ -f "${HAMFLOW_AZURITE:-}" ] && command -v node ;;
    faketime) command -v faketime ;;
    Landlock) [[ "$(cat /sys/kernel/security/lsm 2> /dev/null)" == *landlock* ]] || python3 -c 'import ctypes; exit(ctypes.CDLL(None).syscall(444, None, 0, 1) < 1)' ;;
    gcp-storage-emulator) python_has gcp_storage_emulator ;;
    "mount namespaces") unshare --map-root-user --mount sh -c 'mount -t tmpfs tmpfs /mnt' ;;
    nginx) command -v nginx ;;
    NVRTC) [ -n "$(nvrtc)" ] || ldconfig -p | grep -q libnvrtc.so ;;
    "Python packages") python_has "datasets, isic_challenge_scoring, matplotlib, numpy, onnx, onnxruntime, pandas, polars, pyarrow, safetensors, sklearn, tensorboard, yaml" ;;
    PyTorch) python_has torch ;;
    reflinks) shares_blocks "${TMPDIR:-/tmp}" ;;
    Slurm) command -v sinfo && sinfo --noheader --format=%t | grep -qE 'idle|mix|alloc' ;;
    s3s-fs) [ -x "${HAMFLOW_S3_SERVER:-}" ] ;;
    "the real data") [ -d "$data/ham10000" ] && [ -d "$data/ham10000-originals" ] ;;
    uv) [ -x "$(dirname "${HAMFLOW_PYTHON:-/}")/uv" ] ;;
    "uncached writes") python3 -c 'import os, tempfile; os.pwritev(tempfile.TemporaryFile().fileno(), [b"x"], 0, 0x80)' ;;
    *) false ;;
  esac > /dev/null 2>&1
}
nvrtc() { "${HAMFLOW_PYTHON:-python3}" -c 'import nvidia.cu13; print(list(nvidia.cu13.__path__)[0])' 2> /dev/null || true; }
shares_blocks() {
  local folder shared=1
  folder=$(mktemp -d -p "$1")
  echo text > "$folder/from"
  cp --reflink=always "$folder/from" "$folder/to" 2> /dev/null && shared=0
  rm -rf "$folder"
  return "$shared"
}
# Sets `chosen`, the arguments of a test program that select all tests whose needs are met.
choose_tests() {
  local need name names
  chosen=(--include-ignored)
  while read -r need; do
    is_there "$need" && continue
    names=$(tests_that_need "$need")
    case "$need" in
      # CI may lack these. Tests on a file system with reflinks are a step of their own.
      "a GPU" | Landlock | PyTorch | reflinks | "uncached writes") echo "not run here, needs $need:" $names ;;
      *) missing "$need" "$(echo $names)" ;;
    esac
    for name in $names; do chosen+=(--skip "$name"); done
  done < <(needs)
}

if for_step quick; then
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
fi

if [ "$wanted" = quick ]; then
  # In memory if possible: the tests sync thousands of files. The other steps use a disk.
  if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then
    TMPDIR=$(mktemp -d -p /dev/shm)
    removed+=("$TMPDIR")
    export TMPDIR
  fi
  step "unit tests"
  cargo test --release --lib
  step "tests of the engine, with its layers"
  cargo test --release -p hamflow --no-default-features
fi

if for_step; then
  step "documentation"
  RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps
  RUSTDOCFLAGS="-D warnings" cargo doc --release --no-deps --features cuda
fi

if for_step services; then
  step "Python packages"
  if [ -z "${HAMFLOW_PYTHON:-}" ]; then
    venv="$caches/hamflow-python"
    if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import datasets, gcp_storage_emulator, matplotlib, numpy, isic_challenge_scoring, nvidia.cu13, pandas, PIL, polars, pyarrow, safetensors, sklearn, tensorboard, yaml' 2>/dev/null || [ ! -x "$venv/bin/uv" ]; then
      python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check datasets gcp-storage-emulator isic-challenge-scoring matplotlib numpy 'pandas<3' pillow 'nvidia-cuda-nvrtc==13.*' onnx onnxruntime polars pyarrow safetensors scikit-learn tensorboard pyyaml uv \
        || echo "cannot install the Python packages"
    fi
    export HAMFLOW_PYTHON="$venv/bin/python"
  fi

  step "servers"
  { command -v nginx && command -v faketime && command -v cjpeg; } > /dev/null || apt nginx-light faketime libjpeg-turbo-progs || true
  servers="$caches/hamflow-servers"
  if [ ! -x "$servers/bin/s3s-fs" ]; then
    # In a separate target directory, since it needs other features of its dependencies.
    CARGO_TARGET_DIR="$servers/target" cargo install -q --root "$servers" --locked --features binary s3s-fs@0.14.1 || echo "cannot install s3s-fs"
    rm -rf "$servers/target"
  fi
  if command -v npm > /dev/null && [ ! -d "$servers/node_modules/azurite" ]; then
    npm install --prefix "$servers" --no-audit --no-fund --silent azurite@3.37.0 || echo "cannot install Azurite"
  fi
  export HAMFLOW_S3_SERVER="$servers/bin/s3s-fs" HAMFLOW_AZURITE="$servers/node_modules/azurite/dist/src/blob/main.js"

  # A Slurm of this machine alone, on loopback.
  if [ "$(id -u)" = 0 ]; then
    command -v slurmctld > /dev/null || apt slurmctld slurmd slurm-client munge || true
    slurm=$(mktemp -d)
    removed+=("$slurm")
    if command -v slurmctld > /dev/null && bash tests/slurm.sh "$slurm"; then
      export SLURM_CONF="$slurm/slurm.conf"
      trap 'bash tests/slurm.sh stop "$slurm"; rm -rf ${removed[@]+"${removed[@]}"}' EXIT
    fi
  fi

  step "tests"
  choose_tests
  cargo test --release -- "${chosen[@]}"

  step "tests on a file system with reflinks"
  command -v mkfs.xfs > /dev/null || apt xfsprogs || true
  sharing=$(mktemp -d)
  removed+=("$sharing")
  mkdir "$sharing/mounted"
  # An XFS image, mounted in a private mount namespace.
  mounted='mount -o loop "$0/xfs" "$0/mounted"'
  if ! command -v mkfs.xfs > /dev/null; then
    missing mkfs.xfs "reflinks"
  elif truncate -s 4G "$sharing/xfs" && mkfs.xfs -q "$sharing/xfs" && unshare --mount sh -c "$mounted" "$sharing"; then
    with_reflinks=("${chosen[@]}")
    for name in $(tests_that_need reflinks); do
      for index in "${!with_reflinks[@]}"; do
        [ "${with_reflinks[index]}" != "$name" ] || unset "with_reflinks[index]" "with_reflinks[index-1]"
      done
    done
    # The nodes of Slurm are outside of the namespace and do not see the projects in it.
    for name in $(tests_that_need Slurm); do with_reflinks+=(--skip "$name"); done
    unshare --mount sh -c "$mounted && TMPDIR=\"\$0/mounted\" cargo test --release --test promises -- \"\$@\"" "$sharing" "${with_reflinks[@]}"
  else
    echo "not checked, because XFS cannot be mounted: reflinks"
  fi

  step "tests of the engine without built-in kinds"
  cargo test --release -p hamflow --no-default-features -- "${chosen[@]}"
fi

if for_step; then
  step "the portable implementation"
  # What macOS would compile (src/sys/portable.rs), with dependencies of its own: the flag is in their fingerprints.
  python3 tests/portable.py
  RUSTFLAGS="${RUSTFLAGS:-} --cfg hamflow_portable" CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/portable" \
    cargo test --release -p hamflow -p hamflow-stage-api -p hamflow-process --no-default-features -- "${chosen[@]}"
fi

if for_step services; then
  step "CUDA, without a GPU"
  # NVRTC compiles the kernels without a device or driver.
  nvrtc=$(nvrtc)
  (
    [ -z "$nvrtc" ] || export LD_LIBRARY_PATH="$nvrtc/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
    for module in cuda:: device::; do
      cargo test -q --release --features cuda --lib -- "$module" --list | grep ': test$' > /dev/null || { echo "no tests in $module" >&2; exit 1; }
    done
    cargo test --release --features cuda --lib -- cuda:: device:: "${chosen[@]}"
  )

  step "CUDA, on a stand-in for NVIDIA's libraries"
  if [ -n "$nvrtc" ]; then
    cargo build --release --features cuda
    stand_in=$(mktemp -d)
    removed+=("$stand_in")
    bash tests/cuda/build.sh "$stand_in"
    "$HAMFLOW_PYTHON" tests/cuda/test.py "${CARGO_TARGET_DIR:-target}/release/hamflow" "$stand_in" "$nvrtc/lib"
  else
    missing NVRTC "tests/cuda/test.py"
  fi
fi

if for_step real; then
  step "demo"
  cargo build --release
  demo=$(mktemp -d)
  removed+=("$demo")
  bash tests/demo.sh "$demo"
fi

if for_step browser; then
  step "browser"
  modules="$caches/hamflow-browser"
  [ -x /usr/bin/chromium ] || apt chromium fonts-dejavu-core || true
  if command -v npm > /dev/null && [ ! -d "$modules/node_modules/axe-core" ]; then
    npm install --prefix "$modules" --no-audit --no-fund --silent playwright-core@1.65.1 axe-core@4.14.1 || echo "cannot install playwright-core and axe-core"
  fi
  if [ -x /usr/bin/chromium ] && [ -d "$modules/node_modules/axe-core" ]; then
    export HAMFLOW_BROWSER_MODULES="$modules"
  else
    missing "Chromium with Node.js, playwright-core and axe-core" "pages in a browser"
  fi
fi

if for_step browser && [ -n "${HAMFLOW_BROWSER_MODULES:-}" ]; then
  step "the live view of the demo"
  cargo build --release
  live=$(mktemp -d)
  removed+=("$live")
  cp pipeline.toml "$live/"
  node tests/live.mjs "$HAMFLOW_BROWSER_MODULES" "${CARGO_TARGET_DIR:-target}/release/hamflow" "$live" ${HAMFLOW_SCREENSHOTS:+"$HAMFLOW_SCREENSHOTS"}

  step "the images of the README"
  images=$(mktemp -d)
  removed+=("$images")
  node docs/images/screenshots.mjs "$HAMFLOW_BROWSER_MODULES" "${CARGO_TARGET_DIR:-target}/release/hamflow" "$images"
  for image in docs/images/*.png docs/images/*.svg; do [ -s "$images/${image##*/}" ] || { echo "docs/images/screenshots.mjs does not make $image" >&2; exit 1; }; done
fi

if for_step real browser; then
  step "real data"
  cargo build --release
  if [ -d "$data/ham10000" ]; then
    bash tests/real.sh "$data"
  else
    missing "real data at $data" "tests/real.sh"
  fi
fi

if for_step release; then
  step "release"
  venv="$caches/hamflow-maturin"
  if [ ! -x "$venv/bin/maturin" ]; then
    python3 -m venv "$venv" && "$venv/bin/pip" install -q --disable-pip-version-check 'maturin>=1.9,<2' || echo "cannot install maturin"
  fi
  if [ -x "$venv/bin/maturin" ]; then
    released=$(mktemp -d)
    removed+=("$released")
    PATH="$venv/bin:$PATH" bash release/build.sh "$released"
    bash release/test.sh "$released"
  else
    missing maturin "the wheel and the archive"
  fi
fi
step "the checks passed: $wanted"
