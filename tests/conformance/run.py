# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs libiscsi's conformance suite against a fresh engine: each test in a process of its own, then all in one.

Prints pass, fail and skip; leaves every test's words in build/results/conformance. Exit status 1 if a test fails that
could pass.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from conformance.report import FAIL, PASS, outcomes, totals
from engine_process import Engine, run

ROOT = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "build" / "results" / "conformance"
_MEBIBYTES: Final = 256
_NOT_OURS: Final = {
    "iSCSITMF.LUNResetSimpleAsync": "alone it fails with any target: it wants the answer before it sends the request",
}
"""Tests of iscsi-test-cu 1.19 that cannot pass in a process of their own, and why."""
_SECONDS: Final = 900
"""Before a run counts as hung."""


class Lun(NamedTuple):
    """One LUN of an engine and two ways to it, as the tests of multipath want them."""

    engine: Engine
    urls: tuple[str, str]

    def test(self, pattern: str, log: Path) -> dict[str, str]:
        """Run the tests that match; FAIL under the pattern's own name for a run that did not end or never began."""
        command = ("iscsi-test-cu", "-d", "-S", "-V", "-t", pattern, *self.urls)
        try:
            ended = run(*command, check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            return {pattern: FAIL}
        log.write_text(ended.stdout + ended.stderr)
        found = outcomes(ended.stdout) or {pattern: FAIL}
        if ended.returncode not in (0, 1) or not self.engine.alive():
            found[pattern] = FAIL
        return found


@contextmanager
def fresh_lun(archive: Path) -> Iterator[Lun]:
    """A thin disk in memory, by two portal groups of a new engine."""
    engine = Engine(archive)
    try:
        engine.start()
        engine.initiator_group()
        ports = [engine.portal_group(1), engine.portal_group(3)]
        name = engine.node("conformance", engine.malloc("Conformance0", _MEBIBYTES))
        engine.rpc("iscsi_target_node_add_pg_ig_maps", name=name, pg_ig_maps=[{"pg_tag": 3, "ig_tag": 2}])
        first, second = (f"iscsi://127.0.0.1:{port}/{name}/0" for port in ports)
        yield Lun(engine, (first, second))
    finally:
        engine.remove()


def tests_of(family: str) -> list[str]:
    """The tests, FAMILY.Suite.Test. Raises ValueError for a family that does not exist."""
    names = [line.strip() for line in run("iscsi-test-cu", "--list").stdout.splitlines()]
    found = [name for name in names if name.count(".") == 2 and name.startswith(f"{family}.")]
    if not found:
        families = sorted({name.partition(".")[0] for name in names if name})
        raise ValueError(f"iscsi-test-cu has no tests {family}. Families: {', '.join(families)}.")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="make conformance", description=__doc__)
    parser.add_argument("--family", default="ALL", help="ALL, SCSI, iSCSI, or a suite such as SCSI.Read10")
    parser.add_argument("--archive", type=Path, default=ROOT / "build" / "openlun-iscsi.pyz")
    options = parser.parse_args()
    try:
        tests = tests_of(options.family)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    RESULTS.mkdir(parents=True, exist_ok=True)
    alone: dict[str, str] = {}
    with fresh_lun(options.archive) as lun:
        for test in tests:
            found = lun.test(test, RESULTS / f"{test}.log")
            alone.update(found)
            for name, outcome in found.items():
                note = _NOT_OURS.get(name) if outcome == FAIL else None
                print(f"{outcome}  {name}{f' ({note})' if note else ''}", flush=True)
    with fresh_lun(options.archive) as lun:
        together = lun.test(options.family, RESULTS / f"{options.family}.log")
    for name, outcome in together.items():
        if outcome != alone.get(name):
            print(f"{outcome}  {name} with the others in one process")
    print(f"each alone:     {totals(alone)}")
    print(f"in one process: {totals(together)}")
    print(f"what they said: {RESULTS.relative_to(ROOT)}")
    failed = {name for name, outcome in alone.items() if outcome == FAIL} - set(_NOT_OURS)
    return int(bool(failed) or FAIL in together.values() or PASS not in alone.values())


if __name__ == "__main__":
    sys.exit(main())
