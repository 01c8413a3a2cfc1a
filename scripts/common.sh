# Sourced by the scripts beside it: where the project is, how to speak, how to install.
# shellcheck shell=bash

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
# Where FlavorPack is installed: a Python environment of its own, so that nothing of the user's changes.
# shellcheck disable=SC2034 # for the scripts that source this
flavorpack=$target/flavorpack
export LC_ALL=C.UTF-8

say() { printf '==> %s\n' "$*" >&2; }
die() { printf '%s: %s\n' "${0##*/}" "$*" >&2; exit 1; }

# The comment at a script's head is its help text.
usage() { sed -n '2,/^[^#]/{/^#/s/^# \{0,1\}//p;}' "$0"; }
case ${1:-} in -h | --help) usage; exit 0 ;; esac

# Installs those of the named Debian packages that are missing.
debian() {
    local name missing=()
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || die "some Debian packages are missing. Install them, then run this again:
    sudo apt-get install --no-install-recommends ${missing[*]}"
    say "installing ${missing[*]}"
    local quiet=(-qq -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0)
    apt-get "${quiet[@]}" update || say "apt-get update failed; going on with the package lists at hand"
    DEBIAN_FRONTEND=noninteractive apt-get "${quiet[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null ||
        die "apt-get could not install: ${missing[*]}"
}

# Prints the first Python that is new enough for FlavorPack.
python() {
    local candidate
    for candidate in /usr/bin/python3 python3.11 python3 python3.12 python3.13 python3.14; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return 0
        fi
    done
    die "no Python 3.11 or newer found; on Debian 12: apt-get install python3-venv"
}
