# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Login and discovery on the wire (RFC 7143 §6, §7, §11.12, §11.13), spoken PDU by PDU."""

from __future__ import annotations

from pathlib import Path

import pytest
from engine_process import Target, eventually
from pdu import wire
from pdu.checks import answers_pings
from pdu.initiator import Initiator, LoginRefused
from pdu.wire import Pdu, parse_text, text_data

pytestmark = pytest.mark.usefixtures("engine_survives", "others_are_served")


def identity(target: Target) -> dict[str, str]:
    return {"InitiatorName": "iqn.2026-01.test.openlun:initiator", "SessionType": "Normal", "TargetName": target.name}


def refusal(target: Target, pdu: Pdu | None = None, **keys: str) -> tuple[int, int]:
    """Status class and detail of a login that is refused."""
    with target.connect() as initiator:
        initiator.send(
            pdu or initiator.login_pdu({key: value for key, value in {**identity(target), **keys}.items() if value})
        )
        response = initiator.receive()
        assert response.opcode == wire.LOGIN_RESPONSE
        return response.status_class, response.status_detail


def test_a_login_gives_a_session_handle_and_the_portal_group(target: Target) -> None:
    with target.login() as initiator:
        assert initiator.tsih != 0
        assert initiator.keys["TargetPortalGroupTag"] == "1"


def test_two_sessions_have_different_handles(target: Target) -> None:
    with target.login() as one, target.connect(isid=bytes.fromhex("800000000002")).login(target.name) as two:
        assert one.tsih != two.tsih


def test_a_login_may_start_in_the_security_stage(target: Target) -> None:
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu({**identity(target), "AuthMethod": "CHAP,None"}, csg=0, nsg=1))
        response = initiator.receive()
        assert (response.status_class, response.flags & 0x8F) == (0, 0x81)
        assert ("AuthMethod", "None") in parse_text(response.data)
        initiator.send(initiator.login_pdu({"HeaderDigest": "None"}))
        response = initiator.receive()
        assert (response.status_class, response.flags & 0x8F) == (0, 0x87)
        assert response.tsih != 0


def test_a_login_without_the_transit_bit_stays_in_its_stage(target: Target) -> None:
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu(identity(target), transit=False))
        response = initiator.receive()
        assert (response.status_class, response.flags & wire.FINAL, response.tsih) == (0, 0, 0)
        initiator.send(initiator.login_pdu({}))
        assert initiator.receive().tsih != 0


def test_keys_may_span_login_pdus(target: Target) -> None:
    text = text_data(identity(target))
    with target.connect() as initiator:
        first = initiator.login_pdu({}, transit=False)
        first.header[1] = wire.CONTINUE | 1 << 2
        first.data = text[:40]
        initiator.send(first.set(data_length=40))
        answer = initiator.receive()
        assert (answer.status_class, answer.data, answer.flags & wire.FINAL) == (0, b"", 0)
        second = initiator.login_pdu({})
        second.data = text[40:]
        initiator.send(second.set(data_length=len(text) - 40))
        assert initiator.receive().tsih != 0


@pytest.mark.parametrize(
    ("key", "offered", "agreed"),
    [
        ("InitialR2T", "Yes", "Yes"),
        ("ImmediateData", "No", "No"),
        ("MaxBurstLength", "16384", "16384"),
        ("FirstBurstLength", "4096", "4096"),
        ("MaxOutstandingR2T", "1", "1"),
        ("MaxConnections", "9", "2"),
        ("ErrorRecoveryLevel", "2", "0"),
        ("DataPDUInOrder", "Yes", "Yes"),
        ("DataSequenceInOrder", "Yes", "Yes"),
        ("DefaultTime2Wait", "7", "7"),
        ("HeaderDigest", "None", "None"),
        ("DataDigest", "None", "None"),
        ("TaskReporting", "RFC3720", "RFC3720"),
        ("iSCSIProtocolLevel", "2", "2"),
        ("X-test.openlun.colour", "blue", "NotUnderstood"),
        ("IFMarker", "No", "No"),
    ],
)
def test_a_key_is_negotiated(target: Target, key: str, offered: str, agreed: str) -> None:
    with target.login(**{key: offered}) as initiator:
        assert initiator.keys[key] == agreed


def test_first_burst_never_exceeds_max_burst(target: Target) -> None:
    with target.login(MaxBurstLength="8192", FirstBurstLength="65536") as initiator:
        assert initiator.number("FirstBurstLength") <= 8192


def test_the_target_takes_a_256k_write_in_one_pdu(target: Target) -> None:
    with target.login(FirstBurstLength="262144") as initiator:
        assert initiator.number("MaxRecvDataSegmentLength") >= 262144
        assert initiator.keys["InitialR2T"] == "No"


def test_an_unknown_target_is_not_found(target: Target) -> None:
    assert refusal(target, TargetName="iqn.2016-06.io.spdk:nowhere") == (2, 3)


def test_a_target_name_is_compared_without_case(target: Target) -> None:
    with target.connect().login(target.name.upper().replace("IQN.", "iqn.")) as initiator:
        assert initiator.tsih != 0


def test_a_login_without_initiator_name_misses_a_parameter(target: Target) -> None:
    assert refusal(target, InitiatorName="") == (2, 7)


def test_a_normal_login_without_target_name_misses_a_parameter(target: Target) -> None:
    assert refusal(target, TargetName="") == (2, 7)


def test_an_initiator_outside_the_group_is_not_authorised(target: Target) -> None:
    target.engine.rpc(
        "iscsi_create_initiator_group", tag=9, initiators=["iqn.2026-01.test:other"], netmasks=["127.0.0.0/8"]
    )
    target.engine.malloc("Closed0", 1)
    target.engine.rpc(
        "iscsi_create_target_node",
        name="closed",
        alias_name="closed",
        pg_ig_maps=[{"pg_tag": 1, "ig_tag": 9}],
        luns=[{"lun_id": 0, "bdev_name": "Closed0"}],
        queue_depth=8,
        disable_chap=True,
    )
    try:
        with target.connect() as initiator, pytest.raises(LoginRefused) as refused:
            initiator.login("iqn.2016-06.io.spdk:closed")
        assert refused.value.status == (2, 2)
    finally:
        target.engine.rpc("iscsi_delete_target_node", name="iqn.2016-06.io.spdk:closed")
        target.engine.rpc("iscsi_delete_initiator_group", tag=9)
        target.engine.rpc("bdev_malloc_delete", name="Closed0")


def test_an_unsupported_version_is_refused(target: Target) -> None:
    with target.connect() as initiator:
        pdu = initiator.login_pdu(identity(target)).set(version_max=9)
        pdu.header[3] = 9
        initiator.send(pdu)
        response = initiator.receive()
        assert (response.status_class, response.status_detail) == (2, 5)


def test_a_session_that_does_not_exist_cannot_be_joined(target: Target) -> None:
    with target.connect() as initiator:
        initiator.tsih = 0x7FFF
        initiator.send(initiator.login_pdu(identity(target)))
        response = initiator.receive()
        assert (response.status_class, response.status_detail) == (2, 0x0A)


def test_chap_alone_is_refused_where_it_is_disabled(target: Target) -> None:
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu({**identity(target), "AuthMethod": "CHAP"}, csg=0, nsg=1))
        response = initiator.receive()
        assert (response.status_class, response.status_detail) == (2, 1)


@pytest.mark.parametrize(
    "data",
    [
        b"InitiatorName\0",
        b"=value\0",
        b"MaxBurstLength=many\0",
        b"InitialR2T=Perhaps\0",
        b"MaxBurstLength=4096\0MaxBurstLength=8192\0",
        b"k" * 300 + b"=v\0",
        b"\xff\xfe=\x80\0",
    ],
    ids=["no value", "no key", "no number", "no boolean", "twice", "long key", "no text"],
)
def test_text_that_cannot_be_read_ends_the_login(target: Target, data: bytes) -> None:
    with target.connect() as initiator:
        pdu = initiator.login_pdu({})
        pdu.data = text_data(identity(target)) + data
        initiator.send(pdu.set(data_length=len(pdu.data)))
        response = initiator.receive()
        answers = dict(parse_text(response.data))
        assert response.status_class == 2 or "Reject" in answers.values() or "NotUnderstood" in answers.values()


def test_endless_login_text_is_cut_off(target: Target) -> None:
    with target.connect() as initiator:
        for number in range(200):
            pdu = initiator.login_pdu({}, transit=False)
            pdu.header[1] = wire.CONTINUE | 1 << 2
            pdu.data = f"X-test.{number}=".encode() + b"a" * 8000
            initiator.send(pdu.set(data_length=len(pdu.data)))
            if initiator.receive().status_class:
                break
        else:
            pytest.fail("the target collected 1.6 MB of login text")


def test_endless_login_steps_are_cut_off(target: Target) -> None:
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu(identity(target), transit=False))
        for _each in range(1000):
            if initiator.receive().status_class:
                break
            initiator.send(initiator.login_pdu({}, transit=False))
        else:
            pytest.fail("the target followed 1000 login steps")


@pytest.mark.parametrize(
    "opcode", [wire.NOP_OUT, wire.SCSI_COMMAND, wire.TEXT, wire.DATA_OUT, wire.LOGOUT, wire.TASK_REQUEST, 0x1F]
)
def test_a_pdu_before_login_ends_the_connection(target: Target, opcode: int) -> None:  # RFC 7143 §6.3
    with target.connect() as initiator:
        initiator.send(Pdu(opcode, itt=1, data=b"data"))
        assert initiator.is_closed()


@pytest.mark.parametrize(
    ("csg", "nsg"),
    [(1, 1), (1, 0), (3, 3), (2, 3), (1, 2)],
    ids=["same", "back", "done already", "no such stage", "to no such stage"],
)
def test_a_stage_transition_that_does_not_exist_is_refused(target: Target, csg: int, nsg: int) -> None:
    with target.connect() as initiator:
        initiator.send(initiator.login_pdu(identity(target), csg=csg, nsg=nsg))
        assert initiator.receive().status_class == 2


# -- discovery


def send_targets(initiator: Initiator, value: str) -> list[tuple[str, str]]:
    """Every line of a SendTargets answer, however many PDUs it takes."""
    initiator.send(initiator.text({"SendTargets": value}))
    response = initiator.receive()
    text = response.data
    while not response.final:
        initiator.send(initiator.text({}, ttt=response.ttt))
        response = initiator.receive()
        assert response.opcode == wire.TEXT_RESPONSE
        text += response.data
    return parse_text(text)


def test_discovery_lists_targets_and_their_addresses(target: Target) -> None:
    with target.connect().login() as initiator:
        assert send_targets(initiator, "All") == [("TargetName", target.name), ("TargetAddress", f"{target.portal},1")]


def test_discovery_of_one_name(target: Target) -> None:
    with target.connect().login() as initiator:
        assert send_targets(initiator, target.name)[0] == ("TargetName", target.name)
        assert send_targets(initiator, "iqn.2016-06.io.spdk:nowhere") == []


def test_a_normal_session_may_ask_about_its_own_target(target: Target) -> None:
    with target.login() as initiator:
        assert send_targets(initiator, "") == [("TargetName", target.name), ("TargetAddress", f"{target.portal},1")]


def test_a_long_list_of_targets_comes_in_many_pdus(target: Target) -> None:
    names = [f"many{number}" for number in range(40)]
    for name in names:
        target.engine.node(name, target.engine.malloc(f"bdev-{name}", 1))
    try:
        with target.connect().login(MaxRecvDataSegmentLength="512") as initiator:
            found = [value for key, value in send_targets(initiator, "All") if key == "TargetName"]
        assert found == [target.name] + [f"iqn.2016-06.io.spdk:{name}" for name in names]
    finally:
        for name in names:
            target.engine.rpc("iscsi_delete_target_node", name=f"iqn.2016-06.io.spdk:{name}")
            target.engine.rpc("bdev_malloc_delete", name=f"bdev-{name}")


def test_scsi_commands_are_no_part_of_discovery(target: Target) -> None:
    with target.connect().login() as initiator:
        initiator.send(initiator.command(bytes(6)))
        assert initiator.is_rejected_or_closed()


def test_a_scsi_command_with_much_data_is_no_part_of_discovery_either(target: Target) -> None:
    with target.connect().login() as initiator, target.login() as other:
        command = bytes(initiator.command(bytes(6), data=bytes(65536)))
        initiator.send(command[:1000])
        assert answers_pings(other)
        assert answers_pings(other)  # so the beginning has been seen
        initiator.send(command[1000:])
        assert initiator.is_rejected_or_closed()


def test_a_wildcard_portal_is_listed_with_the_address_that_was_reached(target: Target) -> None:
    port = target.engine.portal_group(5, "0.0.0.0")
    target.engine.rpc("iscsi_target_node_add_pg_ig_maps", name=target.name, pg_ig_maps=[{"pg_tag": 5, "ig_tag": 2}])
    try:
        with Initiator(("127.0.0.1", port)).login() as initiator:
            assert ("TargetAddress", f"127.0.0.1:{port},5") in send_targets(initiator, "All")
    finally:
        target.engine.rpc(
            "iscsi_target_node_remove_pg_ig_maps", name=target.name, pg_ig_maps=[{"pg_tag": 5, "ig_tag": 2}]
        )
        target.engine.rpc("iscsi_delete_portal_group", tag=5)


def test_connections_that_end_leave_nothing_open(target: Target) -> None:
    pid = target.engine.rpc("engine_get_info")["pid"]
    descriptors = Path(f"/proc/{pid}/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(100):
        with target.connect(isid=bytes([0x80, 0, 0, 0, 1, number])) as initiator:
            initiator.login(target.name)
        with target.connect() as stranger:
            stranger.send(bytes(number))
    eventually(lambda: not target.engine.rpc("iscsi_get_connections"), "all connections are gone")
    eventually(lambda: len(list(descriptors.iterdir())) <= before, "their descriptors are closed")
