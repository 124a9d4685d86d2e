# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lines of /etc/fstab: read, and changed without touching any other (fstab(5))."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

MARK: Final = "x-openlun.iscsi"
"""An option that programs ignore, and by which a line of ours is known."""
_ESCAPED: Final = re.compile(r"\\([0-7]{3})")
_TO_ESCAPE: Final = re.compile(r"[ \t\n\\#]")


class Entry(NamedTuple):
    """One mount."""

    source: str
    path: str
    type: str
    options: str

    @property
    def ours(self) -> bool:
        return MARK in self.options.split(",")

    def line(self) -> str:
        return f"{_escaped(self.source)} {_escaped(self.path)} {self.type} {self.options} 0 0"


def parse(line: str) -> Entry | None:
    """None for a comment, an empty line, or one that makes no sense."""
    fields = line.split()
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    return Entry(plain(fields[0]), plain(fields[1]), fields[2], fields[3] if len(fields) > 3 else "defaults")


def find(text: str, path: str) -> Entry | None:
    """The entry of a mount point."""
    entries = filter(None, map(parse, text.splitlines()))
    return next((entry for entry in entries if entry.path.rstrip("/") == path.rstrip("/")), None)


def replace(text: str, path: str, entry: Entry | None) -> str:
    """The text with another entry for a mount point, at its place or at the end; without one when it is None."""
    lines = []
    left = entry
    for line in text.splitlines():
        has = parse(line)
        if has is None or has.path.rstrip("/") != path.rstrip("/"):
            lines.append(line)
        elif left is not None:
            lines.append(left.line())
            left = None
    if left is not None:
        lines.append(left.line())
    return "".join(f"{line}\n" for line in lines)


def _escaped(text: str) -> str:
    return _TO_ESCAPE.sub(lambda match: f"\\{ord(match[0]):03o}", text)


def plain(text: str) -> str:
    """A field as it is meant; blanks are written in octal, in mountinfo, too."""
    return _ESCAPED.sub(lambda match: chr(int(match[1], 8)), text)
