# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The LUNs that the suite is run on, behind two ways to a new server: the engine, or tgtd to compare with."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Final, NamedTuple

from conformance.kinds import MEBIBYTES, TGTD, Kind
from conformance.report import FAIL, outcomes
from engine_process import Engine, on_cores, run
from tgt_process import Tgtd

_SECONDS: Final = 900
"""Before a run counts as hung."""


class Lun(NamedTuple):
    """One LUN and two ways to it, as the tests of multipath want them; ``alive`` tells if its server still runs."""

    urls: tuple[str, ...]
    alive: Callable[[], bool]

    def test(self, pattern: str, log: Path) -> dict[str, str]:
        """Run the tests that match; FAIL under the pattern's own name for a run that did not end or never began."""
        name = pattern.partition(".")[2] if pattern.count(".") == 2 else pattern
        command = ("iscsi-test-cu", "-d", "-S", "-V", "-t", pattern, *self.urls)
        try:
            ended = run(*command, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            return {name: FAIL}
        log.write_text(ended.stdout + ended.stderr)
        found = outcomes(ended.stdout) or {name: FAIL}
        if ended.returncode not in (0, 1) or not self.alive():
            found[name] = FAIL
        return found


@contextmanager
def engine_lun(archive: Path, cores: int, kind: Kind) -> Iterator[Lun]:
    """A LUN of that kind, by two portal groups of a new engine on so many cores that keeps its state."""
    engine = Engine(archive, *on_cores(cores), state=True)
    try:
        engine.start()
        engine.initiator_group()
        ports = [engine.portal_group(1), engine.portal_group(3)]
        name = engine.node("conformance", engine.malloc("Placeholder0", 1))
        engine.rpc("iscsi_target_node_add_pg_ig_maps", name=name, pg_ig_maps=[{"pg_tag": 3, "ig_tag": 2}])
        engine.rpc("iscsi_target_node_add_lun", name=name, bdev_name=kind.make(engine), lun_id=1, **kind.options)
        yield Lun(tuple(f"iscsi://127.0.0.1:{port}/{name}/1" for port in ports), engine.alive)
    finally:
        engine.remove()


@contextmanager
def tgtd_lun(kind: Kind) -> Iterator[Lun]:
    """The nearest to that kind that tgtd has, by two portals of a new one."""
    block_size, parameters = TGTD[kind.name]
    tgtd = Tgtd(portals=2)
    try:
        with tempfile.NamedTemporaryFile(prefix="openlun-tgt-") as disk:
            disk.truncate(MEBIBYTES * 2**20)
            tgtd.add_lun(Path(disk.name), block_size, parameters)
            yield Lun(tuple(tgtd.urls), tgtd.alive)
    finally:
        tgtd.stop()
