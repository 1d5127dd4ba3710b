#!/bin/sh
# Makes .venv and installs what is pinned, once for each content of the requirements files:
#   scripts/environment.sh        what Switchboard runs on
#   scripts/environment.sh dev    and what tests and linters need
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
venv=.venv

fail() {
    echo "■ $1" >&2
    exit 1
}

fingerprint() {
    # shellcheck disable=SC2068
    { "$venv/bin/python" -c 'import sys; print(sys.version)'; cat $@; } 2>/dev/null | cksum
}

install() {
    stamp=$1 what=$2
    shift 2
    [ -x "$venv/bin/python" ] && [ "$(cat "$venv/$stamp" 2>/dev/null)" = "$(fingerprint "$@")" ] && return 0
    if ! "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
        command -v "$python" >/dev/null || fail "$python was not found. Install Python 3.11 or later, or give PYTHON=..."
        "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' ||
            fail "$("$python" --version) is too old: Switchboard needs Python 3.11 or later. Give another with PYTHON=..."
        rm -rf "$venv"
        "$python" -m venv "$venv" >/dev/null ||
            fail "The virtual environment could not be made. On Debian and Ubuntu: apt-get install python3-venv"
    fi
    echo "◐ Installing $what (once, a minute or two)"
    rm -f "$venv/$stamp"
    for last in "$@"; do :; done
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --no-input -r "$last" ||
        fail "The packages could not be installed. Is the package index reachable from here? Run the same again to retry."
    fingerprint "$@" >"$venv/$stamp"
}

if [ "${1:-}" = dev ]; then
    install .installed-dev "what tests and linters need" requirements.txt requirements-dev.txt
    # It holds what Switchboard runs on as well.
    fingerprint requirements.txt >"$venv/.installed"
else
    install .installed "what Switchboard runs on" requirements.txt
fi
