#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# From a checkout to two served disks on 127.0.0.1:3260 (or PORTAL), proved by an initiator. Again: nothing changes.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/quickstart-common.sh

# A full file system would otherwise show as a riddle of pip or the interpreter. MiB: the disk, the environment.
needed=32
[ -e "$home/disk0.img" ] || needed=$((needed + 256))
[ -d build/venv ] || needed=$((needed + 160))
mkdir -p build 2>/dev/null || die "$PWD/build cannot be made. Is the checkout on a read-only file system, or somebody else's?"
room=$(df -Pk build | awk 'NR == 2 { print int($4 / 1024) }')
[ "$room" -ge "$needed" ] ||
    die "$PWD/build needs $needed MiB, and its file system has $room MiB free. Make room, then run make quickstart again."

prepare
play quickstart
