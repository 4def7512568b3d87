#!/usr/bin/env bash
# Prove that the bare wheel, in a clean virtual environment, is a working thin client.
#
#   scripts/bare-wheel.sh PYTHON WHEEL
#
# PYTHON is one with everything installed: it runs the yard that the client talks to.
set -euo pipefail

python=$1
wheel=$(realpath "$2")
ready_limit_s=60

clean=$(mktemp -d)
yard_pid=""

clean_up() {
    if [ -n "$yard_pid" ]; then
        kill -TERM "$yard_pid" 2>/dev/null || true
        wait "$yard_pid" 2>/dev/null || true
    fi
    rm -rf "$clean"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

fail() {
    echo "bare wheel: $*" >&2
    cat "$clean/yard.log" >&2 2>/dev/null || true
    exit 1
}

start_yard() {
    local deadline=$((SECONDS + ready_limit_s))
    "$python" -m batchyard up --http '' --state-dir "$clean/state" --runtimes process \
        >"$clean/yard.log" 2>&1 </dev/null &
    yard_pid=$!
    until grep -q 'ready at' "$clean/yard.log"; do
        kill -0 "$yard_pid" 2>/dev/null || fail "the yard ended"
        [ $SECONDS -lt $deadline ] || fail "the yard was not ready within $ready_limit_s s"
        sleep 0.2
    done
    eval "$("$python" -m batchyard env --state-dir "$clean/state")"
}

"$python" -m venv --without-pip "$clean/venv"
"$python" -m pip --python "$clean/venv/bin/python" install --quiet --disable-pip-version-check --retries 10 "$wheel"
bare=$clean/venv/bin

"$bare/python" -c 'import batchyard; batchyard.Client'
"$bare/batchyard" --help >/dev/null
! "$bare/python" -c 'import numpy' 2>/dev/null || fail "it drew in numpy, which only the controller needs"

start_yard
status=0
"$bare/batchyard" submit --wait -- sh -c 'exit 7' || status=$?
[ "$status" = 7 ] || fail "a job that exits with 7 gave $status"
echo "bare wheel: imports, names its Client, prints its help, submits a job and passes its exit code on"
