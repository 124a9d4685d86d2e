# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's iscsi_tgt in the place of the collection's engine, for the tests that hold for both."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest
from engine_process import Engine, die_with_parent

FRUGAL: Final = ("-m", "0x1", "-s", "512", "--no-huge", "--no-pci")
"""One core, memory in MiB, no huge pages and no devices of the host."""

_SAME: Final = frozenset(("--wait-for-rpc",))
"""Arguments that mean the same to both engines."""


class SpdkEngine(Engine):
    """``program`` is iscsi_tgt, ``resources`` its options for cores and memory.

    A test that needs more of the collection's engine than this one has is skipped.
    """

    def __init__(
        self, program: Path, *arguments: str | Path, state: bool = False, resources: tuple[str, ...] = FRUGAL
    ) -> None:
        foreign = [str(each) for each in arguments if each not in _SAME]
        if state or foreign:
            pytest.skip(f"SPDK's iscsi_tgt has no {' '.join(foreign) or 'state directory or archive'}")
        super().__init__(program, *arguments)
        self.resources = resources

    def spawn(self) -> subprocess.Popen[bytes]:
        command = [self.archive, "-r", self.socket, *self.resources, *self.arguments]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
            )
        return self.process
