# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mount units of systemd for hugetlbfs, as files: they count at the next boot, whatever is the init now.

Source: systemd.mount(5), systemd-escape(1) for the name. A unit of our own is taken rather than a line in fstab,
because that file belongs to the administrator.
"""

from __future__ import annotations

import re
from typing import Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.unit_links import DIRECTORY

TARGET: Final = "local-fs.target"
"""What wants the mounts at boot."""
SUFFIX: Final = ".mount"
SOURCE: Final = "openlun-iscsi"
"""What mount tables show as the device: by it we know a mount of ours."""

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
WantedBy={TARGET}
"""


def is_hugetlbfs(text: str) -> bool:
    return _TYPE.search(text) is not None
