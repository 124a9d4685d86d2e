# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The benchmark's pure parts: what clients say, medians without disturbed rounds, goals, and the table in its forms."""

from __future__ import annotations

import cProfile
import os
import pstats
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from benchmark import lines, page
from benchmark.bench import Comparison
from benchmark.clients import ClientError, Load, iscsi_perf_rate, light_options, light_report, qemu_img_seconds
from benchmark.disks import Disks
from benchmark.lines import Line, number, outcome, wanted
from benchmark.pages import short_lists
from benchmark.processes import Share, stat_times
from benchmark.profile import shares
from benchmark.results import NOISY, Sample, judge, median
from benchmark.rows import K_IOPS, MILLISECONDS, ROWS, Goal, Row, chosen
from benchmark.servers import STARTS, LeftOut, Server, Setting
from benchmark.works import WORKS, Work
from hypothesis import given
from hypothesis import strategies as st

# -- what clients say


def test_iscsi_perf_ends_with_the_average_that_counts() -> None:
    printed = "iops average 100 (0 MB/s)\r\niops average 31542 (129 MB/s) in flight 32\r\nfinished.\n"
    assert iscsi_perf_rate(printed) == 31542


def test_qemu_img_tells_how_long_it_took() -> None:
    assert qemu_img_seconds("Sending 512 requests\nRun completed in 0.250 seconds.\n") == 0.25


def test_a_run_too_short_to_be_measured_does_not_divide_by_zero() -> None:
    assert qemu_img_seconds("Run completed in 0.000 seconds.") > 0


@pytest.mark.parametrize("said", ["", "no route to host", '{"rate": 5}', "[]", "3"])
def test_the_light_client_that_tells_no_result_is_quoted(said: str) -> None:
    with pytest.raises(ClientError, match="told no result"):
        light_report(said, 1.0)


@pytest.mark.parametrize("parse", [iscsi_perf_rate, qemu_img_seconds])
def test_a_client_that_says_something_else_is_quoted(parse: object) -> None:
    with pytest.raises(ClientError, match="connection refused"):
        parse("connection refused")  # type: ignore[operator]


def test_the_servers_time_is_shared_by_the_operations() -> None:
    said = '{"operations": 4, "seconds": 2.0, "rate": 2.0, "median_us": 10, "p99_us": 20, "worst_us": 500000}\n'
    report = light_report(said, 2.0)
    assert (report.rate, report.cpu, report.worst, round(report.median, 9)) == (2.0, 0.5, 0.5, 1e-5)


def test_the_light_client_is_told_what_to_do() -> None:
    load = Load(4096, 8, sessions=32, writes=True, digests=True)
    assert light_options(load, 0.5) == ["-n", "32", "-d", "8", "-s", "4096", "-t", "0.5", "-w", "-D"]


def test_processor_time_is_found_behind_any_name() -> None:
    ticks = os.sysconf("SC_CLK_TCK")
    fields = " ".join(map(str, [0] * 10 + [3 * ticks, ticks] + [0] * 30))
    assert stat_times(f"42 (tricky ) name) S {fields}") == (3.0, 1.0)


def test_a_profile_has_what_is_called_for_the_work_and_no_more() -> None:
    def work() -> None:
        once()
        for _each in range(300):
            each()

    def once() -> None: ...

    def each() -> None: ...

    profiler = cProfile.Profile()
    profiler.runcall(work)
    shown = {share.function: share.calls for share in shares(pstats.Stats(profiler), operations=300)}
    assert shown == {"test_benchmark.py each": 1.0}


# -- medians and goals

ROW = Row("reads", "Some reads", "work", "rate", K_IOPS, (Goal("tgtd", 2.0),))


def sample(target: str, rate: float, noise: float = 0.0, **figures: float) -> Sample:
    return Sample("work", target, 0, {"rate": rate, **figures}, noise)


def judged(row: Row, *samples: Sample, **missing: str) -> Line:
    (line,) = judge([row], list(samples), missing)
    return line


def test_disturbed_rounds_are_dropped() -> None:
    found = median([sample("a", 10), sample("a", 99, noise=NOISY * 2), sample("a", 30), sample("a", 20)], "rate")
    assert found is not None
    assert (found.value, found.rounds, found.dropped) == (20, 3, 1)


def test_when_all_rounds_are_disturbed_they_count_and_it_is_said() -> None:
    line = judged(ROW, sample("openlun", 3000, noise=0.9), sample("tgtd", 1000))
    assert (line.result, line.rounds, line.note) == (3.0, 1, "disturbed by other load")


@pytest.mark.parametrize(("rate", "verdict"), [(2000, "met"), (1999, "MISSED")])
def test_a_rate_is_held_against_the_others(rate: float, verdict: str) -> None:
    line = judged(ROW, sample("openlun", rate), sample("tgtd", 1000), sample("spdk", 1))
    assert (line.ours, line.theirs, line.verdict) == (rate / 1000, 1.0, verdict)


@pytest.mark.parametrize(("client", "note"), [(0.99, "the client's core is full"), (0.6, "")])
def test_who_could_not_ask_for_more_is_told(client: float, note: str) -> None:
    line = judged(ROW, sample("openlun", 100, client=client), sample("tgtd", 60, client=0.2))
    assert line.note == note


def test_what_clients_work_is_told_as_part_of_a_core() -> None:
    with Share() as idle:
        subprocess.run(["sleep", "0.2"], check=True)
    with Share() as busy:
        subprocess.run([sys.executable, "-c", "while __import__('time').process_time() < 0.2: pass"], check=True)
    assert idle.share < busy.share <= 1.1


def test_of_processor_time_less_is_better() -> None:
    line = judged(ROW._replace(less=True), sample("openlun", 2), sample("tgtd", 20))
    assert (line.result, line.verdict) == (10.0, "met")


def test_a_part_is_that_of_the_same_measurement() -> None:
    row = ROW._replace(goals=(Goal("plain", 0.6, part=True),))
    assert row.targets() == {"openlun"}
    assert judged(row, sample("openlun", 50, plain=100)).verdict == "MISSED"


@pytest.mark.parametrize(("seconds", "verdict"), [(0.020, "met"), (0.021, "MISSED")])
def test_a_limit_is_in_the_unit_of_the_row(seconds: float, verdict: str) -> None:
    row = ROW._replace(unit=MILLISECONDS, goals=(Goal("", 20),))
    line = judged(row, sample("openlun", seconds))
    assert (line.sign, line.verdict) == ("≤", verdict)
    assert outcome(line).endswith(" ms")


def test_without_a_bound_nothing_is_met_or_missed() -> None:
    line = judged(ROW._replace(goals=(Goal("tgtd", None),)), sample("openlun", 1), sample("tgtd", 2))
    assert (outcome(line), wanted(line), line.verdict) == ("0.50 ×", "", "")


def test_who_is_missing_is_told_with_the_reason() -> None:
    line = judged(ROW, sample("openlun", 1), tgtd="not installed")
    assert (line.result, line.verdict, line.note) == (None, "left out", "not installed")


def test_work_that_failed_on_one_target_is_told_in_its_rows_only() -> None:
    samples = [sample("openlun", 1)]
    other = ROW._replace(key="others", work="other")
    failed = {"work on tgtd": "failed: no route"}
    told = [(line.verdict, line.note) for line in judge([ROW, other], samples, failed)]
    assert told == [("FAILED", "failed: no route"), ("left out", "")]


class Rehearsal(Comparison):
    """A comparison on nothing, disturbed as told."""

    def __init__(self, *noises: float) -> None:
        super().__init__(Setting(Path(), Disks(Path(), Path()), 0, 1, Path(), None), Path())
        self.noises = iter(noises)

    def _server(self, name: str) -> Server:
        if name == "spdk":
            raise LeftOut("no SPDK was named")
        return cast(Server, None)

    def _once(self, work: Work, name: str, _server: Server, number: int, _seconds: float) -> Sample:
        return Sample(work.key, name, number, {}, next(self.noises, 0.0))


def test_targets_take_turns_at_beginning() -> None:
    rehearsal = Rehearsal()
    rehearsal.run(chosen(["read-qd32"], True), 2, 1, False)
    assert [sample.target for sample in rehearsal.samples] == ["openlun", "tgtd", "tgtd", "openlun"]
    assert rehearsal.missing == {"spdk": "no SPDK was named"}
    assert not rehearsal.failed


def test_a_target_that_fails_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    class Broken(Rehearsal):
        def _once(self, work: Work, name: str, server: Server, number: int, seconds: float) -> Sample:
            if name == "tgtd":
                raise ClientError("no route")
            return super()._once(work, name, server, number, seconds)

    broken = Broken()
    broken.run(chosen(["read-qd32"], False), 2, 1, False)
    assert [sample.target for sample in broken.samples] == ["openlun", "openlun"]
    assert broken.missing == {"read-qd32 on tgtd": "failed: no route"}
    assert broken.failed
    assert "read-qd32 on tgtd failed: no route" in capsys.readouterr().err


def test_a_disturbed_measurement_is_repeated() -> None:
    rehearsal = Rehearsal(0.9, 0.0)
    rehearsal.run(chosen(["read-qd32"], False), 1, 1, False)
    assert [sample.target for sample in rehearsal.samples] == ["openlun", "openlun", "tgtd"]


def test_on_a_busy_machine_not_everything_is_repeated() -> None:
    rehearsal = Rehearsal(*[0.9] * 99)
    rehearsal.run(chosen(["read-*"], False), 4, 1, False)
    planned = 4 * 7
    assert len(rehearsal.samples) == planned * 1.5


# -- the rows


def test_every_row_is_made_of_known_work_and_targets() -> None:
    for row in ROWS:
        assert row.work in WORKS
        assert row.targets() <= set(STARTS)
    assert len({row.key for row in ROWS}) == len(ROWS)


def test_rows_are_chosen_by_name_or_pattern() -> None:
    assert [row.key for row in chosen(["cpu-*", "read-qd1"], True)] == ["read-qd1", "cpu-read", "cpu-write"]
    with pytest.raises(ValueError, match=r"no row is named nope. There are: read-qd1, "):
        chosen(["nope"], True)


@pytest.mark.parametrize("present", [True, False])
def test_spdk_is_held_against_only_where_it_is(present: bool) -> None:
    assert any("spdk" in row.targets() for row in chosen([], present)) is present


# -- the table's forms

names = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=12)
numbers = st.none() | st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 9)
some_lines = st.builds(
    Line,
    *(names, names, names, numbers, names, names, numbers, numbers, st.sampled_from("≥≤"), numbers),
    *(counts, counts, st.floats(0, 2), names),
)


@given(table=st.lists(some_lines, max_size=4))
def test_what_was_saved_is_loaded(table: list[Line], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.getbasetemp() / "results.csv"
    lines.save(path, table)
    assert lines.load(path) == table


def line(row: str, result: float | None = 2.5) -> Line:
    return Line(row, f"Work {row}", "openlun", 5.0, "K IOPS", "tgtd", 2.0, result, "≥", 2.0, 3, 1, 0.1, "")


def test_the_text_shows_result_goal_and_rounds() -> None:
    last = lines.text([line("a")]).splitlines()[-1]
    assert " ".join(last.split()) == "Work a 5.00 K IOPS tgtd 2.00 2.50 × ≥ 2 × met 3 (1)"


@pytest.mark.parametrize(
    ("value", "shown"), [(None, "–"), (0.123, "0.12"), (12.34, "12.3"), (123.4, "123"), (-250.0, "-250"), (0.0, "0.00")]
)
def test_numbers_have_three_digits_that_matter(value: float | None, shown: str) -> None:
    assert number(value) == shown


def test_a_run_of_some_rows_replaces_only_these() -> None:
    before = [line("a"), line("b", 1.0), line("gone")]
    assert lines.merged(before, [line("b", 3.0), line("c")], "cab") == [line("c"), line("a"), line("b", 3.0)]


def test_the_page_gets_the_table_between_its_marks() -> None:
    text = "before\n<!-- begin results -->\nold\n<!-- end results -->\nafter\n"
    new = page.replaced(text, "results", page.markdown([line("a")], {"machine": "2 cores"}))
    assert new.startswith("before\n<!-- begin results -->\n| work |")
    assert new.endswith("\n<!-- end results -->\nafter\n")
    assert "old" not in new
    assert "| Work a | 5.00 K IOPS | tgtd 2.00 | 2.50 × | ≥ 2 × | met |\n" in new
    assert "Machine: 2 cores." in new


def test_a_page_without_marks_is_not_touched() -> None:
    with pytest.raises(ValueError, match="no <!-- begin results --> and"):
        page.replaced("text", "results", "table")


@pytest.mark.parametrize("part", ["results", "profile"])
def test_the_page_of_the_docs_has_the_marks(part: str) -> None:
    assert "what is new" in page.replaced(page.PAGE.read_text(), part, "what is new")


def test_lists_of_free_pages_are_short_for_as_long_as_it_is_measured(tmp_path: Path) -> None:
    setting = tmp_path / "percpu_pagelist_high_fraction"
    setting.write_text("0\n")

    def measure() -> None:
        with short_lists(setting) as told:
            assert setting.read_text() == "20000"
            assert told == "percpu_pagelist_high_fraction 20000"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure()
    assert setting.read_text() == "0"


def test_it_is_measured_where_the_kernel_has_no_such_setting(tmp_path: Path) -> None:
    with short_lists(tmp_path / "setting") as told:
        assert told == "setting cannot be set: No such file or directory"
