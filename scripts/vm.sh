#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Virtual machines for tests and for trying things out: scripts/vm.sh --help
set -euo pipefail
here=$(dirname "$(dirname "$(realpath "$0")")")
"$here/scripts/apt.sh" qemu-system-x86 qemu-utils mmdebstrap e2fsprogs openssh-client openssl
PYTHONPATH="$here/tests" PYTHONDONTWRITEBYTECODE=1 exec "${PYTHON:-python3}" -m vm.lab "$@"
