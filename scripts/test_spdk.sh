#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# The modules against SPDK's iscsi_tgt instead of the collection's engine: SPDK=/path/to/iscsi_tgt make test-spdk
# With SPDK=stand-in it is the collection's engine without all that SPDK has not. Arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -z "${SPDK:-}" ]; then
    echo "Nothing was tested: name SPDK's target, as in SPDK=/path/to/iscsi_tgt make test-spdk."
    exit 0
fi
scripts/venv.sh test
if [ "$SPDK" = stand-in ]; then
    make --no-print-directory engine
    SPDK=$(build/venv/bin/python tests/spdk_stand_in.py build/spdk-stand-in)
fi
if [ ! -f "$SPDK" ] || [ ! -x "$SPDK" ]; then
    echo "SPDK=$SPDK is no program; name the iscsi_tgt of a built SPDK." >&2
    exit 2
fi
OPENLUN_SPDK=$(realpath "$SPDK") exec build/venv/bin/python -m pytest tests/integration/test_modules.py "$@"
