# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Units of systemd as files and links, which count at the next boot, also where systemd does not run now."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from typing import TYPE_CHECKING, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

DIRECTORY: Final = "/etc/systemd/system"
_SYSTEMD_RUNS: Final = "/run/systemd/system"
"""sd_booted(3): this directory exists exactly where systemd is the init."""


def link(host: Host, unit: str, target: str) -> Iterator[Step]:
    """A step after which ``target`` wants the unit of this path, unless it does already."""
    place = _link(unit, target)
    if not os.path.islink(host.path(place)):
        yield Step("enable", f"unit {os.path.basename(unit)}", "it was not", partial(_make_link, host, place, unit))


def unlink(host: Host, unit: str, target: str) -> Iterator[Step]:
    place = _link(unit, target)
    if os.path.islink(host.path(place)):
        yield Step(
            "disable", f"unit {os.path.basename(unit)}", "it is not declared", partial(_remove_link, host, place)
        )


def reload(host: Host, run: Run) -> Iterator[Step]:
    """A step that lets a running systemd read units that changed."""
    if host.exists(_SYSTEMD_RUNS):
        yield Step("reload", "systemd", "its units changed", partial(run, ["systemctl", "daemon-reload"]))


def stop(host: Host, run: Run, unit: str) -> Iterator[Step]:
    """A step that lets a running systemd forget what a unit did; what it did stays done unless the unit undoes it."""
    if host.exists(_SYSTEMD_RUNS):
        name = os.path.basename(unit)
        yield Step("stop", f"unit {name}", "it is not declared", partial(run, ["systemctl", "stop", name]))


def _link(unit: str, target: str) -> str:
    return f"{DIRECTORY}/{target}.wants/{os.path.basename(unit)}"


def _remove_link(host: Host, place: str) -> None:
    host.remove(place)
    with contextlib.suppress(OSError):  # what systemctl disable does: the directory goes with its last link
        os.rmdir(host.path(os.path.dirname(place)))


def _make_link(host: Host, place: str, unit: str) -> None:
    with explained(place):
        os.makedirs(host.path(os.path.dirname(place)), exist_ok=True)
        os.symlink(unit, host.path(place))
