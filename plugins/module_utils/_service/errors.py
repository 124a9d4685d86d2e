# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes wrong with a service."""

from __future__ import annotations


class ServiceError(Exception):
    """The service cannot be brought into the wanted state: one sentence, ready to be shown."""
