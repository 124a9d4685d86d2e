# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ends the work with a controller, or interrupts it."""

from __future__ import annotations

from ..errors import EngineError, NoDevice


class Pulled(NoDevice):
    """The device is gone from the bus."""


class ControllerFailed(EngineError):
    """The controller does not do what it should."""
