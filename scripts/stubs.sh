#!/usr/bin/env bash
# Generate the Python stubs of the protos, or check that the committed ones are fresh.
#
#   scripts/stubs.sh generate BIN
#   scripts/stubs.sh check BIN
#
# Directories under protos/ mirror the Python packages, so nothing is renamed.
set -euo pipefail
cd "$(dirname "$0")/.."

action=$1
bin=$2

# Proto folder -> folder that holds the Python package of the same name.
packages="batchyard:client batchyard_controller:controller"

generate() { # generate ROOT: write stubs below ROOT/client and ROOT/controller
    local root=$1 entry package out protos outputs
    for entry in $packages; do
        package=${entry%%:*}
        out=$root/${entry##*:}
        [ -d "protos/$package" ] || continue
        mkdir -p "$out"
        mapfile -t protos < <(find "protos/$package" -name '*.proto' | sort)
        outputs=(--python_out="$out" --mypy_out=quiet:"$out")
        # A package of messages alone (the store's wire format) needs no gRPC stubs.
        if grep -q '^service ' "${protos[@]}"; then
            outputs+=(--grpc_python_out="$out" --mypy_grpc_out=quiet:"$out")
        fi
        PATH="$bin:$PATH" "$bin/python" -W ignore::UserWarning -m grpc_tools.protoc \
            --proto_path=protos "${outputs[@]}" "${protos[@]}"
    done
}

stubs() { # stubs ROOT: list the stubs of ROOT/client and ROOT/controller
    (cd "$1" && mkdir -p client controller &&
        find client controller -name '*_pb2.py*' -not -name '*.pyc' -o -name '*_pb2_grpc.py*' -not -name '*.pyc')
}

check() {
    local fresh stub stale=0
    fresh=$(mktemp -d)
    # shellcheck disable=SC2064  # the name is wanted now
    trap "rm -rf '$fresh'" EXIT
    generate "$fresh"
    while read -r stub; do
        if ! cmp -s "$fresh/$stub" "$stub"; then
            echo "stale stub: $stub" >&2
            stale=1
        fi
    done < <({ stubs "$fresh"; stubs .; } | sort -u)
    if [ "$stale" = 1 ]; then
        echo "the stubs do not match protos/: run 'make proto'" >&2
        exit 1
    fi
    echo "stubs are fresh"
}

case $action in
    generate) generate . ;;
    check) check ;;
    *)
        echo "usage: $0 generate|check BIN" >&2
        exit 2
        ;;
esac
