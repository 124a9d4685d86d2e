#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Stops the engine that quickstart.sh started and removes all that it made. build/venv stays; make clean removes it.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/quickstart-common.sh

if ! [ -e "$home" ]; then
    echo "There is no quickstart to take away."
    exit 0
fi
prepare
play quickstart_down
rm -rf "$home"
echo "The quickstart is gone: no process and no file of it is left outside this checkout, and none in $home."
