#!/usr/bin/env bash
# Make a virtual environment and install Batchyard into it.
#
#   scripts/setup.sh PYTHON VENV EXTRA
#
# EXTRA says with what: all runs it, dev has the tools of its development too.
# Works on an empty Debian as root (installs python3-venv) and as a plain user
# (borrows pip from Debian's own package, without installing it).
set -euo pipefail

python=$1
venv=$2
extra=$3

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "$*"
    exit 1
}

is_debian_root() {
    [ "$(id -u)" = 0 ] && [ -e /etc/debian_version ] && command -v apt-get >/dev/null
}

apt_install() {
    say "installing $* with apt-get"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -qq -o Acquire::Retries=5 update >&2
    apt-get -qq -y -o Acquire::Retries=5 -o Dpkg::Use-Pty=0 install --no-install-recommends "$@" >&2
}

find_python() {
    if ! command -v "$python" >/dev/null; then
        is_debian_root || fail "no $python found. Install Python 3.11 or newer, or name one: make PYTHON=/path/to/python3 setup"
        apt_install python3 python3-venv ca-certificates
    fi
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
        fail "$python is older than Python 3.11. Name a newer one: make PYTHON=/path/to/python3 setup"
}

has_ensurepip() { "$python" -c 'import ensurepip, venv' 2>/dev/null; }

# Without root: take the pip wheel out of Debian's package, checked by apt's signatures.
borrow_pip() {
    local borrowed=$1
    if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
        fail "$python cannot make virtual environments. Install its venv module (on Debian: apt-get install python3-venv)"
    fi
    say "python3-venv is not installed: taking pip from Debian's package into the virtual environment"
    mkdir -p "$borrowed/lists/partial" "$borrowed/cache/archives/partial"
    local apt=(apt-get -qq -o "Dir::State::Lists=$borrowed/lists" -o "Dir::Cache=$borrowed/cache"
        -o Debug::NoLocking=1 -o Acquire::Retries=5)
    (cd "$borrowed" && "${apt[@]}" update && "${apt[@]}" download python3-pip-whl) >&2 ||
        fail "could not fetch pip. Ask an administrator for: apt-get install python3-venv"
    dpkg-deb -x "$borrowed"/python3-pip-whl_*.deb "$borrowed/tree"
}

make_venv() {
    rm -rf "$venv"
    if ! has_ensurepip && is_debian_root; then
        apt_install python3-venv ca-certificates
    fi
    if has_ensurepip; then
        "$python" -m venv "$venv"
        return
    fi
    local borrowed
    borrowed=$(mktemp -d)
    # shellcheck disable=SC2064  # the name is wanted now
    trap "rm -rf '$borrowed'" EXIT
    borrow_pip "$borrowed"
    "$python" -m venv --without-pip "$venv"
    PYTHONPATH=$(echo "$borrowed"/tree/usr/share/python-wheels/pip-*.whl) \
        "$venv/bin/python" -m pip install --quiet --retries 10 pip
}

# Registries can be slow or cut a download short; a second try mostly helps.
pip_install() {
    local try
    for try in 1 2 3; do
        if "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --retries 10 --timeout 60 "$@"; then
            return
        fi
        say "pip failed (try $try of 3)"
    done
    fail "the packages could not be installed; see pip's words above"
}

find_python
if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "making $venv with $("$python" --version)"
    make_venv
fi
say "installing packages into $venv"
pip_install --editable ".[$extra]"
