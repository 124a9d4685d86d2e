# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs libiscsi's conformance suite on every kind of LUN: each test in a process of its own, then all in one.

Prints what fails and a table of tests and kinds; leaves every test's words in build/results/conformance. Exit status 1
if a test fails that could pass.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from conformance import report
from conformance.kinds import EXPECTED, KINDS, Kind, results_of
from conformance.report import FAIL, PASS, outcomes, totals
from engine_process import Engine, run

ROOT = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "build" / "results" / "conformance"
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
def fresh_lun(archive: Path, kind: Kind) -> Iterator[Lun]:
    """A LUN of that kind, by two portal groups of a new engine that keeps its state."""
    engine = Engine(archive, state=True)
    try:
        engine.start()
        engine.initiator_group()
        ports = [engine.portal_group(1), engine.portal_group(3)]
        name = engine.node("conformance", engine.malloc("Placeholder0", 1))
        engine.rpc("iscsi_target_node_add_pg_ig_maps", name=name, pg_ig_maps=[{"pg_tag": 3, "ig_tag": 2}])
        engine.rpc("iscsi_target_node_add_lun", name=name, bdev_name=kind.make(engine), lun_id=1, **kind.options)
        first, second = (f"iscsi://127.0.0.1:{port}/{name}/1" for port in ports)
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
    parser.add_argument("--kinds", default="", help=f"some of {', '.join(kind.name for kind in KINDS)}; all by default")
    parser.add_argument("--archive", type=Path, default=ROOT / "build" / "openlun-iscsi.pyz")
    options = parser.parse_args()
    wanted = options.kinds.replace(",", " ").split()
    kinds = [kind for kind in KINDS if not wanted or kind.name in wanted]
    try:
        tests = tests_of(options.family)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if len(kinds) < len(wanted):
        print(f"Kinds of LUN: {', '.join(kind.name for kind in KINDS)}.", file=sys.stderr)
        return 2
    found = {kind.name: _run_kind(options.archive, kind, tests, options.family) for kind in kinds}
    table = "\n".join(report.table({name: _best(*outcome) for name, outcome in found.items()}))
    (RESULTS / "table.txt").write_text(table + "\n")
    print(table)
    print(f"what they said: {RESULTS.relative_to(ROOT)}")
    return int(any(_unexpected(name, *outcome) for name, outcome in found.items()))


def _run_kind(archive: Path, kind: Kind, tests: list[str], family: str) -> tuple[dict[str, str], dict[str, str]]:
    """The outcomes of the tests that the kind is for: each alone, and all in one process where it is for all."""
    print(f"{kind.name}: {kind.about}", flush=True)
    alone: dict[str, str] = {}
    with fresh_lun(archive, kind) as lun:
        for test in filter(kind.is_for, tests):
            found = lun.test(test, results_of(RESULTS, kind, test))
            alone.update(found)
            for name in (name for name, outcome in found.items() if outcome == FAIL):
                note = _excuse(name, kind.name)
                print(f"  {FAIL}  {name}{f' ({note})' if note else ''}", flush=True)
    print(f"  each alone:     {totals(alone)}", flush=True)
    if kind.only:
        return alone, {}
    with fresh_lun(archive, kind) as lun:
        together = lun.test(family, results_of(RESULTS, kind, family))
    for name, outcome in together.items():
        if outcome != alone.get(name):
            print(f"  {outcome}  {name} with the others in one process")
    print(f"  in one process: {totals(together)}", flush=True)
    return alone, together


def _best(alone: dict[str, str], together: dict[str, str]) -> dict[str, str]:
    """What cannot pass in a process of its own counts as it does with the others."""
    return {**alone, **{test: together[test] for test in _NOT_OURS if test in together}}


def _excuse(test: str, kind: str) -> str | None:
    return EXPECTED.get((test, kind)) or _NOT_OURS.get(test)


def _unexpected(kind: str, alone: dict[str, str], together: dict[str, str]) -> set[str]:
    """The tests that fail and could pass."""
    failed = {name for name, outcome in alone.items() if outcome == FAIL and _excuse(name, kind) is None}
    failed |= {name for name, outcome in together.items() if outcome == FAIL and (name, kind) not in EXPECTED}
    return failed or (set() if PASS in alone.values() else {"nothing passed"})


if __name__ == "__main__":
    sys.exit(main())
