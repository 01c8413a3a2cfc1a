# Sourced by scripts/cross: the standard library for another platform, compiled from Debian's Rust sources.
# shellcheck shell=bash

# It is compiled once into a tree of its own, with unstable features allowed for that compilation alone;
# the project is then compiled as on any stable toolchain.
debian_standard_library() {
    local triple=$1 command=$2 version
    debian rustc-web cargo-web rust-web-src
    version=$(dpkg-query -W -f='${Version}' rustc-web)
    [ "$version" = "$(dpkg-query -W -f='${Version}' rust-web-src)" ] ||
        die "rustc-web and rust-web-src differ in version: apt-get install rustc-web rust-web-src"
    # shellcheck disable=SC2154 # cache is set by scripts/cross
    sysroot=$cache/sysroot-${version//[^A-Za-z0-9.+]/_}
    local libraries=$sysroot/lib/rustlib
    [ ! -e "$libraries/$triple/made-by-$command" ] || return 0

    say "compiling the standard library for $triple (two minutes, once)"
    mkdir -p "$libraries/$triple/lib"
    # Build scripts and procedural macros run here and need this machine's own library.
    ln -sfn /usr/lib/rustlib/x86_64-unknown-linux-gnu "$libraries/x86_64-unknown-linux-gnu"
    printf '#!/bin/sh\nexec /usr/bin/rustc --sysroot "%s" "$@"\n' "$sysroot" >"$sysroot/rustc"
    chmod +x "$sysroot/rustc"

    local work=$cache/std-$triple
    rm -rf "$work"
    mkdir -p "$work/src"
    : >"$work/src/lib.rs"
    # As the standard library itself is released: bitcode for link-time optimisation, and a
    # panic_abort that does abort.
    cat >"$work/Cargo.toml" <<'TOML'
cargo-features = ["profile-rustflags"]
[package]
name = "only_for_std"
version = "0.0.0"
edition = "2024"
[profile.release]
debug = "line-tables-only"
rustflags = ["-Cembed-bitcode=yes"]
[profile.release.package.panic_abort]
rustflags = ["-Cembed-bitcode=yes", "-Cpanic=abort"]
TOML
    (cd "$work" && env -u RUSTFLAGS RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR="$work/target" \
        /usr/bin/cargo "$command" -q --release --target "$triple" \
        -Zbuild-std=std,panic_unwind,panic_abort,proc_macro,test) || die "could not compile the standard library; see $work"

    # A build leaves .rlib files, a check only .rmeta.
    local file ending=rlib
    [ "$command" = build ] || ending=rmeta
    rm -f "$libraries/$triple/lib"/*
    for file in "$work/target/$triple/release/deps"/*."$ending"; do
        case $file in *only_for_std*) ;; *) cp "$file" "$libraries/$triple/lib/" ;; esac
    done
    rm -rf "$work"
    # cargo does not notice that the standard library changed, and would mix old and new crates.
    # shellcheck disable=SC2154 # target is set by scripts/common.sh
    rm -rf "$target/cross-debian/$triple"
    touch "$libraries/$triple/made-by-$command"
}
