#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes sure that what the named Debian packages bring is here: scripts/apt.sh PACKAGE...
# Installs what is missing when it may (root, or sudo without a password); otherwise says in one sentence what to install.
set -euo pipefail
PATH="$PATH:/usr/sbin:/sbin"

# Probes look for the thing, not for the package, so other distributions pass too.
here() {
    case "$1" in
        python3-venv) "${PYTHON:-python3}" -c 'import ensurepip, venv' ;;
        libiscsi-bin) command -v iscsi-test-cu ;;
        qemu-utils) command -v qemu-img ;;
        qemu-block-extra) qemu-img --help | grep -w '^Supported formats:.* iscsi' ;;
        e2fsprogs) command -v mke2fs ;;
        tgt) command -v tgtd ;;
        gcc) command -v cc || command -v gcc ;;
        libc6-dev) echo '#include <stdio.h>' | "$(command -v cc || command -v gcc)" -E - ;;
        qemu-system-x86) command -v qemu-system-x86_64 ;;
        openssh-client) command -v ssh && command -v ssh-keygen ;;
        *) command -v "$1" ;;
    esac >/dev/null 2>&1
}

missing() {
    for package in "$@"; do
        here "$package" || printf '%s ' "$package"
    done
}

wanted=$(missing "$@")
[ -n "$wanted" ] || exit 0

root=()
if [ "$(id -u)" -ne 0 ]; then
    root=(sudo -n)
fi
if ! command -v apt-get >/dev/null || ! "${root[@]}" true 2>/dev/null; then
    echo "These packages are missing and this user may not install them: ${wanted}(Debian's names). Install them, then run the same command again." >&2
    exit 1
fi

echo "Installing ${wanted}with apt-get" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
    # shellcheck disable=SC2086  # a list of package names
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq -o DPkg::Lock::Timeout=300 install --yes --no-install-recommends $wanted >"$log" 2>&1 </dev/null
}
if ! install; then
    "${root[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update >"$log" 2>&1 || true
    install || cat "$log" >&2
fi
wanted=$(missing "$@")
if [ -n "$wanted" ]; then
    echo "apt-get could not install: ${wanted}(its words are above). Install them by hand, then run the same command again." >&2
    exit 1
fi
