# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Header and data digests (RFC 7143 §11.2.3, §7.8, §7.9): right ones, wrong ones, and other people's clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import target as engine_target
from engine_process import Launch, Target, run
from in_process import TargetInProcess
from pdu import cdb, wire
from pdu.digests import DigestInitiator
from pdu.initiator import LoginRefused

BLOCK = 512
GOOD, CHECK_CONDITION = 0, 2
CRC_ERROR = (0xB, 0x47, 0x05)
DATA_DIGEST_ERROR = 2

BOTH = {"HeaderDigest": "CRC32C", "DataDigest": "CRC32C"}
COMBINATIONS = {
    "both": BOTH,
    "header": {"HeaderDigest": "CRC32C", "DataDigest": "None"},
    "data": {"HeaderDigest": "None", "DataDigest": "CRC32C"},
}


def pattern(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


def login(target: Target, **keys: str) -> DigestInitiator:
    return DigestInitiator(("127.0.0.1", target.port)).login(target.name, **keys)


@pytest.fixture
def initiator(target: Target) -> Iterator[DigestInitiator]:
    with login(target, **BOTH) as initiator:
        yield initiator


pytestmark = pytest.mark.usefixtures("engine_survives")


@pytest.mark.parametrize("keys", COMBINATIONS.values(), ids=COMBINATIONS)
@pytest.mark.parametrize("blocks", [1, 8, 600])
def test_what_was_written_is_read_with_every_digest_right(target: Target, keys: dict[str, str], blocks: int) -> None:
    data = pattern(blocks * BLOCK, blocks)
    with login(target, **keys) as initiator:
        immediate = min(len(data), initiator.number("FirstBurstLength"))
        assert initiator.write(cdb.write_10(64, blocks), data, immediate=immediate).status == GOOD
        assert initiator.read(cdb.read_10(64, blocks), len(data)).data == data  # it checks every digest


@pytest.mark.parametrize("keys", COMBINATIONS.values(), ids=COMBINATIONS)
def test_padding_is_covered(target: Target, keys: dict[str, str]) -> None:
    with login(target, **keys) as initiator:
        initiator.send(initiator.nop_out(b"five!"))
        assert initiator.receive().data == b"five!"


def test_many_commands_in_one_segment_are_all_answered(initiator: DigestInitiator) -> None:
    commands = [
        initiator.command(cdb.read_10(lba, 1), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=BLOCK)
        for lba in range(40)
    ]
    initiator.send(*commands)
    assert [initiator.receive().itt for _command in commands] == [command.itt for command in commands]


def test_a_pdu_may_arrive_byte_by_byte(initiator: DigestInitiator) -> None:
    for byte in initiator.protected(initiator.nop_out(b"slow")):
        initiator.socket.sendall(bytes([byte]))
    assert initiator.receive().data == b"slow"


def test_a_large_pdu_in_pieces_is_put_together(initiator: DigestInitiator) -> None:
    data = pattern(128 * BLOCK, 3)
    command = initiator.command(
        cdb.write_10(512, 128), flags=wire.FINAL | wire.WRITE | wire.SIMPLE, length=len(data), data=data
    )
    whole = initiator.protected(command)
    for start in range(0, len(whole), 10_000):
        initiator.socket.sendall(whole[start : start + 10_000])
    assert initiator.finish(command).status == GOOD
    assert initiator.read(cdb.read_10(512, 128), len(data)).data == data


def test_a_wrong_header_digest_ends_the_connection(initiator: DigestInitiator) -> None:
    initiator.send(initiator.protected(initiator.nop_out(), spoil_header=True))
    assert initiator.is_closed()


def test_a_wrong_header_digest_ends_the_connection_though_its_data_never_comes(initiator: DigestInitiator) -> None:
    spoiled = initiator.protected(initiator.nop_out(bytes(200_000)), spoil_header=True)
    initiator.send(spoiled[:52])
    assert initiator.is_closed()


def test_a_wrong_digest_of_a_ping_is_rejected_and_the_connection_goes_on(initiator: DigestInitiator) -> None:
    ping = initiator.nop_out(b"spoiled")
    initiator.send(initiator.protected(ping, spoil_data=True))
    reject = initiator.receive()
    assert (reject.opcode, reject.reason, reject.data) == (wire.REJECT, DATA_DIGEST_ERROR, bytes(ping.header))
    initiator.send(initiator.nop_out(b"well"))
    assert initiator.receive().data == b"well"


def assert_rejected_and_failed(initiator: DigestInitiator, command: wire.Pdu, spoiled: wire.Pdu) -> None:
    reject = initiator.receive()
    assert (reject.opcode, reject.reason, reject.data) == (wire.REJECT, DATA_DIGEST_ERROR, bytes(spoiled.header))
    outcome = initiator.finish(command)
    assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, CRC_ERROR)


def test_immediate_data_with_a_wrong_digest_is_not_written(initiator: DigestInitiator) -> None:
    before = pattern(BLOCK, 7)
    initiator.write(cdb.write_10(900, 1), before, immediate=BLOCK)
    flags = wire.FINAL | wire.WRITE | wire.SIMPLE
    command = initiator.command(cdb.write_10(900, 1), flags=flags, length=BLOCK, data=bytes(BLOCK))
    initiator.send(initiator.protected(command, spoil_data=True))
    assert_rejected_and_failed(initiator, command, command)
    assert initiator.read(cdb.read_10(900, 1), BLOCK).data == before  # and the window goes on


def test_asked_for_data_with_a_wrong_digest_is_not_written_and_the_rest_is_waited_for(target: Target) -> None:
    before = pattern(8 * BLOCK, 8)
    with login(target, **BOTH, InitialR2T="Yes", ImmediateData="No") as initiator:
        initiator.write(cdb.write_10(910, 8), before)
        flags = wire.FINAL | wire.WRITE | wire.SIMPLE
        command = initiator.command(cdb.write_10(910, 8), flags=flags, length=8 * BLOCK)
        initiator.send(command)
        r2t = initiator.receive()
        half = 4 * BLOCK
        first = initiator.data_out(command.itt, r2t.ttt, 0, bytes(half), data_sn=0, final=False)
        second = initiator.data_out(command.itt, r2t.ttt, half, bytes(half), data_sn=1, final=True)
        ping = initiator.nop_out(b"between")
        initiator.send(initiator.protected(first, spoil_data=True), ping)
        assert initiator.receive().opcode == wire.REJECT
        assert initiator.receive().data == b"between"  # no status before the last data
        initiator.send(second)
        outcome = initiator.finish(command)
        assert (outcome.status, outcome.response.sense) == (CHECK_CONDITION, CRC_ERROR)
        assert initiator.read(cdb.read_10(910, 8), len(before)).data == before


def test_a_read_keeps_what_it_read_when_a_write_follows(target: Target) -> None:
    old, new = pattern(1024 * BLOCK, 9), pattern(1024 * BLOCK, 10)
    with login(target, **BOTH) as initiator:
        initiator.write(cdb.write_10(2048, 1024), old, immediate=initiator.number("FirstBurstLength"))
        read = initiator.command(cdb.read_10(2048, 1024), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=len(old))
        write = initiator.command(
            cdb.write_10(2048, 128),
            flags=wire.FINAL | wire.WRITE | wire.SIMPLE,
            length=128 * BLOCK,
            data=new[: 128 * BLOCK],
        )
        initiator.send(read, write)
        assert initiator.finish(read).data == old
        assert initiator.finish(write).status == GOOD


def test_a_node_that_requires_digests_lets_nobody_in_without(launch: Launch) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    maps = [{"pg_tag": 1, "ig_tag": 2}]
    luns = [{"lun_id": 0, "bdev_name": engine.malloc("M0", 16)}]
    engine.rpc(
        "iscsi_create_target_node",
        name="careful", alias_name="", pg_ig_maps=maps, luns=luns, queue_depth=64, disable_chap=True,
        header_digest=True, data_digest=True,
    )  # fmt: skip
    target = Target(engine, port, "iqn.2016-06.io.spdk:careful")
    with login(target, **BOTH) as initiator:
        assert initiator.execute(cdb.unit_ready()).status == GOOD
    with DigestInitiator(("127.0.0.1", port)) as careless, pytest.raises(LoginRefused):
        careless.login(target.name, HeaderDigest="None", DataDigest="None")
    assert "header_digest" in str(engine.rpc("iscsi_get_target_nodes"))


# -- other people's clients


def test_libiscsi_reads_capacity_with_header_digests(target: Target) -> None:  # it knows no others
    text = run("iscsi-readcapacity16", f"{target.url()}?header_digest=crc32c").stdout
    assert "RETURNED LOGICAL BLOCK ADDRESS:131071" in text


def test_qemu_img_copies_an_image_with_header_digests(target: Target, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(pattern(4 * 2**20, 20))
    where = f"driver=iscsi,transport=tcp,portal={target.portal},target={target.name},lun=0,header-digest=crc32c"
    run("qemu-img", "convert", "-n", "-f", "raw", "--target-image-opts", image, where)
    with login(target, **BOTH) as initiator:
        assert initiator.read(cdb.read_10(0, 256), 256 * BLOCK).data == image.read_bytes()[: 256 * BLOCK]


@pytest.mark.parametrize("slow", [True, False], ids=["in Python", "by a package"])
def test_that_digests_are_slow_is_said_once(
    slow: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(engine_target, "IN_PYTHON", slow)
    with TargetInProcess() as place:

        def said() -> int:
            return sum("Install the package crc32c" in record.getMessage() for record in caplog.records)

        with DigestInitiator(("127.0.0.1", place.port)).login(place.name):
            assert not said()
        for keys in COMBINATIONS.values():
            with DigestInitiator(("127.0.0.1", place.port)).login(place.name, **keys):
                assert said() == slow
