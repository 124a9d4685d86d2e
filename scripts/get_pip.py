# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ansible-test wants of get-pip.py, from the package registry alone: pip from ensurepip, then the versions asked for."""

from __future__ import annotations

import subprocess
import sys

NOT_PIPS = {"--no-setuptools", "--no-wheel"}

subprocess.run([sys.executable, "-m", "ensurepip", "--default-pip"], check=True, stdout=subprocess.DEVNULL)
wanted = [word for word in sys.argv[1:] if word not in NOT_PIPS]
subprocess.run([sys.executable, "-m", "pip", "install", *wanted], check=True)
