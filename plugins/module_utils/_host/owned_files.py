# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Configuration files that are ours: they begin with a line that says so, and no other file is ever changed."""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

MARKER: Final = "# Written by openlun.iscsi. What is changed here gets lost: change the play."


class OwnedFiles:
    """The files of one module on one host."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def text(self, path: str) -> str | None:
        """What our file says below the marker, None when it is missing. Raises HostError when it is not ours."""
        if not self._host.exists(path):
            return None
        text = self._host.read(path)
        if not text.startswith(MARKER + "\n"):
            raise HostError(f"{path}: was not written by openlun.iscsi, and is not changed. Move it away.")
        return text[len(MARKER) + 1 :]

    def ours(self, directory: str, prefix: str, suffix: str) -> list[str]:
        """Paths of the files in a directory that carry the marker."""
        paths = (os.path.join(directory, name) for name in self._host.names(directory))
        return [
            path
            for path in paths
            if os.path.basename(path).startswith(prefix)
            and path.endswith(suffix)
            and os.path.isfile(self._host.path(path))
            and self._host.read(path).startswith(MARKER + "\n")
        ]

    def bring(self, wanted: Mapping[str, str | None]) -> Iterator[Step]:
        """Steps to the wanted texts (path to text below the marker, or None for no file). Raises HostError."""
        for path, text in wanted.items():
            has = self.text(path)
            if has == text:
                continue
            if text is None:
                yield Step("remove", f"file {path}", "it is not declared", partial(self._host.remove, path))
            else:
                action, why = ("create", "it was missing") if has is None else ("edit", "its content differs")
                yield Step(action, f"file {path}", why, partial(self._host.save, path, f"{MARKER}\n{text}"))

    def texts(self, paths: Iterable[str]) -> dict[str, str | None]:
        """What the files say now, for a diff. Raises HostError."""
        return {path: self.text(path) for path in paths}
