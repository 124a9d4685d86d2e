# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""READs and WRITEs that are carried out in a row are answered as if each was carried out by itself."""

from __future__ import annotations

import contextlib
import random
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from engine_process import Launch, Target, eventually
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pdu import cdb, wire
from pdu.digests import DigestInitiator
from pdu.initiator import Closed, Initiator
from pdu.wire import Pdu

BLOCK = 512
BLOCKS = 2048


class Pair(NamedTuple):
    """Two disks of the same size: of the second every command goes the long way, as its memory is another bdev's."""

    quick: Target
    slow: Target


@pytest.fixture(scope="module")
def pair(launch_shared: Launch) -> Pair:
    engine = launch_shared()
    engine.initiator_group()
    port = engine.portal_group()
    engine.malloc("Quick0", 1)
    engine.rpc("bdev_passthru_create", base_bdev_name=engine.malloc("Base0", 1), name="Slow0")
    return Pair(*(Target(engine, port, engine.node(name.lower(), name)) for name in ("Quick0", "Slow0")))


class Step(NamedTuple):
    """A command: what may be usual or unusual about it."""

    code: int
    lba: int
    blocks: int
    options: int
    flags: int
    announced: int
    """Bytes of the expected data transfer length beyond those of the blocks."""
    brought: int
    """Bytes of data beyond those of the blocks, which a WRITE brings."""
    lun: int
    immediate: bool
    skipped: int
    """By how many its CmdSN is too high."""
    spoiled: str
    """Which of its digests is wrong, where there are some."""

    @property
    def brings_data(self) -> bool:
        brings = self.flags & wire.WRITE or self.brought > 0
        return bool(brings) and self.blocks * BLOCK + self.brought > 0

    def pdu(self, initiator: Initiator, seed: int) -> Pdu:
        is_ten = self.code < 0x80
        make: Any = {0x28: cdb.read_10, 0x2A: cdb.write_10, 0x88: cdb.read_16, 0x8A: cdb.write_16}.get(self.code)
        words = bytearray(make(self.lba % 2**32 if is_ten else self.lba, self.blocks) if make else bytes(6))
        if make:
            words[1] = self.options
        length = self.blocks * BLOCK
        data = random.Random(seed).randbytes(length + self.brought) if self.brings_data else b""
        command = initiator.command(
            bytes(words),
            flags=self.flags,
            length=max(0, length + self.announced),
            data=data,
            lun=self.lun,
            immediate=self.immediate,
        )
        return command.set(cmd_sn=(command_number(command) + self.skipped) % 2**32)


def command_number(pdu: Pdu) -> int:
    return int.from_bytes(pdu.header[24:28], "big")


def mostly(usual: Any, *unusual: Any) -> st.SearchStrategy[Any]:
    """``usual`` nine times of ten."""
    return st.sampled_from([usual] * 9 * len(unusual) + list(unusual))


READ = wire.FINAL | wire.READ | wire.SIMPLE
WRITE = wire.FINAL | wire.WRITE | wire.SIMPLE
STEPS = st.sampled_from([(0x28, READ), (0x88, READ), (0x2A, WRITE), (0x8A, WRITE), (0x00, wire.FINAL)]).flatmap(
    lambda kind: st.builds(
        Step,
        code=st.just(kind[0]),
        flags=mostly(kind[1], kind[1] | 2, kind[1] & ~wire.READ, kind[1] & ~wire.FINAL, READ | WRITE),
        lba=mostly(17, 16, 20, BLOCKS - 1, BLOCKS - 8, BLOCKS, 2**32 + 17),
        blocks=mostly(1, 2, 8, 0),
        options=mostly(0, 0x08, 0x10, 0x20),
        announced=mostly(0, 0, BLOCK, -BLOCK, -100),
        brought=mostly(0, 0, BLOCK, -BLOCK, -100),
        lun=mostly(0, 0, 1),
        immediate=mostly(False, False, True),
        skipped=mostly(0, 0, 1, -1, 1000),
        spoiled=mostly("", "", "", "header", "data"),
    )
)


def answers(target: Target, steps: list[Step], digests: tuple[str, str]) -> list[Pdu]:
    """What the target says to these commands, sent in one piece, up to the answer to a ping after them."""
    keys = dict(zip(("HeaderDigest", "DataDigest"), digests), FirstBurstLength="4096", MaxRecvDataSegmentLength="2048")
    with DigestInitiator(("127.0.0.1", target.port)).login(target.name, **keys) as initiator:
        initiator.execute(cdb.unit_ready())  # takes a unit attention away
        commands = [
            initiator.protected(
                step.pdu(initiator, number),
                spoil_header=initiator.header_digest and step.spoiled == "header",
                spoil_data=initiator.data_digest and step.spoiled == "data" and step.brings_data,
            )
            for number, step in enumerate(steps)
        ]
        ping = initiator.nop_out(b"the end")
        initiator.send(*commands, ping)
        said = []
        with contextlib.suppress(Closed):
            while True:
                said.append(initiator.receive())
                if said[-1].opcode == wire.NOP_IN and said[-1].itt == ping.itt:
                    break
        return said


USUAL = Step(0x2A, 17, 1, 0, WRITE, 0, 0, 0, False, 0, "")
DIGESTS = st.sampled_from([("None", "None"), ("CRC32C", "CRC32C"), ("CRC32C", "None"), ("None", "CRC32C")])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=12), DIGESTS)
@example([USUAL, USUAL._replace(spoiled="data"), USUAL], ("CRC32C", "CRC32C"))
@example([USUAL, USUAL._replace(spoiled="header"), USUAL], ("CRC32C", "None"))
def test_both_ways_give_the_same_answers_and_the_same_disk(
    pair: Pair, steps: list[Step], digests: tuple[str, str]
) -> None:
    quick, slow = (answers(target, steps, digests) for target in pair)
    assert [(bytes(pdu.header), pdu.data) for pdu in quick] == [(bytes(pdu.header), pdu.data) for pdu in slow]
    disks = []
    for target in pair:
        with target.login() as initiator:
            disks.append(initiator.read(cdb.read_10(0, 64), 64 * BLOCK).data)
    assert disks[0] == disks[1]


def test_both_ways_count_the_same(pair: Pair) -> None:
    def counters(target: Target, name: str) -> list[int]:
        [counted] = target.engine.rpc("bdev_get_iostat", names=[name])["bdevs"]
        return [counted[key] for key in ("num_read_ops", "bytes_read", "num_write_ops", "bytes_written")]

    def counted(target: Target, name: str) -> list[int]:
        before = counters(target, name)
        with target.login() as initiator:
            initiator.execute(cdb.unit_ready())
            commands = [
                initiator.command(cdb.read_10(0, 2), flags=READ, length=2 * BLOCK),
                initiator.command(cdb.write_16(0, 1), flags=WRITE, length=BLOCK, data=bytes(BLOCK)),
                initiator.command(cdb.read_16(0, 1), flags=READ, length=BLOCK),
            ]
            initiator.send(*commands)
            for command in commands:
                assert initiator.finish(command).status == 0
        return [now - then for now, then in zip(counters(target, name), before)]

    assert counted(pair.quick, "Quick0") == counted(pair.slow, "Slow0") == [2, 3 * BLOCK, 1, BLOCK]


def test_what_comes_after_a_logout_is_not_carried_out(pair: Pair) -> None:
    for target in pair:
        with target.login() as initiator:
            initiator.execute(cdb.unit_ready())
            before = initiator.read(cdb.read_10(100, 1), BLOCK).data
            late = bytes(byte ^ 0xFF for byte in before)
            logout = initiator.logout()
            write = initiator.command(cdb.write_10(100, 1), flags=WRITE, length=BLOCK, data=late)
            initiator.send(logout, write)
            assert initiator.receive().opcode == wire.LOGOUT_RESPONSE
            assert initiator.is_closed()
        with target.login() as initiator:
            initiator.execute(cdb.unit_ready())
            assert initiator.read(cdb.read_10(100, 1), BLOCK).data == before


# -- reads whose data still waits are not overtaken


@pytest.fixture(scope="module", params=["memory", "file in memory"])
def disk(request: pytest.FixtureRequest, launch_shared: Launch) -> Iterator[Target]:
    engine = launch_shared()
    engine.initiator_group()
    port = engine.portal_group()
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as image:
        if request.param == "memory":
            bdev = engine.malloc("Disk0", 4)
        else:
            image.write(bytes(range(256)) * 2**14)
            image.flush()
            bdev = engine.aio("Disk0", Path(image.name), block_size=BLOCK)
        yield Target(engine, port, engine.node("disk0", bdev))


LONG = 512
"""Blocks of a read that is to wait."""


def reads(initiator: Initiator, count: int = 30, announced: int = 0) -> list[Pdu]:
    """More than the socket takes, and no more than may wait."""
    initiator.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    length = LONG * BLOCK + announced
    return [initiator.command(cdb.read_10(0, LONG), flags=READ, length=length) for _each in range(count)]


def write_of(initiator: Initiator, data: bytes) -> Pdu:
    return initiator.command(cdb.write_10(LONG // 2, 8), flags=WRITE, length=len(data), data=data)


def test_a_write_after_reads_does_not_change_what_they_read(disk: Target) -> None:
    with disk.login() as initiator:
        before = initiator.read(cdb.read_10(0, LONG), LONG * BLOCK).data
        data = random.Random(1).randbytes(8 * BLOCK)
        waiting, write = reads(initiator), write_of(initiator, data)
        initiator.send(*waiting, write)
        assert {initiator.finish(command).data for command in waiting} == {before}
        assert initiator.finish(write).status == 0
        assert initiator.read(cdb.read_10(LONG // 2, 8), 8 * BLOCK).data == data


def test_a_write_of_another_session_does_not_change_what_waits_to_be_sent(disk: Target) -> None:
    data = random.Random(2).randbytes(8 * BLOCK)
    other = disk.connect(isid=bytes.fromhex("8000000000cc"))
    with disk.login() as initiator, other.login(disk.name):
        before = initiator.read(cdb.read_10(0, LONG), LONG * BLOCK).data
        waiting = reads(initiator)
        initiator.send(*waiting)
        first = initiator.finish(waiting[0])  # so they are all carried out: they came in one piece
        write = write_of(other, data)
        other.send(write)
        assert other.finish(write).status == 0
        assert {first.data, *(initiator.finish(command).data for command in waiting[1:])} == {before}
        assert initiator.read(cdb.read_10(LONG // 2, 8), 8 * BLOCK).data == data


@pytest.mark.parametrize("announced", [0, BLOCK], ids=["in a row", "one by one"])
def test_who_reads_no_answers_is_read_no_commands_of(disk: Target, announced: int) -> None:
    """Nobody makes the engine hold answers without bound, nor copy them when a WRITE comes."""

    def done() -> int:
        [counted] = disk.engine.rpc("bdev_get_iostat", names=["Disk0"])["bdevs"]
        return int(counted["num_read_ops"])

    with disk.login() as initiator:
        initiator.execute(cdb.unit_ready())
        before = done()
        waiting = reads(initiator, 1000, announced)
        initiator.send(*waiting)
        eventually(lambda: done() > before, "commands that are carried out")
        assert done() - before < 200
        assert {initiator.receive().status for _each in waiting} == {0}
        assert done() - before == 1000
