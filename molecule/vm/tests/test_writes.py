# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Initiators' data: what was acknowledged is there, whatever happens to the engine."""

from __future__ import annotations

import contextlib
import struct
import threading
from typing import TYPE_CHECKING, Final

import pytest
from pdu import cdb, wire
from pdu.initiator import Closed, Initiator
from vm.target import SECONDS, geometry, login

if TYPE_CHECKING:
    from collections.abc import Iterator

    from testinfra.host import Host

FUA: Final = 0x08
BLOCKS: Final = 8
"""In one write; 4 KiB on disks with blocks of 512 bytes."""
AT_ONCE: Final = 16
ENOUGH: Final = 64
"""Acknowledged writes before the engine is killed; it goes on being written to."""
RESTARTS: Final = "systemctl show -P NRestarts openlun-iscsi.service"


def _write(lba: int) -> bytes:
    return struct.pack(">BBLBHB", 0x2A, FUA, lba, 0, BLOCKS, 0)


def _pattern(number: int, block_size: int) -> bytes:
    return struct.pack(">Q", number * 0x9E3779B97F4A7C15 % 2**64) * (BLOCKS * block_size // 8)


def _write_until_closed(session: Initiator, lun: int, enough: threading.Event) -> Iterator[int]:
    """Numbers of the writes that were acknowledged: write n is pattern n at the nth place of the second half.

    When all places are written, the first one is next.
    """
    blocks, size = geometry(session, lun)
    places = blocks // 2 // BLOCKS
    pending: dict[int, int] = {}
    number = acknowledged = 0
    with contextlib.suppress(Closed, OSError):
        while True:
            while len(pending) < AT_ONCE:
                data = _pattern(number, size)
                command = session.command(
                    _write(blocks // 2 + number * BLOCKS),
                    flags=wire.FINAL | wire.WRITE | wire.SIMPLE,
                    length=len(data),
                    data=data,
                    lun=lun,
                )
                pending[command.itt] = number
                number = (number + 1) % places
                session.send(command)
            response = session.receive()
            if response.opcode == wire.SCSI_RESPONSE and response.status == 0:
                yield pending.pop(response.itt)
                acknowledged += 1
                if acknowledged == ENOUGH:
                    enough.set()


@pytest.mark.parametrize("lun", [pytest.param(1, id="file"), pytest.param(2, id="nvme")])
def test_acknowledged_writes_survive_the_engines_death(host: Host, lun: int) -> None:
    enough = threading.Event()

    def kill() -> None:
        if enough.wait(SECONDS):
            host.run("systemctl kill --signal=KILL --kill-whom=main openlun-iscsi.service")

    restarts = int(host.check_output(RESTARTS))
    killer = threading.Thread(target=kill)
    killer.start()
    with login() as session:
        acknowledged = set(_write_until_closed(session, lun, enough))
    killer.join()
    assert len(acknowledged) >= ENOUGH
    with login() as session:
        blocks, size = geometry(session, lun)
        lost = []
        for number in acknowledged:
            outcome = session.read(cdb.read_10(blocks // 2 + number * BLOCKS, BLOCKS), BLOCKS * size, lun=lun)
            if outcome.data != _pattern(number, size):
                lost.append(number)
    assert not lost
    assert int(host.check_output(RESTARTS)) == restarts + 1  # by systemd
