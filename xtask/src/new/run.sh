#!/bin/sh
# Called by cargo with what it has built. A test runs here, on the host. A program is built once more, for Faultline, and
# booted: by the checkout of Faultline that the dependency on libos leads to.
set -eu
case $1 in
    */deps/* | */rustdoctest*) exec "$@" ;;
esac
program=$(basename "$1")
shift
crate=$(cd "$(dirname "$0")/.." && pwd)
checkout=$(cargo metadata --format-version 1 --manifest-path "$crate/Cargo.toml" |
    sed -n 's#.*"manifest_path":"\([^"]*\)/lib/libos/Cargo.toml".*#\1#p')
if [ -z "$checkout" ]; then
    echo "$0: Cargo.toml names no libos" >&2
    exit 125
fi
# That checkout has a toolchain of its own.
unset RUSTUP_TOOLCHAIN CARGO
cd "$checkout"
exec cargo xtask run --bin "$program" "$crate" "$@"
