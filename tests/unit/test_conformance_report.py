# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the runs of iscsi-test-cu are counted."""

from __future__ import annotations

from conformance.report import FAIL, PASS, SKIP, never, outcomes, reasons, skips, totals

OUTPUT = """\
    Send PRIN/READ_KEYS
    [SKIPPED] PERSISTENT RESERVE IN is not implemented.

Suite: Read10
  Test: Simple ...
    Test READ10 of 1-256 blocks
    [OK] READ10 returned SUCCESS NO SENSE(0x00) (null)(0x0000)
    [SKIPPED] LUN too small. Skipping assert
passed
  Test: DpoFua ...
    [SKIPPED] Target does not support DPO. Skipping test
passed    Send PRIN/READ_KEYS
    [SKIPPED] PERSISTENT RESERVE IN is not implemented.

Suite: iSCSITMF
  Test: Simple ...
    [FAILED] READ10 failed
FAILED
    1. test_read10.c:40  - CU_ASSERT_EQUAL(ret,0)
  Test: LUNResetSimpleAsync ...passed

Run Summary:    Type  Total    Ran Passed Failed Inactive
               tests      4      4      3      1        0
"""


def test_a_skip_is_no_pass_and_what_is_outside_of_tests_counts_not() -> None:
    assert outcomes(OUTPUT) == {
        "Read10.Simple": PASS,
        "Read10.DpoFua": SKIP,
        "iSCSITMF.Simple": FAIL,
        "iSCSITMF.LUNResetSimpleAsync": PASS,
    }
    assert totals(outcomes(OUTPUT)) == "2 pass, 1 fail, 1 skip"


def test_a_run_that_never_began_has_no_outcomes() -> None:
    assert outcomes("Failed to connect to target") == {}


def test_skips_are_listed_by_their_reason() -> None:
    assert reasons(OUTPUT) == {"Read10.DpoFua": "Target does not support DPO. Skipping test"}
    why = {"A.One": "No medium.", "A.Two": "Too small.", "B.One": "No medium."}
    assert list(skips({"thin": why})) == ["skipped on thin:", "  No medium. A.One, B.One", "  Too small. A.Two"]


def test_what_passes_nowhere_is_named() -> None:
    assert never({"thin": {"A": PASS, "B": SKIP, "C": SKIP}, "thick": {"A": FAIL, "B": PASS, "C": FAIL}}) == ["C"]
