#!/usr/bin/env bash
# Builds the stand-in for NVIDIA's driver, cuBLAS and cuDNN into a folder, which then goes first into LD_LIBRARY_PATH.
#
#   bash tests/cuda/build.sh FOLDER
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
source="$here/../../stages/ml/src/cuda"
out="$1"
mkdir -p "$out"

# The kernels with a table of them, in the order of `kernel.rs`.
{
  cat "$source/source/host.h"
  for file in prelude batch layers maps norm loss optimiser; do cat "$source/source/$file.cu"; done
  echo 'static const std::vector<KernelEntry> kernel_entries = {'
  sed -nE 's/^    [A-Z][A-Za-z0-9]* = "([a-z0-9_]+)"( waits)?,$/\1\2/p' "$source/kernel.rs" | while read -r name waits; do
    echo "    {\"$name\", parameters_of($name), [](unsigned int blocks, void **arguments) { launch($name, blocks, BLOCK, $([ -n "$waits" ] && echo true || echo false), arguments); }},"
  done
  echo '};'
} > "$out/kernels.inc"

flags=(-std=c++17 -O2 -ffp-contract=off -fno-strict-aliasing -U_FORTIFY_SOURCE -fPIC -shared -Wall -Wno-unused-function -I "$out" -I "$here")
# Enables the FMA instruction; without it, each fused multiply-add is a function call.
if grep -qw fma /proc/cpuinfo 2> /dev/null; then flags+=(-mfma); fi
compiler="${CXX:-c++}"
# The kernels themselves are not visible.
echo '{ global: cu*; *stand_in*; *StandIn*; local: *; };' > "$out/exports"
# Fewer threads per block than on a device, because each is a fiber.
"$compiler" "${flags[@]}" -DBLOCK=32 -Wl,-soname,libcuda.so.1,--version-script,"$out/exports" -o "$out/libcuda.so.1" "$here/driver.cpp"
ln -sf libcuda.so.1 "$out/libcuda.so"
"$compiler" "${flags[@]}" -O3 -Wl,-soname,libcublas.so.13 -o "$out/libcublas.so.13" "$here/cublas.cpp" "$out/libcuda.so.1" -Wl,-rpath,'$ORIGIN'
ln -sf libcublas.so.13 "$out/libcublas.so"
"$compiler" "${flags[@]}" -O3 -Wl,-soname,libcudnn.so.9 -o "$out/libcudnn.so.9" "$here/cudnn.cpp" "$out/libcuda.so.1" -Wl,-rpath,'$ORIGIN'
ln -sf libcudnn.so.9 "$out/libcudnn.so"
