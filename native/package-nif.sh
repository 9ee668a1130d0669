#!/bin/sh
# Packages the built library for machines like this one: without symbols, named after what it fits, with its checksum.
# Copied into priv/ of the same sources, native/build.sh takes it in place of a build.
#
# usage: native/package-nif.sh [folder], after a build
set -eu

cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
. native/library.sh

folder=${1:-_build/nif}
name=$(package_name)
built=priv/crates/$crate/$crate.so

if [ ! -f "$built" ]; then
    echo "the library is not built yet: make build" >&2
    exit 1
fi
if ! command -v strip >/dev/null 2>&1; then
    echo "strip is missing: install binutils" >&2
    exit 1
fi

mkdir -p "$folder"
cp "$built" "$folder/$name.new"
# A node needs no names and line numbers of Rust, and they are most of the file.
strip -s "$folder/$name.new"
mv -f "$folder/$name.new" "$folder/$name"
(cd "$folder" && sha256 "$name" >"$name.sha256")
echo "$folder/$name"
