# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount units of systemd for hugetlbfs, as files: they count at the next boot, whatever is the init now.

Source: systemd.mount(5), systemd-escape(1) for the name. A unit of our own is taken rather than a line in fstab,
because that file belongs to the administrator.
"""

from __future__ import annotations

import contextlib
import os
import re
from functools import partial
from typing import TYPE_CHECKING, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step
from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import explained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

DIRECTORY: Final = "/etc/systemd/system"
SUFFIX: Final = ".mount"
SOURCE: Final = "openlun-iscsi"
"""What mount tables show as the device: by it we know a mount of ours."""

_WANTS: Final = f"{DIRECTORY}/local-fs.target.wants"
_TYPE: Final = re.compile(rf"^What={SOURCE}\nWhere=.*\nType=hugetlbfs$", re.MULTILINE)


def unit_path(path: str) -> str:
    """The file of the unit that mounts at ``path``."""
    name = "-".join(_escaped(part, first=not at) for at, part in enumerate(filter(None, path.split("/"))))
    return f"{DIRECTORY}/{name or '-'}{SUFFIX}"


def _escaped(part: str, first: bool) -> str:
    return "".join(
        character
        if re.fullmatch(r"[A-Za-z0-9:_.]", character) and not (first and character == "." and position == 0)
        else "".join(f"\\x{byte:02x}" for byte in character.encode())
        for position, character in enumerate(part)
    )


def unit_text(path: str, options: str) -> str:
    """The unit below the marker."""
    where = path.replace("\\", "\\\\").replace("%", "%%")
    return f"""\
[Unit]
Description=Hugepages of openlun.iscsi

[Mount]
What={SOURCE}
Where={where}
Type=hugetlbfs
Options={options}

[Install]
WantedBy=local-fs.target
"""


def is_hugetlbfs(text: str) -> bool:
    return _TYPE.search(text) is not None


def link(host: Host, unit: str) -> Iterator[Step]:
    """A step that makes systemd mount it at boot; what systemctl enable does, where systemd need not run."""
    place = _link(unit)
    if not os.path.islink(host.path(place)):
        yield Step("enable", f"unit {os.path.basename(unit)}", "it was not", partial(_make_link, host, place, unit))


def unlink(host: Host, unit: str) -> Iterator[Step]:
    place = _link(unit)
    if os.path.islink(host.path(place)):
        yield Step(
            "disable", f"unit {os.path.basename(unit)}", "it is not declared", partial(_remove_link, host, place)
        )


def _link(unit: str) -> str:
    return f"{_WANTS}/{os.path.basename(unit)}"


def _remove_link(host: Host, place: str) -> None:
    host.remove(place)
    with contextlib.suppress(OSError):  # what systemctl disable does: the directory goes with its last link
        os.rmdir(host.path(_WANTS))


def _make_link(host: Host, place: str, unit: str) -> None:
    with explained(place):
        os.makedirs(host.path(_WANTS), exist_ok=True)
        os.symlink(unit, host.path(place))
