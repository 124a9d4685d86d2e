# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine under attack: attackers have one disk, a witness works on another, and the walls are watched."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from itertools import chain
from pathlib import Path
from typing import Final, NamedTuple

from engine_process import DEADLINE, NODE_BASE, Engine, eventually
from fuzz.moves import Move
from pdu import cdb, wire
from pdu.digests import DigestInitiator, WrongDigest
from pdu.initiator import Closed, Initiator, LoginRefused
from pdu.joined import Joined
from pdu.wire import RESERVED_TAG, Pdu

_BLOCK: Final = 512
_BLOCKS: Final = 2048
_BURST: Final = 64
_ISIDS: Final = (bytes.fromhex("80 00 00 0f 00 01"), bytes.fromhex("80 00 00 0f 00 02"))
_ANSWERS: Final = frozenset(
    {
        *(wire.NOP_IN, wire.SCSI_RESPONSE, wire.TASK_RESPONSE, wire.LOGIN_RESPONSE, wire.TEXT_RESPONSE, wire.DATA_IN),
        *(wire.LOGOUT_RESPONSE, wire.R2T, wire.ASYNC, wire.REJECT),
    }
)
_REJECT_REASONS: Final = frozenset(range(0x02, 0x0D))  # RFC 7143 §11.17.1
_LOGIN_STATUSES: Final = frozenset(
    {0x0000, 0x0101, 0x0102, *range(0x0200, 0x020C), 0x0300, 0x0301, 0x0302}
)  # RFC 7143 §11.13.5
_LONGEST_ANSWER: Final = 262144 + 4096


class Start(Enum):
    """Where on its way an attacker begins to misbehave."""

    BEFORE_LOGIN = "before login"
    IN_LOGIN = "in the middle of a login"
    IN_CHAP = "in the middle of CHAP"
    LOGGED_IN = "logged in"
    DISCOVERY = "in a discovery session"
    DIGESTS = "logged in, with digests"
    TWO_CONNECTIONS = "logged in, with two connections that take turns"


class Attack(NamedTuple):
    """What one initiator does."""

    start: Start
    moves: Sequence[Move]
    isid: int = 0


class Finding(AssertionError):
    """Something that no peer may be able to achieve."""


class Witness(Initiator):
    """A well-behaved session; it answers pings."""

    def receive(self) -> Pdu:
        pdu = super().receive()
        if pdu.opcode == wire.NOP_IN and pdu.itt == RESERVED_TAG and pdu.ttt != RESERVED_TAG:
            answer = Pdu(wire.NOP_OUT, immediate=True, itt=RESERVED_TAG, ttt=pdu.ttt)
            self.send(answer.set(cmd_sn=self.cmd_sn, exp_stat_sn=self.exp_stat_sn))
        return pdu


class Fortress:
    """An engine with a disk to attack, one for the witness, and one that nobody may touch."""

    def __init__(self, engine: Engine, directory: Path) -> None:
        self.engine = engine
        engine.initiator_group()
        self.port = engine.portal_group()
        engine.rpc("iscsi_create_auth_group", tag=7, secrets=[{"user": "fuzz", "secret": "what-nobody-knows"}])
        self._files = {name: directory / f"{name}.img" for name in ("fuzz", "chap", "witness", "untouched")}
        for name, path in self._files.items():
            path.write_bytes(bytes(_BLOCKS * _BLOCK))
            engine.node(name, engine.aio(name, path, block_size=_BLOCK))
        engine.rpc("iscsi_target_node_set_auth", name=self._node("chap"), require_chap=True, chap_group=7)
        self._witness = Witness(("127.0.0.1", self.port), name="iqn.2026-01.test.openlun:witness")
        self._witness.login(self._node("witness"))
        self._round = 0
        self._read_log = 0

    def _node(self, name: str) -> str:
        return f"{NODE_BASE}:{name}"

    # -- attacking ---------------------------------------------------------------------------------------------------

    def suffer(self, *attacks: Attack) -> None:
        """Let attackers loose, move by move in turns. Raises Finding."""
        crews: list[list[Initiator]] = []
        tags: dict[Initiator, int] = {}
        try:
            for attack in attacks:
                crews.append([])
                self._begin(attack, crews[-1])
            longest = max((len(attack.moves) for attack in attacks), default=0)
            for step in range(longest):
                for attack, crew in zip(attacks, crews):
                    if step < len(attack.moves) and crew:
                        _send(crew[step % len(crew)], attack.moves[step], _ISIDS[attack.isid % 2], tags)
            for initiator in chain(*crews):
                _hear_out(initiator)
        finally:
            for initiator in chain(*crews):
                initiator.close()
        self.check()

    def _begin(self, attack: Attack, crew: list[Initiator]) -> None:
        """Fill ``crew`` with connections. Who is refused has lost, which is no harm."""
        initiator = DigestInitiator(("127.0.0.1", self.port), isid=_ISIDS[attack.isid % 2])
        crew.append(initiator)
        identity = {"InitiatorName": initiator.name, "SessionType": "Normal", "TargetName": self._node("fuzz")}
        try:
            if attack.start is Start.LOGGED_IN:
                initiator.login(self._node("fuzz"))
            elif attack.start is Start.DISCOVERY:
                initiator.login()
            elif attack.start is Start.DIGESTS:
                initiator.login(self._node("fuzz"), HeaderDigest="CRC32C", DataDigest="CRC32C")
            elif attack.start is Start.TWO_CONNECTIONS:
                initiator.login(self._node("fuzz"), MaxConnections="2")
                second = Joined(initiator, 1)
                crew.append(second)
                second.join(self._node("fuzz"))
            elif attack.start is Start.IN_LOGIN:
                initiator.send(initiator.login_pdu(identity, transit=False))
                initiator.receive()
            elif attack.start is Start.IN_CHAP:
                keys = {**identity, "TargetName": self._node("chap"), "AuthMethod": "CHAP"}
                for pairs in (keys, {"CHAP_A": "7"}):
                    initiator.send(initiator.login_pdu(pairs, csg=0, nsg=1, transit=False))
                    initiator.receive()
        except (LoginRefused, Closed):
            return

    # -- what must hold ----------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises Finding."""
        words = self._news()
        if not self.engine.alive():
            raise Finding(f"the engine ended:\n{words}")
        if "Traceback" in words or "bug in the engine" in words:
            raise Finding(f"the engine met its own bug:\n{words}")
        self._work()

    def _news(self) -> str:
        """What the engine logged since the last look."""
        with self.engine.log.open(errors="replace") as log:
            log.seek(self._read_log)
            words = log.read()
            self._read_log = log.tell()
        return words

    def _work(self) -> None:
        """The witness writes and reads as if nothing had happened."""
        self._round += 1
        lba = self._round * _BURST % _BLOCKS
        data = os.urandom(8) * (_BURST * _BLOCK // 8)
        try:
            wrote = self._witness.write(cdb.write_10(lba, _BURST), data, immediate=4096)
            read = self._witness.read(cdb.read_10(lba, _BURST), len(data))
        except (Closed, TimeoutError, AssertionError) as error:
            raise Finding(f"the witness was disturbed: {error!r}; the engine says:\n{self._news()}") from error
        if (wrote.status, read.status, read.data) != (0, 0, data):
            raise Finding(f"the witness got status {wrote.status}, {read.status}, or not what it wrote")

    def check_walls(self) -> None:
        """What takes longer: disks that nobody may have written, connections that nobody holds. Raises Finding."""
        for name in ("untouched", "chap"):
            if any(self._files[name].read_bytes()):
                raise Finding(f"somebody wrote to disk {name}")
        for name, path in self._files.items():
            if path.stat().st_size != _BLOCKS * _BLOCK:
                raise Finding(f"disk {name} has {path.stat().st_size} bytes now")
        eventually(lambda: len(self.engine.rpc("iscsi_get_connections")) == 1, "all attackers are gone")
        self.check()

    def memory(self) -> int:
        """The engine's resident memory, in KiB."""
        pid = self.engine.rpc("engine_get_info")["pid"]
        fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        return int(fields["VmRSS"].split()[0])

    def close(self) -> None:
        self._witness.close()


@contextmanager
def fortress(archive: Path) -> Iterator[Fortress]:
    """A fresh engine with its disks."""
    engine = Engine(archive)
    try:
        engine.start()
        with tempfile.TemporaryDirectory() as directory:
            walls = Fortress(engine, Path(directory))
            yield walls
            walls.close()
    finally:
        engine.remove()


def _send(initiator: Initiator, move: Move, isid: bytes, tags: dict[Initiator, int]) -> None:
    """Make a move. ``tags`` are those of each connection's last command.

    A target that closed the connection has had enough, which is its right.
    """
    numbers = {
        "cmd_sn": initiator.cmd_sn,
        "exp_stat_sn": initiator.exp_stat_sn,
        "itt": initiator.next_tag() if move.opcode != wire.DATA_OUT else tags.get(initiator, 0),
        **({"ref_task_tag": tags.get(initiator, 0)} if move.opcode == wire.TASK_REQUEST else {}),
        **({"tsih": initiator.tsih} if move.opcode == wire.LOGIN else {}),
    }
    if move.opcode == wire.SCSI_COMMAND:
        tags[initiator] = numbers["itt"]
    if move.takes_number:
        initiator.cmd_sn = (initiator.cmd_sn + 1) % 2**32
    with suppress(OSError):
        initiator.socket.sendall(_encoded(initiator, move, numbers, isid))


def _encoded(initiator: Initiator, move: Move, numbers: dict[str, int], isid: bytes) -> bytes:
    if move.opcode is None:
        return move.data
    pdu = move.build(move.opcode, numbers, isid)
    if isinstance(initiator, DigestInitiator):
        header = initiator.header_digest and move.spoil == 1
        data = initiator.data_digest and move.spoil == 2 and bool(pdu.data)
        return initiator.protected(pdu, spoil_header=header, spoil_data=data)[: move.keep]
    return bytes(pdu)[: move.keep]


def _hear_out(initiator: Initiator) -> None:
    """Say that nothing more will come, and look at all that the target answers until it closes. Raises Finding."""
    initiator.socket.settimeout(DEADLINE)
    with suppress(OSError):
        initiator.socket.shutdown(socket.SHUT_WR)
    try:
        while True:
            _judge(initiator.receive())
    except (Closed, ConnectionError):
        return
    except WrongDigest as error:
        raise Finding(f"the target sent a wrong digest: {error}") from None
    except TimeoutError:
        raise Finding(f"the target keeps a connection that the initiator ended {DEADLINE} s ago") from None


def _judge(pdu: Pdu) -> None:
    """Is this an answer of the RFC?"""
    if pdu.opcode not in _ANSWERS:
        raise Finding(f"no PDU of a target: {pdu}")
    if len(pdu.data) > _LONGEST_ANSWER or pdu.data_length != len(pdu.data):
        raise Finding(f"data of an impossible length: {pdu}")
    if pdu.opcode == wire.REJECT and pdu.reason not in _REJECT_REASONS:
        raise Finding(f"a Reject without a reason of the RFC: {pdu}")
    if pdu.opcode == wire.LOGIN_RESPONSE and pdu.status_class << 8 | pdu.status_detail not in _LOGIN_STATUSES:
        raise Finding(f"a login status that the RFC does not have: {pdu}")
