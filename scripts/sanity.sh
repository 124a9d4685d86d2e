#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# ansible-test sanity, with no ignore entries, in a real copy of the collection (ansible-test refuses a symlink).
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/build/venv/bin:$PATH"
copy=build/sanity/ansible_collections/openlun/iscsi
python=$(python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
rm -rf "$copy"
mkdir -p "$copy"
# Only what git would take: neither build/ nor caches. Works in a checkout and in an unpacked archive.
if git rev-parse --is-inside-work-tree >/dev/null 2>&1; then
    git ls-files --cached --others --exclude-standard -z | while IFS= read -r -d '' file; do
        if [ -e "$file" ]; then printf '%s\0' "$file"; fi
    done | tar --null --create --files-from=- | tar --extract --directory "$copy"
else
    tar --create --exclude=./build --exclude='__pycache__' --exclude=./.git . | tar --extract --directory "$copy"
fi
# ansible-test makes environments of its own under HOME, and would download get-pip.py for them.
export PIP_CACHE_DIR="${PIP_CACHE_DIR:-$HOME/.cache/pip}"
if [ -z "${PIP_CONFIG_FILE:-}" ] && [ -f "$HOME/.config/pip/pip.conf" ]; then
    export PIP_CONFIG_FILE="$HOME/.config/pip/pip.conf"
fi
export HOME="$PWD/build/sanity/home"
mkdir -p "$HOME/.ansible/test/cache"
cp scripts/get_pip.py "$HOME/.ansible/test/cache/get_pip_24_2.py"

cd "$copy"
git init --quiet .
ansible-test sanity --python "$python" --color no "$@"
