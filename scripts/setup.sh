#!/bin/sh
# setup.sh - sees to it that the Debian packages of the named sections are installed.
#
#   scripts/setup.sh [--optional] SECTION...      (sections: see scripts/packages.txt)
#   scripts/setup.sh --unpack FOLDER SECTION...   unpacks them there, and installs nothing
#
# When all are there, apt is not touched. As root the missing ones are installed; without root the
# one command to run is printed. --optional: a package that cannot be had is no error.
# Exit status: 0 all there (or --optional), 1 something is missing.
set -u

list=$(dirname "$0")/packages.txt
optional=no
unpack=
if [ "${1:-}" = --optional ]; then
    optional=yes
    shift
elif [ "${1:-}" = --unpack ]; then
    unpack=$2
    shift 2
fi
if [ $# -eq 0 ]; then
    echo "usage: $0 [--optional] SECTION...  (sections: $(sed -n 's/^\[\(.*\)\]$/\1/p' "$list" | tr '\n' ' '))" >&2
    exit 1
fi

packages=
for section in "$@"; do
    found=$(awk -v want="[$section]" '
        /^\[/ { on = ($0 == want); next }
        on && NF && $1 !~ /^#/ { print $1 ($2 == "unless" ? ":" $3 : "") }' "$list")
    if [ -z "$found" ]; then
        echo "setup: no section [$section] in $list" >&2
        exit 1
    fi
    for package in $found; do
        case $package in
        *:*) command -v "${package#*:}" >/dev/null 2>&1 || packages="$packages ${package%%:*}" ;;
        *) packages="$packages $package" ;;
        esac
    done
done
packages=$(echo $packages)

if ! command -v dpkg-query >/dev/null 2>&1; then
    echo "setup: this is not a Debian system; going on in the hope that these are installed:" >&2
    echo "setup:   $packages" >&2
    exit 0
fi

# Optional, always: what cannot be had is left out, and not asked for again until `make clean`.
if [ -n "$unpack" ]; then
    mkdir -p "$unpack" && cd "$unpack" || exit 1
    for package in $packages; do
        [ -e ".$package" ] && continue
        echo "setup: unpacking $package (not installing it)" >&2
        apt-get -qq download "$package" >&2 && dpkg-deb -x "$package"_*.deb . || :
        rm -f "$package"_*.deb
        : > ".$package"
    done
    exit 0
fi

find_missing() {
    # dpkg-query names an architecture only where a package is multi-arch; one installed is enough.
    installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' $packages 2>/dev/null |
        sed -n 's/^installed //p' | tr '\n' ' ')
    missing=
    for package in $packages; do
        case " $installed" in
        *" $package "*) ;;
        *) missing="$missing $package" ;;
        esac
    done
    missing=${missing# }
}

find_missing
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "setup: these packages are missing: $missing" >&2
    echo "setup: install them with this command, then try again:" >&2
    echo "    sudo sh -c 'apt-get update && apt-get install -y --no-install-recommends $missing'" >&2
    [ "$optional" = yes ] && exit 0
    exit 1
fi

echo "setup: installing $missing" >&2
DEBIAN_FRONTEND=noninteractive
export DEBIAN_FRONTEND
apt-get -q update >&2 || echo "setup: apt-get update failed; trying with the lists at hand" >&2
apt-get -q install -y --no-install-recommends $missing >&2 || {
    # One that cannot be had must not keep the other optional ones away.
    if [ "$optional" = yes ]; then
        for package in $missing; do
            apt-get -q install -y --no-install-recommends "$package" >&2 || :
        done
    fi
}

find_missing
[ -n "$missing" ] || exit 0
echo "setup: could not install: $missing" >&2
[ "$optional" = yes ] && exit 0
echo "setup: see apt's messages above (network? /etc/apt/sources.list?), then try again" >&2
exit 1
