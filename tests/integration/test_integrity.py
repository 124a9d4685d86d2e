# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Data against a model: qemu and a client of our own write at random while LUNs are added, removed and resized."""

from __future__ import annotations

import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Protocol

import pytest
from cluster import needs_two_cores
from engine_process import Engine, Launch, Target, eventually, on_cores, run
from pdu import cdb
from pdu.initiator import Initiator, Outcome

BLOCK = 512
STRIPE = 64
"""Blocks. Of two clients each has every second stripe."""
MEBIBYTES = 4
BLOCKS = MEBIBYTES * 2**20 // BLOCK
TURNS = 40
STEPS = 20
"""What each client does at least while the LUNs are as they are."""
GROWTH = 65536
"""Bytes a turn."""
GOOD = 0
UNIT_ATTENTION = 6
NO_UNIT = (5, 0x25, 0x00)
OTHER_LUN = 1
PROMPT = "qemu-io> "


class Client(Protocol):
    """A session. A block is filled with one byte, which stands for it in a model."""

    def write(self, lba: int, pattern: bytes) -> None: ...

    def zero(self, lba: int, blocks: int) -> None: ...

    def check(self, lba: int, pattern: bytes) -> None: ...

    def flush(self) -> None: ...


def runs(lba: int, pattern: bytes) -> Iterator[tuple[int, int, int]]:
    """Byte, offset and length in bytes of each run of equal blocks."""
    for value, group in groupby(pattern):
        blocks = len(list(group))
        yield value, lba * BLOCK, blocks * BLOCK
        lba += blocks


class QemuIo:
    """A session of qemu's block layer, with its own queue of commands."""

    def __init__(self, url: str) -> None:
        self._process = subprocess.Popen(
            ("qemu-io", "-f", "raw", "-t", "none", url),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.attentions = 0
        """How often it was told of a change."""
        assert self._answer() == ""

    def __enter__(self) -> QemuIo:
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate(b"quit\n", timeout=20)

    def _answer(self) -> str:
        """What it says up to its prompt."""
        assert self._process.stdout
        said = ""
        while not said.endswith(PROMPT):
            character = self._process.stdout.read(1)
            assert character, f"qemu-io ended: {said}"
            said += character.decode(errors="replace")
        return said[: -len(PROMPT)]

    def _do(self, *commands: str) -> None:
        """With -q its commands are silent unless something is wrong, or it met a unit attention and tries again.

        It takes one line at a time: of two that are there it sees the second when a third comes.
        """
        assert self._process.stdin
        lines = []
        for command in commands:
            self._process.stdin.write(f"{command}\n".encode())
            self._process.stdin.flush()
            lines += self._answer().splitlines()
        wrong = [line for line in lines if "UNIT_ATTENTION" not in line]
        assert wrong == [], commands
        self.attentions += len(lines)

    def write(self, lba: int, pattern: bytes) -> None:
        """All at once, then wait for them."""
        self._do(*(f"aio_write -q -P {value} {at} {length}" for value, at, length in runs(lba, pattern)), "aio_flush")

    def zero(self, lba: int, blocks: int) -> None:
        self._do(f"write -q -z -u {lba * BLOCK} {blocks * BLOCK}")

    def check(self, lba: int, pattern: bytes) -> None:
        self._do(*(f"read -q -P {value} {at} {length}" for value, at, length in runs(lba, pattern)))

    def flush(self) -> None:
        self._do("flush")


class PduClient:
    """A session of our own."""

    def __init__(self, initiator: Initiator, lun: int = 0) -> None:
        self._initiator = initiator
        self._lun = lun

    def _write(self, command: bytes, data: bytes = b"") -> Outcome:
        """Repeats a command that met a unit attention."""
        while True:
            outcome = self._initiator.write(command, data, immediate=min(len(data), 8192), lun=self._lun)
            if outcome.status == GOOD or outcome.response.sense[0] != UNIT_ATTENTION:
                return outcome

    def write(self, lba: int, pattern: bytes) -> None:
        assert self.tries_to_write(lba, pattern)

    def tries_to_write(self, lba: int, pattern: bytes) -> bool:
        """Whether there was such a LUN."""
        outcome = self._write(cdb.write_16(lba, len(pattern)), b"".join(bytes([value]) * BLOCK for value in pattern))
        assert outcome.status == GOOD or outcome.response.sense == NO_UNIT
        return outcome.status == GOOD

    def zero(self, lba: int, blocks: int) -> None:
        self.write(lba, bytes(blocks))

    def check(self, lba: int, pattern: bytes) -> None:
        command = cdb.read_16(lba, len(pattern))
        while True:
            outcome = self._initiator.read(command, len(pattern) * BLOCK, lun=self._lun)
            if outcome.status == GOOD:
                assert outcome.data == b"".join(bytes([value]) * BLOCK for value in pattern)
                return
            assert outcome.response.sense[0] == UNIT_ATTENTION or outcome.response.sense == NO_UNIT
            if outcome.response.sense == NO_UNIT:
                return

    def flush(self) -> None:
        assert self._write(cdb.synchronize_cache_10()).status == GOOD


class Host:
    """A client at work in its own stripes, and the model of what has to be there."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.model = bytearray(BLOCKS)
        self.steps = 0
        self._chance = random.Random(number)

    def place(self) -> tuple[int, int]:
        """An LBA and some blocks in one of its stripes."""
        stripe = self._chance.randrange(BLOCKS // STRIPE // 2) * 2 + self.number
        first = self._chance.randrange(STRIPE)
        return stripe * STRIPE + first, self._chance.randint(1, STRIPE - first)

    def pattern(self, blocks: int) -> bytes:
        """Few and long runs of equal blocks."""
        values = self._chance.randbytes(3)
        ends = sorted(self._chance.randint(0, blocks) for _each in range(2))
        lengths = (ends[0], ends[1] - ends[0], blocks - ends[1])
        return b"".join(bytes([value]) * length for value, length in zip(values, lengths))

    def step(self, client: Client) -> None:
        """Write, zero, flush or read."""
        lba, blocks = self.place()
        kind = self._chance.randrange(8)
        if kind < 3:
            pattern = self.pattern(blocks)
            client.write(lba, pattern)
            self.model[lba : lba + blocks] = pattern
        elif kind == 3:
            client.zero(lba, blocks)
            self.model[lba : lba + blocks] = bytes(blocks)
        elif kind == 4:
            client.flush()
        else:
            client.check(lba, bytes(self.model[lba : lba + blocks]))
        self.steps += 1

    def visit(self, client: PduClient) -> None:
        """A step on a LUN that may not be there."""
        lba, blocks = self.place()
        if self._chance.randrange(2):
            client.check(lba, bytes(self.model[lba : lba + blocks]))
        else:
            pattern = self.pattern(blocks)
            if client.tries_to_write(lba, pattern):
                self.model[lba : lba + blocks] = pattern
        self.steps += 1


WITH_WORKERS = [pytest.param((kind, 2), marks=needs_two_cores) for kind in ("thick", "direct")]


@pytest.fixture(params=[("thick", 1), ("holes", 1), ("direct", 1), *WITH_WORKERS], ids=str)
def disk(request: pytest.FixtureRequest, launch: Launch, tmp_path: Path) -> Target:
    """LUN 0 is a file that can grow; the engine runs on one core, or has a worker on each of two."""
    kind, cores = request.param
    engine = launch(*on_cores(cores), state=True)
    engine.initiator_group()
    port = engine.portal_group()
    holes = kind == "holes"
    how = {"fallocate": holes, "sparse": holes, "direct": kind == "direct"}
    bdev = engine.aio("D", tmp_path / "disk", size=BLOCKS * BLOCK, **how)
    engine.aio("Other", tmp_path / "other", size=BLOCKS * BLOCK)
    return Target(engine, port, engine.node("disk", bdev))


def qemu_at_work(client: QemuIo, host: Host, stop: Event) -> None:
    while not stop.is_set():
        host.step(client)
    client.flush()


def ours_at_work(disk: Target, host: Host, guest: Host, stop: Event) -> None:
    """Besides LUN 0 it uses the LUN that comes and goes."""
    with disk.login() as initiator:
        there, elsewhere = PduClient(initiator), PduClient(initiator, OTHER_LUN)
        while not stop.is_set():
            host.step(there)
            guest.visit(elsewhere)
        there.flush()


def change_luns(engine: Engine, node: str, at_work: Callable[[], object]) -> None:
    """LUN 0 grows while it is used, LUN 1 comes, grows and goes, others come and go."""
    for turn in range(1, TURNS + 1):
        engine.rpc("iscsi_target_node_add_lun", name=node, bdev_name="Other", lun_id=OTHER_LUN)
        engine.malloc(f"Extra{turn}", 1)
        engine.rpc("iscsi_target_node_add_lun", name=node, bdev_name=f"Extra{turn}")
        at_work()
        for name in ("D", "Other"):
            engine.rpc("bdev_aio_resize", name=name, size=BLOCKS * BLOCK + turn * GROWTH)
        engine.rpc("bdev_malloc_delete", name=f"Extra{turn}")
        engine.rpc("iscsi_target_node_remove_lun", name=node, lun_id=OTHER_LUN)


def bytes_of(model: bytes) -> bytes:
    """A disk as a model has it, and zeroes where it has grown."""
    return b"".join(bytes([value]) * BLOCK for value in model) + bytes(TURNS * GROWTH)


def test_every_block_is_as_the_model_says(disk: Target, tmp_path: Path) -> None:
    hosts, guest, stop = [Host(0), Host(1)], Host(0), Event()
    # qemu is there before anything changes: what it asks for at first it asks for once, unit attention or not.
    with ThreadPoolExecutor(2) as pool, QemuIo(disk.url()) as qemu:
        clients = [
            pool.submit(qemu_at_work, qemu, hosts[0], stop),
            pool.submit(ours_at_work, disk, hosts[1], guest, stop),
        ]

        def at_work() -> None:
            """Each client does some steps more, or has failed."""
            marks = [host.steps + STEPS for host in hosts]
            eventually(
                lambda: (
                    any(client.done() for client in clients)
                    or all(host.steps >= mark for host, mark in zip(hosts, marks))
                ),
                "both clients",
            )

        try:
            change_luns(disk.engine, disk.name, at_work)
        finally:
            stop.set()
        for client in clients:
            client.result()
    assert any(guest.model)
    assert qemu.attentions
    model = bytes(one or other for one, other in zip(*(host.model for host in hosts)))
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", disk.url(), tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == bytes_of(model)
    assert "Traceback" not in disk.engine.words()
    # What the flush at the end acknowledged outlives the engine.
    disk.engine.end(signal.SIGKILL)
    assert (tmp_path / "disk").read_bytes() == bytes_of(model)
    assert (tmp_path / "other").read_bytes() == bytes_of(bytes(guest.model))
