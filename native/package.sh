#!/bin/sh
# Lays out the device as the packager of newer HyperBEAM nodes (`rebar3 device preload|package --device-src`) finds it:
#
#   dev_websocket*.erl        the device; the packager compiles these itself, under names that it makes
#   dev_websocket.md          its specification, which the attribute of dev_websocket.erl names
#   priv/ebin                 hb_websocket_nif, which keeps its name, as the library is bound to it
#   priv/crates               the library
#   websocket-fragment.json   node options to copy beside the node's own; the packager ignores it
#
# A node unpacks what is below priv/ into a folder of the device, without the priv/; dev_websocket_engine looks there for
# ebin/, and hb_websocket_nif beside that for crates/. See docs/PACKAGING.md.
#
# usage: native/package.sh [folder], after a build; the folder is replaced
set -eu

root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
package=${1:-$root/_build/package/websocket@1.0}
library=crates/dev_websocket_nif/dev_websocket_nif.so

case $package in
/*) ;;
*) package=$PWD/$package ;;
esac
if [ ! -f "$root/priv/$library" ]; then
    echo "the library is not built yet: make build" >&2
    exit 1
fi
if [ -e "$package" ] && [ ! -f "$package/dev_websocket.erl" ]; then
    echo "$package is something else, and stays" >&2
    exit 1
fi

rm -rf "$package"
mkdir -p "$package/priv/ebin" "$package/priv/$(dirname -- "$library")"
cp "$root"/erlang/dev_websocket.erl "$root"/erlang/dev_websocket_*.erl "$root"/docs/dev_websocket.md "$package"
cp "$root"/native/websocket-fragment.json "$package"
cp "$root/priv/$library" "$package/priv/$library"
# A node needs no names and line numbers of Rust, and they are most of the file.
if command -v strip >/dev/null 2>&1; then
    strip -s "$package/priv/$library"
fi
# Compiled anew, without the paths of this machine: sources and priv/ make the name that a package gets.
(cd "$root/erlang" && erlc +deterministic +debug_info -o "$package/priv/ebin" hb_websocket_nif.erl)

echo "$package:"
(cd "$package" && find . -type f | sed 's|^\./|  |' | LC_ALL=C sort)
