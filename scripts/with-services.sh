#!/usr/bin/env bash
# Run a command with real services at hand: etcd and a browser on PATH, a Docker Engine that answers.
#
#   scripts/with-services.sh COMMAND [ARG...]
#
# As root on Debian it installs what is missing and, where no engine answers,
# starts one of its own for the length of the command. Elsewhere it says what is
# missing and goes on: the tests that need it are then skipped (in CI: fail).
# It starts no etcd and no Kubernetes: the tests start their own servers.
#
#   BATCHYARD_DOCKERD_FLAGS   further flags for a dockerd that is started here.
#                             Careful: --bridge=none removes docker0, another engine's too.
set -euo pipefail

engine_start_limit_s=60
engine_stop_limit_s=60

say() { printf 'services: %s\n' "$*" >&2; }
has() { command -v "$1" >/dev/null 2>&1; }
is_debian_root() { [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && has apt-get; }

# The engine's own ping, without the docker command or curl.
engine_answers() {
    python3 - "${DOCKER_HOST:-unix:///var/run/docker.sock}" <<'PY'
import http.client, socket, sys, urllib.parse

url = urllib.parse.urlparse(sys.argv[1])
connection = http.client.HTTPConnection(url.hostname or "localhost", url.port or 2375, timeout=5)
try:
    if url.scheme == "unix":
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(url.path)
    connection.request("GET", "/_ping")
    sys.exit(connection.getresponse().status != 200)
except (OSError, http.client.HTTPException):
    sys.exit(1)
PY
}

missing_packages() {
    has etcd || echo etcd-server
    has chromium-headless-shell || has chromium || echo chromium-headless-shell
    has gcc || echo gcc libc6-dev
    [ -x /bin/busybox ] || echo busybox-static
    has openssl || echo openssl
    has ip || echo iproute2
    has iptables || echo iptables
    has runsc || echo runsc
    # The other architecture's programs; on ARM this package has qemu-x86_64.
    has qemu-aarch64 || echo qemu-user
    has systemd-analyze || echo systemd
    has containerd || echo containerd
    has runc || echo runc
    if ! engine_answers; then
        has dockerd || echo docker.io
    fi
}

install_missing() {
    local packages
    mapfile -t packages < <(missing_packages | tr ' ' '\n')
    [ ${#packages[@]} -gt 0 ] || return 0
    if ! is_debian_root; then
        say "not root on Debian, so nothing is installed; missing: ${packages[*]}"
        return
    fi
    say "installing ${packages[*]} with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get -qq -o Acquire::Retries=5 update &&
        apt-get -qq -y -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 install --no-install-recommends "${packages[@]}"; } >&2; then
        say "apt-get failed; the tests that need these packages cannot run"
    fi
}

# Old kernels and small virtual machines lack nftables; dockerd then needs the legacy tables.
choose_iptables() {
    iptables -w -t nat -L -n >/dev/null 2>&1 && return
    if [ -x /usr/sbin/iptables-legacy ] && /usr/sbin/iptables-legacy -w -t nat -L -n >/dev/null 2>&1; then
        say "iptables does not work over nftables here: choosing iptables-legacy"
        update-alternatives --set iptables /usr/sbin/iptables-legacy >&2
        return
    fi
    return 1
}

# Two engines on one machine would fight over the bridge docker0.
another_engine_runs() { grep -qsx dockerd /proc/[0-9]*/comm; }

# For this script alone: the command would take it for a setting of Batchyard's.
export -n BATCHYARD_DOCKERD_FLAGS
dockerd_pid=""
dockerd_home=""

launch_dockerd() { # launch_dockerd FLAG...: start one and wait until it answers
    local deadline=$((SECONDS + engine_start_limit_s))
    dockerd --host="unix://$dockerd_home/docker.sock" --data-root="$dockerd_home/data" \
        --exec-root="$dockerd_home/exec" --pidfile="$dockerd_home/docker.pid" "$@" \
        >>"$dockerd_home/dockerd.log" 2>&1 </dev/null &
    dockerd_pid=$!
    while kill -0 "$dockerd_pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        engine_answers && return
        sleep 0.2
    done
    stop_dockerd
    return 1
}

start_engine() {
    local flags=()
    # shellcheck disable=SC2206  # flags are split at spaces
    [ -z "${BATCHYARD_DOCKERD_FLAGS:-}" ] || flags=($BATCHYARD_DOCKERD_FLAGS)
    dockerd_home=$(mktemp -d)
    export DOCKER_HOST="unix://$dockerd_home/docker.sock"
    if choose_iptables && launch_dockerd "${flags[@]}"; then
        say "started a Docker Engine for this run (pid $dockerd_pid)"
    elif launch_dockerd --bridge=none --iptables=false --ip6tables=false; then
        say "started a Docker Engine without a network for this run (pid $dockerd_pid)"
    else
        say "dockerd did not start; the end of its log:"
        tail -n 15 "$dockerd_home/dockerd.log" >&2
        unset DOCKER_HOST
    fi
}

stop_dockerd() {
    local deadline=$((SECONDS + engine_stop_limit_s))
    [ -n "$dockerd_pid" ] || return 0
    kill -TERM "$dockerd_pid" 2>/dev/null || true
    while kill -0 "$dockerd_pid" 2>/dev/null && [ $SECONDS -lt $deadline ]; do
        sleep 0.1
    done
    kill -KILL "$dockerd_pid" 2>/dev/null || true
    wait "$dockerd_pid" 2>/dev/null || true
    dockerd_pid=""
}

remove_dockerd_home() {
    local mount
    [ -n "$dockerd_home" ] || return 0
    # Deepest first; what dockerd left mounted would keep the folder busy.
    while read -r mount; do
        umount "$mount" || true
    done < <(awk -v home="$dockerd_home/" 'index($2, home) == 1 { print $2 }' /proc/self/mounts | sort -r)
    rm -rf --one-file-system "$dockerd_home"
}

clean_up() {
    stop_dockerd
    remove_dockerd_home
}

trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

install_missing
if engine_answers; then
    say "using the Docker Engine that answers at ${DOCKER_HOST:-unix:///var/run/docker.sock}"
elif is_debian_root && has dockerd; then
    if another_engine_runs && [ -z "${BATCHYARD_DOCKERD_FLAGS:-}" ]; then
        say "a dockerd runs but does not answer at ${DOCKER_HOST:-unix:///var/run/docker.sock}; none is started beside it"
    else
        start_engine
    fi
fi
"$@"
