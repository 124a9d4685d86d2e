# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The kinds of LUN that the suite is run on, and what cannot pass there, by the suite's own source (libiscsi 1.19)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Final, NamedTuple

from engine_process import Engine

MEBIBYTES: Final = 64
_BLOCK: Final = 512
_SLOW: Final = dict.fromkeys(
    ("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency"), 2_000_000
)


class Kind(NamedTuple):
    """``make`` makes the bdev and gives its name; ``options`` go with the LUN; ``only`` are the tests it is for."""

    name: str
    about: str
    make: Callable[[Engine], str]
    options: dict[str, bool] = {}
    only: str = ""

    def is_for(self, test: str) -> bool:
        return not self.only or re.search(self.only, test) is not None


def _malloc(engine: Engine) -> str:
    return engine.malloc("Conformance0", MEBIBYTES)


def _malloc_4096(engine: Engine) -> str:
    return engine.malloc("Conformance0", MEBIBYTES, 4096)


def _physical(engine: Engine) -> str:
    blocks = MEBIBYTES * 2**20 // _BLOCK
    name: str = engine.rpc(
        "bdev_malloc_create", name="Conformance0", num_blocks=blocks, block_size=_BLOCK, physical_block_size=4096
    )
    return name


def _file(engine: Engine) -> str:
    return engine.aio("Conformance0", engine.directory / "disk", size=MEBIBYTES * 2**20)


def _holes(engine: Engine) -> str:
    return engine.aio("Conformance0", engine.directory / "disk", size=MEBIBYTES * 2**20, fallocate=True)


def _slow(engine: Engine) -> str:
    name: str = engine.rpc("bdev_delay_create", name="Slow0", base_bdev_name=_malloc(engine), **_SLOW)
    return name


KINDS: Final = (
    Kind("thin", "512-byte blocks in memory, unmapped on demand", _malloc),
    Kind("thick", "512-byte blocks in a file that keeps its space", _file),
    Kind("holes", "512-byte blocks in a file with holes", _holes),
    Kind("4096", "4096-byte blocks in memory", _malloc_4096),
    Kind("physical", "512-byte blocks, eight to a physical one", _physical),
    Kind("removable", "a medium that can be ejected", _malloc, {"removable": True}),
    Kind(
        *("readonly", "a LUN that cannot be written", _malloc, {"readonly": True}),
        r"ReadOnly|Inquiry\.|Mandatory|ModeSense6|Read\d+\.|ReadCapacity|ReadDefect|ReportSupported|TestUnitReady",
    ),
    Kind("slow", "a disk that takes two seconds for a write", _slow, only=r"Sanitize\.Reset"),
)

TGTD: Final = {
    "thin": (_BLOCK, "thin_provisioning=1"),
    "thick": (_BLOCK, ""),
    "4096": (4096, ""),
    "physical": (_BLOCK, "lbppbe=3"),
    "removable": (_BLOCK, "removable=1"),
    "readonly": (_BLOCK, "readonly=1"),
}
"""The kinds that tgtd has too, always on a file: bytes of a block and tgtadm's parameters."""

_AT_ONCE: Final = "it wants SANITIZE to last longer than four seconds; on the slow disk it does"
EXPECTED: Final[dict[tuple[str, str], str]] = {
    **{("Sanitize.Reset", kind.name): _AT_ONCE for kind in KINDS if kind.name not in ("slow", "readonly")},
    (
        "GetLBAStatus.UnmapSingle",
        "physical",
    ): "it asks for the block after LBA i and wants an answer that begins at the next physical block",
}
"""Failures by test and kind, and why they are none of ours."""


def results_of(directory: Path, kind: Kind, test: str) -> Path:
    """Where the words of a test are left."""
    place = directory / kind.name
    place.mkdir(parents=True, exist_ok=True)
    return place / f"{test}.log"
