#!/usr/bin/env bash
# Kubernetes for the tests, one program made of tests/kubernetes/server: build it, or say where it lies.
#
#   scripts/kubernetes.sh build   build it unless it is there; print its path
#   scripts/kubernetes.sh find    print its path, or fail and say why there is none
#
# It lies in ${XDG_CACHE_HOME:-~/.cache}/batchyard/kubernetes under a hash of what it is
# made of, so a machine builds it once. Go 1.21 or newer fetches the Go that it wants itself,
# where GOTOOLCHAIN lets it.
set -euo pipefail
cd "$(dirname "$0")/../tests/kubernetes/server"

folder=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/batchyard/kubernetes
binary=$folder/kubernetes-$(cat go.mod go.sum main.go | sha256sum | cut -c 1-16)
kept_days=30

say() { printf 'kubernetes: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

build() {
    local version
    command -v go >/dev/null || fail "no go on PATH: Go 1.24 or newer builds Kubernetes (https://go.dev/dl)"
    version=$(sed -n 's/^\tk8s.io\/kubernetes //p' go.mod)
    say "building $version with $(go env GOVERSION); this takes minutes, once a machine"
    # No C, no debugger's tables, nothing inlined, and a compiler that seldom collects its garbage: a fifth less work.
    if ! CGO_ENABLED=0 GOGC=400 GOMEMLIMIT=2GiB go build -mod=readonly -trimpath -buildvcs=false \
        -gcflags='all=-dwarf=false -l' \
        -ldflags="-s -w -X k8s.io/component-base/version.gitVersion=$version" \
        -o "$binary.part" . >"$binary.log" 2>&1; then
        tail -n 15 "$binary.log" >&2
        fail "Kubernetes could not be built"
    fi
    mv "$binary.part" "$binary"
    find "$folder" -name 'kubernetes-*' -mtime "+$kept_days" -delete
}

case ${1:-} in
build)
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9 # one at a time: who comes second finds it built
    if [ -x "$binary" ]; then touch "$binary"; else build; fi
    ;;
find) [ -x "$binary" ] || fail "not built: bash scripts/kubernetes.sh build" ;;
*) fail "usage: scripts/kubernetes.sh build|find" ;;
esac
echo "$binary"
