# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The built-in iSCSI target engine: a relocatable, standard-library-only package.

PRIVATE to the collection. Layers point one way: rpc -> iscsi -> scsi -> bdev.
"""

from __future__ import annotations

__version__ = "0.1.0"
