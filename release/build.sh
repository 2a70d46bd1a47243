#!/usr/bin/env bash
# Builds what is released, into FOLDER: a Python wheel and an archive, both with one static binary, man pages and completions.
#
#   bash release/build.sh FOLDER [PROFILE]
#
# PROFILE is a profile of Cargo.toml, by default `dist`. Needs maturin (PyPI). docs/releasing.md says what to do with the files.
set -euo pipefail
cd "$(dirname "$0")/.."
[ $# -ge 1 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
mkdir -p "$1"
folder=$(cd "$1" && pwd)
profile="${2:-dist}"
target="$(uname -m)-unknown-linux-gnu"
# Static, so that it runs on any Linux, whatever its C library. The target is named, since build scripts and macros cannot be static.
# The arguments are for lld, Rust's linker: equal functions are linked once, and relocations take a bit each. Together 4 MB.
link="-C link-arg=-Wl,--icf=all -C link-arg=-Wl,--pack-dyn-relocs=relr"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}" RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=+crt-static $link"
cargo build --locked --profile "$profile" --target "$target"
binary="$CARGO_TARGET_DIR/$target/$profile/hamflow"
version=$("$binary" --version | cut -d' ' -f2)

share=release/hamflow.data/data/share
rm -rf release/hamflow.data
mkdir -p "$share/man" "$share/bash-completion/completions" "$share/zsh/site-functions" "$share/fish/vendor_completions.d"
"$binary" man "$share/man/man1"
"$binary" completions bash > "$share/bash-completion/completions/hamflow"
"$binary" completions zsh > "$share/zsh/site-functions/_hamflow"
"$binary" completions fish > "$share/fish/vendor_completions.d/hamflow.fish"

# A static binary needs no symbol of a C library, so the oldest tag holds.
(cd release && maturin build --locked --profile "$profile" --target "$target" --compatibility manylinux2014 --out "$folder")

name="hamflow-$version-$target"
staged=$(mktemp -d)
trap 'rm -rf "$staged" release/hamflow.data' EXIT
mkdir -p "$staged/$name/bin"
cp "$binary" "$staged/$name/bin/"
cp -r "$share" README.md CHANGELOG.md LICENSE-MIT LICENSE-APACHE "$staged/$name/"
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -C "$staged" -czf "$folder/$name.tar.gz" "$name"
(cd "$folder" && sha256sum ./*.whl ./*.tar.gz > SHA256SUMS)
ls -l "$folder"
