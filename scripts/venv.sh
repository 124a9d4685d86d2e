#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes build/venv, or leaves it when its requirements did not change: scripts/venv.sh run|test|bench
# run: what the playbooks need. test: the tools of the checks and tests as well. Both live in the same environment.
# bench: what only the benchmark needs, in build/bench/venv.
set -euo pipefail
cd "$(dirname "$0")/.."
kind=${1:-run}
venv=build/venv
python=${PYTHON:-python3}
case "$kind" in
    run) requirements=tests/requirements-run.txt ;;
    test) requirements=tests/requirements.txt ;;
    bench) requirements=tests/benchmark/requirements.txt venv=build/bench/venv ;;
    *) echo "usage: scripts/venv.sh run|test|bench" >&2; exit 2 ;;
esac

if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
    echo "$python is missing or older than Python 3.11, which ansible-core here needs. Install one and name it: PYTHON=/path/to/python3 make ..." >&2
    exit 1
fi
place="$("$python" --version) $PWD"
if [ "$(cat "$venv/.place" 2>/dev/null)" != "$place" ]; then
    scripts/apt.sh python3-venv
    rm -rf "$venv"
    mkdir -p "$(dirname "$venv")"
    "$python" -m venv "$venv"
    echo "$place" >"$venv/.place"
fi
digest=$(cat tests/requirements-run.txt tests/constraints.txt "$requirements" | sha256sum | cut -c1-16)
stamp=$venv/.$kind-$digest
if [ -e "$stamp" ]; then
    exit 0
fi
rm -f "$venv/.$kind-"*
echo "Installing $requirements into $venv (once; its output goes to $venv.log)" >&2
if ! "$venv/bin/python" -m pip install --disable-pip-version-check --no-input -r "$requirements" >"$venv.log" 2>&1; then
    tail -n 15 "$venv.log" >&2
    echo "pip could not install $requirements: see $venv.log. Is PyPI, or a mirror named in pip's configuration, reachable?" >&2
    exit 1
fi
touch "$stamp"
