# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A LUN and the file behind it, on disk and on tmpfs, where READs are sent from the file's own memory."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from engine_process import Engine, Target
from pdu import cdb, wire
from pdu.digests import DigestInitiator
from pdu.initiator import Closed, Initiator, Outcome

BLOCK = 512
SIZE = 16 << 20
READ, WRITE = wire.FINAL | wire.READ | wire.SIMPLE, wire.FINAL | wire.WRITE | wire.SIMPLE
CHECK_CONDITION = 2
MEDIUM_ERROR = (3, 0x11, 0x00)


class Served(NamedTuple):
    """A file, and how to log in to its LUN."""

    path: Path
    target: Target


@pytest.fixture(params=["disk", "tmpfs"])
def served(request: pytest.FixtureRequest, engine: Engine, tmp_path: Path) -> Iterator[Served]:
    engine.initiator_group()
    port = engine.portal_group()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if request.param == "tmpfs" else tmp_path) as directory:
        path = Path(directory, "lun.img")
        path.write_bytes(random.Random(1).randbytes(SIZE))
        yield Served(path, Target(engine, port, engine.node("lun", engine.aio("Lun", path))))


def read_somehow(target: Target, lba: int) -> Outcome:
    """READ a block; a connection that breaks is made again once, as initiators do."""
    try:
        with target.login() as initiator:
            return initiator.read(cdb.read_10(lba, 1), BLOCK)
    except Closed:
        with target.login() as initiator:
            return initiator.read(cdb.read_10(lba, 1), BLOCK)


def test_reads_show_the_file(served: Served) -> None:
    with served.target.login() as initiator:
        data = initiator.read(cdb.read_10(100, 64), 64 * BLOCK).data
    assert data == served.path.read_bytes()[100 * BLOCK : 164 * BLOCK]


def test_a_truncated_file_is_a_medium_error_and_the_engine_lives(served: Served) -> None:
    before = read_somehow(served.target, 0).data
    os.truncate(served.path, SIZE // 2)
    outcome = read_somehow(served.target, SIZE // BLOCK - 1)
    assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, MEDIUM_ERROR)
    assert read_somehow(served.target, 0).data == before
    assert served.target.engine.alive()
    assert "truncated" in served.target.engine.words()


def test_a_write_behind_the_end_of_a_truncated_file_makes_it_longer(served: Served) -> None:
    os.truncate(served.path, SIZE // 2)
    data = b"x" * BLOCK
    with served.target.login() as initiator:
        initiator.execute(cdb.unit_ready())  # takes a unit attention away, without which WRITEs take a shorter way
        write = initiator.command(cdb.write_10(SIZE // BLOCK - 1, 1), flags=WRITE, length=BLOCK, data=data)
        initiator.send(write)
        assert initiator.finish(write).status == 0
        assert initiator.read(cdb.read_10(SIZE // BLOCK - 1, 1), BLOCK).data == data
    assert served.path.read_bytes()[-BLOCK:] == data
    assert served.path.stat().st_size == SIZE
    assert ("truncated" in served.target.engine.words()) == served.path.is_relative_to("/dev/shm")


def test_a_truncated_file_is_a_medium_error_with_digests(served: Served) -> None:
    before = served.path.read_bytes()[:BLOCK]
    os.truncate(served.path, SIZE // 2)
    with DigestInitiator(("127.0.0.1", served.target.port)) as initiator:
        initiator.login(served.target.name, HeaderDigest="CRC32C", DataDigest="CRC32C")
        initiator.execute(cdb.unit_ready())  # takes a unit attention away, without which READs take a shorter way
        outcome = initiator.read(cdb.read_10(SIZE // BLOCK - 1, 1), BLOCK)
        assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, MEDIUM_ERROR)
        assert initiator.read(cdb.read_10(0, 1), BLOCK).data == before


def test_the_file_has_what_was_written_at_once_and_its_time_tells_after_a_flush(served: Served) -> None:
    with served.target.login() as initiator:
        initiator.execute(cdb.unit_ready())
        for data in (b"x" * BLOCK, b"y" * BLOCK):  # the first one already changes the time, in the kernel
            os.utime(served.path, (1, 1))
            write = initiator.command(cdb.write_10(7, 1), flags=WRITE, length=BLOCK, data=data)
            initiator.send(write)
            assert initiator.finish(write).status == 0
            assert served.path.read_bytes()[7 * BLOCK : 8 * BLOCK] == data
        assert initiator.execute(cdb.synchronize_cache_10()).status == 0
        assert served.path.stat().st_mtime > 1


@pytest.mark.parametrize("digests", ["None", "CRC32C"])
def test_reads_that_wait_in_the_socket_are_not_changed_by_a_later_write(served: Served, digests: str) -> None:
    blocks = 512
    before = served.path.read_bytes()[: blocks * BLOCK]
    after = random.Random(2).randbytes(blocks * BLOCK)
    keys = {"FirstBurstLength": "262144", "MaxRecvDataSegmentLength": "262144"}
    with DigestInitiator(("127.0.0.1", served.target.port)) as initiator:
        initiator.login(served.target.name, HeaderDigest=digests, DataDigest=digests, **keys)
        initiator.execute(cdb.unit_ready())
        reads = [initiator.command(cdb.read_10(0, blocks), flags=READ, length=len(before)) for _each in range(32)]
        write = initiator.command(cdb.write_10(0, blocks), flags=WRITE, length=len(after), data=after)
        initiator.send(*reads, write)
        outcomes = [finished(initiator, command) for command in (*reads, write)]
    assert set(outcomes[:-1]) == {before}
    assert served.path.read_bytes()[: blocks * BLOCK] == after


def finished(initiator: Initiator, command: wire.Pdu) -> bytes:
    return initiator.finish(command).data
