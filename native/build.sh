#!/bin/sh
# Puts the native library where hb_websocket_nif looks for it: priv/crates/<crate>/<crate>.so of the folder that this
# project lies in, be it its own checkout or another project's _build or _checkouts.
#
# A packaged library that fits this machine and these sources is taken, with its checksum: from priv/, or from
# DEV_WEBSOCKET_NIF, a folder or URL. DEV_WEBSOCKET_NIF_SHA256 names the only acceptable file. Otherwise cargo builds it.
# DEV_WEBSOCKET_FEATURES=nats adds the engine of docs/CLUSTER.md.
#
# usage: native/build.sh [--needs-cargo]; with the option it only tells by its exit code whether it would need cargo
set -eu

cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
. native/library.sh

installed=priv/crates/$crate/$crate.so
package=$(package_name)
place=${DEV_WEBSOCKET_NIF:-priv}
downloads=

say() {
    echo "dev_websocket: $*" >&2
}

fail() {
    say "$*"
    exit 1
}

# The VM looks for .so on every Unix. A file that a running VM has loaded is replaced, never written into.
install() {
    if cmp -s "$1" "$installed"; then
        return
    fi
    if ! { mkdir -p "$(dirname -- "$installed")" && cp "$1" "$installed.new" && mv -f "$installed.new" "$installed"; } 2>/dev/null; then
        rm -f "$installed.new" 2>/dev/null || true
        fail "cannot write $PWD/$installed: make that folder writable, or build in a copy of the project"
    fi
}

# Fetches <URL> into <file>.
fetch() {
    if command -v curl >/dev/null 2>&1; then
        curl -fsSL --retry 2 --connect-timeout 20 -o "$2" "$1" 2>/dev/null
    elif command -v wget >/dev/null 2>&1; then
        wget -q -O "$2" "$1"
    else
        say "curl or wget is needed to fetch $1"
        return 1
    fi
}

# Returns 0 if the library of a folder has its checksum.
is_whole() {
    expected=${DEV_WEBSOCKET_NIF_SHA256:-$(cut -d ' ' -f 1 "$1.sha256" 2>/dev/null || true)}
    if [ -z "$expected" ]; then
        say "$1 has no checksum: $package.sha256 must lie beside it"
    elif [ "$(sha256 "$1" | cut -d ' ' -f 1)" != "$expected" ]; then
        say "$1 does not have its checksum $expected: it is damaged, or another file"
    else
        return 0
    fi
    return 1
}

# Returns 0 if the system can load the library, as far as its C library is concerned.
is_loadable() {
    # The functions of the VM are missing on purpose; musl names them too, in other words.
    case $(target) in
    *-linux-gnu) complaint='not found' ;;
    *-linux-musl) complaint='Error loading shared library' ;;
    *) return 0 ;;
    esac
    if ldd "$1" 2>&1 | grep -q "$complaint"; then
        say "$1 needs a newer C library, or others than this machine has"
        return 1
    fi
}

# Fetches the library and its checksum from a URL into the folder of downloads.
download() {
    if ! { fetch "$1/$package" "$downloads/$package" && { [ -n "${DEV_WEBSOCKET_NIF_SHA256:-}" ] ||
        fetch "$1/$package.sha256" "$downloads/$package.sha256"; }; }; then
        say "cannot fetch $1/$package with its .sha256"
        return 1
    fi
}

# Returns 0 if the place has a packaged library that fits.
has_package() {
    if [ ! -f "$place/$package" ]; then
        if [ "$place" != priv ]; then
            say "$place has no $package"
        fi
        for other in "$place/$crate"-*.so; do
            if [ -f "$other" ]; then
                say "$other is for another version, machine or source; $package would fit"
            fi
        done
        return 1
    fi
    is_whole "$place/$package" && is_loadable "$place/$package"
}

build() {
    if ! command -v cargo >/dev/null 2>&1; then
        fail "no library and no cargo: put $package and its .sha256 into priv/, or name their folder or URL in DEV_WEBSOCKET_NIF, or install Rust 1.91 or newer (https://rustup.rs)"
    fi
    if [ ! -f "$installed" ]; then
        say "cargo builds the native library; the first build takes some minutes"
    fi
    case $(target) in
    # A library for musl cannot contain the C library.
    *-musl) export RUSTFLAGS="${RUSTFLAGS:-} -C target-feature=-crt-static" ;;
    esac
    # Cargo says itself where the library is; CARGO_TARGET_DIR, a build target or a cargo configuration may move it.
    messages=$(cargo build --release --locked --package "$crate" --features "${DEV_WEBSOCKET_FEATURES:-}" --message-format json-render-diagnostics)
    library=$(printf '%s\n' "$messages" |
        sed -n "/\"reason\":\"compiler-artifact\"/ { /\"kind\":\[\"cdylib\"\]/ { /$crate/ s/.*\"filenames\":\[\"\([^\"]*\)\".*/\1/p; }; }" |
        tail -n 1)
    if [ ! -f "$library" ]; then
        fail "cargo built no library of $crate"
    fi
    install "$library"
}

case $place in
http://* | https://* | file://*)
    downloads=$(mktemp -d)
    trap 'rm -rf "$downloads"' EXIT
    if download "$place"; then
        place=$downloads
    else
        place=priv
    fi
    ;;
esac

if has_package; then
    if [ "${1:-}" = --needs-cargo ]; then
        exit 1
    fi
    install "$place/$package"
elif [ "${1:-}" != --needs-cargo ]; then
    build
fi
