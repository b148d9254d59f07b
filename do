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
esac

scripts/setup "${1:-}"
PATH="$PWD/.cache/tools/bin:$PATH" exec just --justfile justfile "$@"
