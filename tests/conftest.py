# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Makes the checkout importable as ansible_collections.openlun.iscsi, and sets what holds for all tests."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import configuration, settings

ROOT = Path(__file__).resolve().parent.parent
COLLECTIONS = ROOT / "build" / "collections"


def link_collection() -> None:
    """Reach the checkout through build/collections, as Ansible and the imports of the tests expect it."""
    link = COLLECTIONS / "ansible_collections" / "openlun" / "iscsi"
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(Path("..", "..", "..", ".."), target_is_directory=True)
    if str(COLLECTIONS) not in sys.path:
        sys.path.insert(0, str(COLLECTIONS))


link_collection()
configuration.set_hypothesis_home_dir(ROOT / "build" / "cache" / "hypothesis")
settings.register_profile("project", deadline=None, print_blob=True)
settings.load_profile("project")
