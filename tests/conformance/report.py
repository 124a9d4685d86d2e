# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What iscsi-test-cu says, counted honestly: to CUnit a skipped test is a passed one, and its summary has no skips."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Final

PASS, FAIL, SKIP = "pass", "fail", "skip"

_SUITE: Final = re.compile(r"^Suite: (\S+)", re.MULTILINE)
_TEST: Final = re.compile(r"^ *Test: (\S+) \.\.\.(.*?)(?:^|(?<=\.\.\.))(passed|FAILED)", re.MULTILINE | re.DOTALL)
_HARMLESS: Final = "LUN too small"
"""A single check is left out, not the test."""


def outcomes(output: str) -> dict[str, str]:
    """Each test as ``Suite.Test`` with its outcome; probes at the start and other words outside of tests do not count.

    Empty for a run that never got to its tests.
    """
    if "Run Summary" not in output:
        return {}
    found = {}
    parts = _SUITE.split(output)
    for suite, body in zip(parts[1::2], parts[2::2]):
        for name, said, verdict in _TEST.findall(body):
            found[f"{suite}.{name}"] = FAIL if verdict == "FAILED" else SKIP if _skips(said) else PASS
    return found


def _skips(said: str) -> bool:
    return _reason(said) is not None


def _reason(said: str) -> str | None:
    skips = (line.partition("[SKIPPED]")[2].strip() for line in said.splitlines() if "[SKIPPED]" in line)
    return next((reason for reason in skips if _HARMLESS not in reason), None)


def reasons(output: str) -> dict[str, str]:
    """Why tests were skipped, in the suite's words."""
    found = {}
    parts = _SUITE.split(output)
    for suite, body in zip(parts[1::2], parts[2::2]):
        for name, said, verdict in _TEST.findall(body):
            reason = _reason(said)
            if verdict != "FAILED" and reason is not None:
                found[f"{suite}.{name}"] = reason
    return found


def totals(results: Mapping[str, str]) -> str:
    counts = Counter(results.values())
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in (PASS, FAIL, SKIP))


def table(kinds: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line a test with its outcome on each kind of LUN, and how many pass on the kind that they are for."""
    tests = list(dict.fromkeys(test for outcomes_of in kinds.values() for test in outcomes_of))
    width = max(map(len, tests), default=0)
    yield " ".join(["test".ljust(width), *(kind.ljust(9) for kind in kinds)]).rstrip()
    for test in tests:
        found = [outcomes_of.get(test, "-") for outcomes_of in kinds.values()]
        yield " ".join([test.ljust(width), *(outcome.ljust(9) for outcome in found)]).rstrip()
    left = never(kinds)
    passed = f"{len(tests) - len(left)} of {len(tests)} pass on some kind of LUN"
    yield f"{passed}; never: {', '.join(left)}" if left else passed


def never(kinds: Mapping[str, Mapping[str, str]]) -> list[str]:
    """The tests that pass on no kind of LUN."""
    tests = dict.fromkeys(test for outcomes_of in kinds.values() for test in outcomes_of)
    return [test for test in tests if all(outcomes_of.get(test) != PASS for outcomes_of in kinds.values())]


def skips(kinds: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """A line for each reason to skip tests on a kind of LUN; ``kinds`` has the reason of each skipped test."""
    for kind, reasons_of in kinds.items():
        if reasons_of:
            yield f"skipped on {kind}:"
        for reason in dict.fromkeys(reasons_of.values()):
            yield f"  {reason} {', '.join(test for test, why in reasons_of.items() if why == reason)}"
