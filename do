#!/usr/bin/env bash
# Brings what a target needs, then hands over to the justfile. `./do` alone lists the targets.
#
#   ./do demo    the whole road in QEMU: build, boot, infer, update, fall back
#   ./do test    everything that is checked before a change is taken
set -euo pipefail
cd "$(dirname "$0")"

case ${1:-} in
-h | --help | help)
    sed -n '2,5s/^# \{0,1\}//p' "$0"
    exit 0
    ;;
'' | -l | --list)
    # Read out of the justfile, so that nothing has to be installed for it.
    echo "./do TARGET; the first run installs what is missing. The targets:"
    awk '/^# / { about = substr($0, 3); next }
        /^[a-z][a-z0-9-]*( [^:]*)?:( |$)/ && $1 !~ /^default/ { sub(/:.*/, "", $1); printf "    %-14s %s\n", $1, about }
        { about = "" }' justfile
    exit 0
    ;;
esac

scripts/setup "$1"
PATH="$PWD/.cache/tools/bin:$PATH" exec just --justfile justfile "$@"
