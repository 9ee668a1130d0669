# Functions about the native library, for the scripts beside this file. Sourced within the folder of the project.
#
# A packaged library is named after everything that decides whether it fits: the version, the machine, and the sources.

crate=dev_websocket_nif

# Prints the SHA-256 of each named file, or of the standard input.
sha256() {
    if command -v sha256sum >/dev/null 2>&1; then
        sha256sum "$@"
    else
        shasum -a 256 "$@"
    fi
}

# Prints the C library of this Linux: gnu or musl. Its ldd tells, which comes with it: another C library can lie beside it.
c_library() {
    if command -v ldd >/dev/null 2>&1; then
        if ldd --version 2>&1 | grep -qi musl; then echo musl; else echo gnu; fi
    elif [ -n "$(find /lib -maxdepth 1 -name 'ld-musl-*')" ] && [ -z "$(find /lib/ /lib64/ -maxdepth 1 -name 'ld-linux*' 2>/dev/null)" ]; then
        echo musl
    else
        echo gnu
    fi
}

# Prints the machine, its system and its C library, for example x86_64-linux-gnu.
target() {
    case $(uname -s) in
    Linux) echo "$(uname -m)-linux-$(c_library)" ;;
    *) echo "$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')" ;;
    esac
}

# Prints a short digest of everything that cargo compiles into the library.
sources() {
    {
        echo Cargo.toml
        echo Cargo.lock
        find native/dev_websocket_core/Cargo.toml native/dev_websocket_core/src native/dev_websocket_core/page \
            native/dev_websocket_nif/Cargo.toml native/dev_websocket_nif/src -type f
        if [ -n "${DEV_WEBSOCKET_FEATURES:-}" ]; then
            find native/dev_websocket_nats/Cargo.toml native/dev_websocket_nats/src -type f
        fi
        find clients/javascript -maxdepth 1 -name '*.js'
    } | LC_ALL=C sort | while IFS= read -r file; do sha256 "$file"; done | sha256 | cut -c 1-12
}

version() {
    sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1
}

# Prints the name of the packaged library that fits this machine and these sources.
package_name() {
    echo "$crate-$(version)-$(target)${DEV_WEBSOCKET_FEATURES:+-$DEV_WEBSOCKET_FEATURES}-$(sources).so"
}
