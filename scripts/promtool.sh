#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Makes sure that promtool is here, in the PATH or in build/cache/prometheus. Debian has it in the package of the
# Prometheus server: that is unpacked and not installed, so that no server starts on this machine.
set -euo pipefail
cd "$(dirname "$0")/.."

if command -v promtool >/dev/null || [ -x build/cache/prometheus/usr/bin/promtool ]; then
    exit 0
fi
if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "promtool is missing, the test that needs it is left out. It comes with Prometheus: install that to run it." >&2
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
if ! (cd "$work" && apt-get -qq download prometheus >log 2>&1); then
    cat "$work/log" >&2
    echo "promtool could not be fetched from Debian, the test that needs it is left out." >&2
    exit 0
fi
mkdir -p build/cache/prometheus
dpkg-deb --fsys-tarfile "$work"/prometheus_*.deb | tar -xf - -C build/cache/prometheus ./usr/bin/promtool
