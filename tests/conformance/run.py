# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs libiscsi's conformance suite on every kind of LUN: each test in a process of its own, then all in one.

Prints what fails, a table of tests and kinds, and why tests are skipped; leaves every test's words in
build/results/conformance. Exit status 1 if a test fails that could pass, or passes on no kind at all. The same for
tgtd, to compare with, except that nothing is expected of it.
"""

from __future__ import annotations

import argparse
import functools
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Callable, Final

from conformance import report
from conformance.kinds import EXPECTED, KINDS, TGTD, Kind, results_of
from conformance.luns import Lun, engine_lun, tgtd_lun
from conformance.report import FAIL, PASS, SKIP, totals
from engine_process import run

ROOT = Path(__file__).resolve().parents[2]
RESULTS: Final = ROOT / "build" / "results" / "conformance"
_NOT_OURS: Final = {
    "iSCSITMF.LUNResetSimpleAsync": "alone it fails with any target: it wants the answer before it sends the request",
}
"""Tests of iscsi-test-cu 1.19 that cannot pass in a process of their own, and why."""
Fresh = Callable[[Kind], AbstractContextManager[Lun]]
"""Makes a LUN of that kind."""


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
    parser.add_argument("--peer", default="", choices=("", "tgtd"), help="the target to test instead of the engine")
    parser.add_argument("--cores", type=int, default=1, help="how many the engine runs on, counted from the first")
    parser.add_argument("--archive", type=Path, default=ROOT / "build" / "openlun-iscsi.pyz")
    options = parser.parse_args()
    there = [kind for kind in KINDS if not options.peer or kind.name in TGTD]
    wanted = options.kinds.replace(",", " ").split()
    kinds = [kind for kind in there if not wanted or kind.name in wanted]
    try:
        tests = tests_of(options.family)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if len(kinds) < len(wanted):
        print(f"Kinds of LUN: {', '.join(kind.name for kind in there)}.", file=sys.stderr)
        return 2
    kinds = [kind for kind in kinds if any(map(kind.is_for, tests))]
    fresh = tgtd_lun if options.peer else functools.partial(engine_lun, options.archive, options.cores)
    results = RESULTS / options.peer / (f"{options.cores}-cores" if options.cores > 1 else "")
    found = {kind.name: _run_kind(fresh, kind, tests, options.family, results) for kind in kinds}
    best = {name: _best(*outcome) for name, outcome in found.items()}
    skipped = {kind.name: _reasons(results, kind, options.family, best[kind.name]) for kind in kinds}
    table = "\n".join((*report.table(best), *report.skips(skipped)))
    (results / "table.txt").write_text(table + "\n")
    print(table)
    print(f"what they said: {results.relative_to(ROOT)}")
    if options.peer:
        return 0
    worse = any(_unexpected(name, *outcome) for name, outcome in found.items())
    return int(worse or (not wanted and bool(report.never(best))))


def _run_kind(
    fresh: Fresh, kind: Kind, tests: list[str], family: str, results: Path
) -> tuple[dict[str, str], dict[str, str]]:
    """The outcomes of the tests that the kind is for: each alone, and all in one process where it is for all."""
    print(f"{kind.name}: {kind.about}", flush=True)
    alone: dict[str, str] = {}
    with fresh(kind) as lun:
        for test in filter(kind.is_for, tests):
            found = lun.test(test, results_of(results, kind, test))
            alone.update(found)
            for name in (name for name, outcome in found.items() if outcome == FAIL):
                note = _excuse(name, kind.name)
                print(f"  {FAIL}  {name}{f' ({note})' if note else ''}", flush=True)
    print(f"  each alone:     {totals(alone)}", flush=True)
    if kind.only:
        return alone, {}
    with fresh(kind) as lun:
        together = lun.test(family, results_of(results, kind, family))
    for name, outcome in together.items():
        if outcome != alone.get(name):
            print(f"  {outcome}  {name} with the others in one process")
    print(f"  in one process: {totals(together)}", flush=True)
    return alone, together


def _reasons(results: Path, kind: Kind, family: str, outcomes_of: dict[str, str]) -> dict[str, str]:
    """Why each of the tests was skipped that were."""
    skipped = (f"{family.partition('.')[0]}.{test}" for test, outcome in outcomes_of.items() if outcome == SKIP)
    found: dict[str, str] = {}
    for test in skipped:
        found.update(report.reasons(results_of(results, kind, test).read_text()))
    return found


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
