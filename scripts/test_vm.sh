#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The collection on virtual machines: make test-vm. SMOKE=1: one machine, the main line.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/build/venv/bin:$PATH"
export PATH MOLECULE_PROJECT_DIRECTORY=$PWD ANSIBLE_COLLECTIONS_PATH=$PWD/build/collections
export ANSIBLE_HOME=$PWD/build/cache/ansible ANSIBLE_LOCAL_TEMP=$PWD/build/vm/tmp MOLECULE_EPHEMERAL_DIRECTORY=$PWD/build/vm/molecule
export ANSIBLE_NOCOLOR=1 NO_COLOR=1 PYTHONDONTWRITEBYTECODE=1

# Says in one sentence what is missing when QEMU, or the machines' image, cannot be had here.
scripts/vm.sh build >/dev/null
trap 'scripts/vm.sh down target storage client' EXIT

kinds=(uio vfio)
export VM_DISKS=6
if [ -n "${SMOKE:-}" ]; then
    kinds=(uio)
    VM_DISKS=2
fi
for kind in "${kinds[@]}"; do
    printf '\n== virtual machine, %s ==\n' "$kind"
    rm -rf build/vm/records build/vm/written
    mkdir -p build/vm/records "$ANSIBLE_LOCAL_TEMP"
    VM_KIND=$kind molecule test --scenario-name vm --destroy=always
done

if [ -z "${SMOKE:-}" ]; then
    printf '\n== two virtual machines, target and initiator ==\n'
    molecule test --scenario-name pair --destroy=always
fi
