# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""READs and WRITEs in a row, where what they meet cannot be had from outside at will."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import quick
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.sense import CommandsClearedByEvent
from pdu import cdb, wire
from pdu.wire import Pdu

BLOCK = 512


class Place:
    """A connection with a session, and a disk of eight blocks behind LUN 0."""

    def __init__(self) -> None:
        device = Device("iqn.2016-06.io.spdk:disk")
        self.bdev = MallocBdev("M0", 8, BLOCK)
        device.add(0, self.bdev)
        nexus = Nexus(device, "iqn.a,i,0x1", "iqn.2016-06.io.spdk:disk,t,0x0001", 1)
        device.join(nexus)
        use = nexus.use(0)
        assert use is not None
        self.use = use
        self.nexus = nexus
        self.session = SimpleNamespace(behind=False, nexus=nexus, exp_cmd_sn=1, limit=65)
        self.connection: Any = SimpleNamespace(
            session=self.session,
            running={},
            incoming={},
            careful=False,
            closed=False,
            immediate_limit=65536,
            data_in_limit=65536,
            header_digest=False,
            data_digest=False,
            out=[],
            out_bytes=0,
            stat_sn=7,
            borrow=lambda _bdev: None,
            note_use=lambda _use: None,
            note_output=lambda _length: None,
        )

    def carry_out(self, *commands: Pdu) -> int:
        """Gives how many of the commands were."""
        sent = [bytes(command) for command in commands]
        view = memoryview(bytearray(b"".join(sent)))
        at = quick.carry_out(self.connection, view, 0, len(view))
        return [sum(map(len, sent[:count])) for count in range(len(sent) + 1)].index(at)


def command(words: bytes, cmd_sn: int, flags: int, data: bytes = b"", length: int = BLOCK) -> Pdu:
    pdu = Pdu(wire.SCSI_COMMAND, wire.FINAL | flags, data=data, lun=0, cdb=words, itt=cmd_sn)
    return pdu.set(expected_length=length, cmd_sn=cmd_sn)


def read(lba: int, cmd_sn: int) -> Pdu:
    return command(cdb.read_10(lba, 1), cmd_sn, wire.READ)


def write(lba: int, cmd_sn: int) -> Pdu:
    return command(cdb.write_10(lba, 1), cmd_sn, wire.WRITE, b"x" * BLOCK)


def test_what_is_not_in_memory_yet_is_not_read() -> None:
    place = Place()
    place.bdev.num_blocks = 16  # its file has grown
    assert place.carry_out(read(7, 1), read(8, 2)) == 1
    assert place.connection.out_bytes == sum(map(len, place.connection.out))


def test_no_command_is_begun_when_the_window_is_full() -> None:
    place = Place()
    place.session.exp_cmd_sn = place.session.limit  # others, which are not answered yet, have taken all of it
    assert place.carry_out(read(0, 65), write(1, 66)) == 0
    assert (place.session.exp_cmd_sn, place.session.limit) == (65, 65)
    assert not place.connection.out


def test_who_sends_what_a_write_is_about_to_change_knows_how_much_waits() -> None:
    place = Place()
    seen: list[tuple[int, int]] = []

    class Sending:
        def own_borrowed(self) -> None:
            seen.append((place.connection.out_bytes, sum(map(len, place.connection.out))))

    place.connection.borrow = lambda bdev: bdev.lend(Sending())
    assert place.carry_out(read(0, 1), read(1, 2), write(0, 3), read(0, 4), write(1, 5)) == 5
    first, second = 2 * (48 + BLOCK), 2 * (48 + BLOCK) + 48 + 48 + BLOCK
    assert seen == [(first, first), (second, second)]
    assert place.connection.out_bytes == second + 48


def test_a_write_that_ends_its_own_connection_has_its_number_and_is_counted() -> None:
    place = Place()

    class Gone:
        def own_borrowed(self) -> None:
            place.connection.closed = True

    place.bdev.lend(Gone())
    assert place.carry_out(read(0, 1), write(1, 2), read(2, 3)) == 2
    assert bytes(place.bdev.read(BLOCK, BLOCK)) == b"x" * BLOCK
    assert (place.session.exp_cmd_sn, place.session.limit) == (3, 67)
    assert (place.use.reads, place.use.writes) == (1, 1)


def test_a_write_by_which_the_memory_turns_out_to_be_gone_is_the_last_of_its_row() -> None:
    place = Place()

    class Gone:
        def own_borrowed(self) -> None:
            place.bdev.memory = None  # as a file's is that was truncated

    place.bdev.lend(Gone())
    assert place.carry_out(write(1, 1), read(2, 2)) == 1


def test_a_write_that_ends_another_connection_is_the_last_before_its_session_learns_of_that() -> None:
    place = Place()

    class Gone:
        def own_borrowed(self) -> None:
            place.session.limit += 5  # commands that nobody answers any more
            place.nexus.attend(0, CommandsClearedByEvent)

    place.bdev.lend(Gone())
    assert place.carry_out(write(1, 1), write(2, 2)) == 1
    assert (place.session.exp_cmd_sn, place.session.limit) == (2, 71)
    assert len(place.connection.out) == 1
