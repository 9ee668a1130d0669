#!/bin/sh
# Builds the native library and puts it where hb_websocket_nif looks for it: priv/crates/<crate>/<crate>.so of the
# folder that this project lies in, be it its own checkout or another project's _build or _checkouts.
set -eu

crate=dev_websocket_nif
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
cd "$root"

if ! command -v cargo >/dev/null 2>&1; then
    echo "dev_websocket needs Rust 1.91 or newer to build its native library: see https://rustup.rs" >&2
    exit 1
fi

# Cargo says itself where the library is; CARGO_TARGET_DIR, a build target or a cargo configuration may move it.
messages=$(cargo build --release --locked --package "$crate" --message-format json-render-diagnostics)
library=$(printf '%s\n' "$messages" |
    sed -n "/\"reason\":\"compiler-artifact\"/ { /\"kind\":\[\"cdylib\"\]/ { /$crate/ s/.*\"filenames\":\[\"\([^\"]*\)\".*/\1/p; }; }" |
    tail -n 1)
if [ ! -f "$library" ]; then
    echo "cargo built no library of $crate" >&2
    exit 1
fi

# The VM looks for .so on every Unix. A file that a running VM has loaded is replaced, never written into.
target=priv/crates/$crate
if ! cmp -s "$library" "$target/$crate.so"; then
    mkdir -p "$target"
    cp "$library" "$target/$crate.so.new"
    mv -f "$target/$crate.so.new" "$target/$crate.so"
fi
