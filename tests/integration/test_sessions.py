# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions of several connections, reinstatement, continuation, logout and time-outs (RFC 7143 §4.2, §6.3, §11.14)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from engine_process import Engine, Launch, Target, eventually
from pdu import cdb, wire
from pdu.initiator import Initiator, LoginRefused
from pdu.joined import Joined
from pdu.wire import Pdu

BLOCK = 512
GOOD = 0
UNIT_ATTENTION = 6
TOO_MANY_CONNECTIONS, NO_SUCH_SESSION = (2, 6), (2, 10)
OTHER = "iqn.2016-06.io.example:other"
WRITE = wire.FINAL | wire.WRITE | wire.SIMPLE


@pytest.fixture
def session(target: Target) -> Iterator[tuple[Initiator, Joined]]:
    """Two connections, CID 0 and 1."""
    with target.login(MaxConnections="8") as first, Joined(first, 1) as second:
        yield first, second.join(target.name)


pytestmark = pytest.mark.usefixtures("engine_survives")


def connections(engine: Engine) -> list[dict[str, Any]]:
    shown: list[dict[str, Any]] = engine.rpc("iscsi_get_connections")
    return shown


def write_pdu(initiator: Initiator, lba: int, data: bytes, cmd_sn: int | None = None) -> Pdu:
    return initiator.command(
        cdb.write_10(lba, len(data) // BLOCK), flags=WRITE, length=len(data), data=data, cmd_sn=cmd_sn
    )


def log_out(initiator: Initiator, reason: int = 0, cid: int = 0) -> Pdu:
    request = initiator.logout(reason, cid)
    initiator.send(request)
    answer = initiator.receive()
    assert (answer.opcode, answer.itt) == (wire.LOGOUT_RESPONSE, request.itt)
    return answer


# -- several connections


def test_a_session_may_have_several_connections(target: Target, session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert second.tsih == first.tsih
    assert [initiator.execute(cdb.unit_ready()).status for initiator in (second, first, second)] == [GOOD] * 3
    shown = [(each["cid"], each["tsih"]) for each in connections(target.engine)]
    assert shown == [(0, first.tsih), (1, first.tsih)]


def test_no_more_connections_than_agreed_on(target: Target, session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert first.keys["MaxConnections"] == "2"  # the default of max_connections_per_session
    with Joined(first, 2) as third:
        with pytest.raises(LoginRefused) as refusal:
            third.join(target.name)
        assert refusal.value.status == TOO_MANY_CONNECTIONS
    assert second.execute(cdb.unit_ready()).status == GOOD


def test_commands_are_carried_out_in_order_whatever_connection_they_come_on(
    session: tuple[Initiator, Joined],
) -> None:
    first, second = session
    number = first.cmd_sn
    late = write_pdu(second, 10, b"2" * BLOCK, cmd_sn=number + 1)
    latest = second.command(
        cdb.read_10(10, 1), flags=wire.FINAL | wire.READ | wire.SIMPLE, length=BLOCK, cmd_sn=number + 2
    )
    second.send(late, latest, second.nop_out(b"arrived"))
    assert second.receive().data == b"arrived"  # neither write nor read was answered: their turn has not come
    early = write_pdu(first, 10, b"1" * BLOCK, cmd_sn=number)
    first.send(early)
    assert first.finish(early).status == GOOD
    assert second.finish(late).status == GOOD  # each on the connection it came on
    assert second.finish(latest).data == b"2" * BLOCK
    first.cmd_sn = number + 3
    assert first.execute(cdb.unit_ready()).status == GOOD


def test_numbers_go_on_after_the_largest(target: Target) -> None:
    with target.connect() as initiator:
        initiator.cmd_sn = initiator.exp_stat_sn = 2**32 - 3
        initiator.login(target.name)
        outcomes = [initiator.execute(cdb.unit_ready()) for _each in range(8)]
        assert {outcome.status for outcome in outcomes} == {GOOD}
        assert (initiator.cmd_sn, initiator.exp_cmd_sn) == (5, 5)
        assert outcomes[-1].response.stat_sn == 5
        late = initiator.command(cdb.unit_ready(), cmd_sn=2**32 - 1)  # long ago
        initiator.send(late, initiator.nop_out(b"ignored"))
        assert initiator.receive().data == b"ignored"


def test_the_same_number_on_two_connections_is_carried_out_once(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    number = first.cmd_sn
    held = write_pdu(second, 20, b"h" * BLOCK, cmd_sn=number + 1)
    again = write_pdu(first, 20, b"a" * BLOCK, cmd_sn=number + 1)
    second.send(held, second.nop_out(b"held"))
    assert second.receive().data == b"held"
    first.send(write_pdu(first, 21, b"x" * BLOCK, cmd_sn=number), again, first.nop_out(b"seen"))
    assert [first.receive().opcode for _each in range(2)] == [wire.SCSI_RESPONSE, wire.NOP_IN]
    assert second.finish(held).status == GOOD
    first.cmd_sn = number + 2
    assert first.read(cdb.read_10(20, 1), BLOCK).data == b"h" * BLOCK


def test_status_numbers_count_for_each_connection(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    numbers = [second.execute(cdb.unit_ready()).response.stat_sn for _each in range(2)]
    assert numbers[1] == numbers[0] + 1
    before = first.exp_stat_sn
    assert first.execute(cdb.unit_ready()).response.stat_sn == before


def test_each_connection_has_its_own_receive_limit(target: Target) -> None:
    with target.login(MaxConnections="2") as first, Joined(first, 1) as second:
        second.join(target.name, MaxRecvDataSegmentLength="1024")
        assert len(second.read(cdb.read_10(0, 8), 8 * BLOCK).pdus) == 4
        assert len(first.read(cdb.read_10(0, 8), 8 * BLOCK).pdus) == 1


def test_a_session_of_another_initiator_cannot_be_joined(target: Target) -> None:
    with target.login(MaxConnections="2") as first, Joined(first, 1) as second:
        second.name = OTHER
        with pytest.raises(LoginRefused) as refusal:
            second.join(target.name)
        assert refusal.value.status == NO_SUCH_SESSION


# -- connections that end


def test_a_session_goes_on_with_the_connections_it_has_left(target: Target, session: tuple[Initiator, Joined]) -> None:
    first, second = session
    command = first.command(cdb.write_10(30, 1), flags=WRITE, length=BLOCK)
    first.send(command)
    assert first.receive().opcode == wire.R2T
    first.close()
    eventually(lambda: len(connections(target.engine)) == 1, "the end of the first connection")
    # some commands cleared by iSCSI protocol event, RFC 7143 §7.1.5
    assert second.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x47, 0x7F)
    assert second.read(cdb.read_10(30, 1), BLOCK).data == bytes(BLOCK)


def test_what_a_lost_connection_brought_before_its_turn_is_not_carried_out(
    target: Target, session: tuple[Initiator, Joined]
) -> None:
    first, second = session
    number = first.cmd_sn
    second.send(write_pdu(second, 40, b"l" * BLOCK, cmd_sn=number + 1), second.nop_out(b"arrived"))
    assert second.receive().data == b"arrived"
    second.close()
    eventually(lambda: len(connections(target.engine)) == 1, "the end of the second connection")
    first.execute(cdb.unit_ready())
    first.cmd_sn = number + 2  # the lost command's number counts as received
    assert first.read(cdb.read_10(40, 1), BLOCK).data == bytes(BLOCK)


def test_the_same_connection_number_again_replaces_the_connection(
    target: Target, session: tuple[Initiator, Joined]
) -> None:  # RFC 7143 §6.3.4
    first, second = session
    with Joined(first, 1) as again:
        again.join(target.name)
        assert second.is_closed()
        assert again.execute(cdb.unit_ready()).status == GOOD
        assert first.execute(cdb.unit_ready()).status == GOOD
    assert again.tsih == first.tsih


def test_a_new_session_of_the_same_name_ends_all_connections_of_the_old_one(
    target: Target, session: tuple[Initiator, Joined]
) -> None:  # RFC 7143 §6.3.5
    first, second = session
    with target.login() as again:
        assert again.tsih != first.tsih
        assert first.is_closed()
        assert second.is_closed()
        assert again.execute(cdb.unit_ready()).response.sense == (UNIT_ATTENTION, 0x29, 0x07)  # I_T nexus loss
        assert again.execute(cdb.unit_ready()).status == GOOD


# -- logout


def test_a_logout_of_the_session_ends_all_connections(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert log_out(second, 0).response == 0
    assert second.is_closed()
    assert first.is_closed()


def test_a_connection_can_be_logged_out_through_another_one(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert log_out(first, 1, cid=1).response == 0
    assert second.is_closed()
    assert first.execute(cdb.unit_ready()).status == GOOD


def test_a_connection_can_log_itself_out_and_leave_the_session(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert log_out(second, 1, cid=1).response == 0
    assert second.is_closed()
    assert first.execute(cdb.unit_ready()).status == GOOD


def test_a_connection_that_is_not_there_cannot_be_logged_out(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert log_out(first, 1, cid=7).response == 1
    assert second.execute(cdb.unit_ready()).status == GOOD


def test_connections_cannot_be_logged_out_for_recovery(session: tuple[Initiator, Joined]) -> None:
    first, second = session
    assert log_out(first, 2, cid=1).response == 2  # ErrorRecoveryLevel is 0
    assert second.execute(cdb.unit_ready()).status == GOOD


def test_a_reason_that_does_not_exist_is_rejected(session: tuple[Initiator, Joined]) -> None:
    first, _second = session
    first.send(first.logout(3))
    answer = first.receive()
    assert (answer.opcode, answer.reason) == (wire.REJECT, 9)


def test_a_logout_tells_how_long_to_wait(target: Target) -> None:
    with target.login(DefaultTime2Wait="3", DefaultTime2Retain="5") as initiator:
        answer = log_out(initiator)
        assert (answer.time2wait, answer.time2retain) == (3, 5)


# -- the initiator comes back, or not


def lost_session(target: Target, **keys: str) -> Initiator:
    """A closed connection whose session waits for it."""
    initiator = target.login(**{"DefaultTime2Wait": "0", "DefaultTime2Retain": "20", **keys})
    initiator.execute(cdb.unit_ready())
    initiator.close()
    eventually(lambda: not connections(target.engine), "the end of the connection")
    return initiator


def come_back(target: Target, lost: Initiator, cid: int = 0) -> Initiator:
    again = target.connect()
    again.tsih, again.cmd_sn = lost.tsih, lost.cmd_sn
    identity = {"InitiatorName": again.name, "SessionType": "Normal", "TargetName": target.name}
    again.send(again.login_pdu(identity, cid=cid))
    try:
        again.receive_login()
    except LoginRefused:
        again.close()
        raise
    return again


def test_a_session_can_be_continued_after_its_connection_was_lost(target: Target) -> None:  # RFC 7143 §6.3.6
    lost = lost_session(target)
    with come_back(target, lost) as again:
        assert again.tsih == lost.tsih
        assert again.execute(cdb.unit_ready()).status == GOOD  # the command numbers go on, too
        log_out(again)


def test_a_session_that_is_not_to_be_retained_ends_with_its_connection(target: Target) -> None:
    lost = lost_session(target, DefaultTime2Retain="0")
    with pytest.raises(LoginRefused) as refusal:
        come_back(target, lost)
    assert refusal.value.status == NO_SUCH_SESSION


def test_a_session_that_nobody_comes_back_to_ends(launch: Launch) -> None:
    target = limited(launch, default_time2wait=0)
    lost = lost_session(target, DefaultTime2Retain="1")
    eventually(lambda: "its initiator did not come back" in target.engine.words(), "the end of the session")
    with pytest.raises(LoginRefused) as refusal:
        come_back(target, lost)
    assert refusal.value.status == NO_SUCH_SESSION


def test_a_session_after_logout_is_gone(target: Target) -> None:
    with target.login(DefaultTime2Retain="20") as initiator:
        log_out(initiator)
        assert initiator.is_closed()
    with pytest.raises(LoginRefused):
        come_back(target, initiator)


def limited(launch: Launch, **options: int) -> Target:
    """A target with these options of iscsi_set_options."""
    engine = launch("--wait-for-rpc")
    engine.rpc("iscsi_set_options", **options)
    engine.rpc("framework_start_init")
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("disk0", engine.malloc("Malloc0", 1)))


def test_sessions_that_wait_for_their_initiators_keep_nobody_out(launch: Launch) -> None:
    target = limited(launch, max_sessions=2)
    for number in range(4):
        with target.connect(isid=bytes([0x80, 0, 0, 0, 0, number])) as initiator:
            initiator.login(target.name, DefaultTime2Retain="3600")
        eventually(lambda: not connections(target.engine), "the end of the connection")


# -- is anybody there?


def ping(initiator: Initiator) -> Pdu:
    pdu = initiator.receive()
    assert (pdu.opcode, pdu.itt) == (wire.NOP_IN, wire.RESERVED_TAG)
    assert pdu.ttt != wire.RESERVED_TAG
    return pdu


def answer_ping(initiator: Initiator, pdu: Pdu) -> None:
    reply = Pdu(wire.NOP_OUT, immediate=True, itt=wire.RESERVED_TAG, ttt=pdu.ttt)
    initiator.send(reply.set(cmd_sn=initiator.cmd_sn, exp_stat_sn=initiator.exp_stat_sn))


@pytest.mark.parametrize("discovery", [False, True], ids=["normal", "discovery"])
def test_an_idle_initiator_is_pinged_and_dropped_when_it_does_not_answer(launch: Launch, discovery: bool) -> None:
    target = limited(launch, nop_in_interval=1, nop_timeout=1)
    with ExitStack() as stack:
        initiator = stack.enter_context(target.connect())
        initiator.login(None if discovery else target.name)
        first = ping(initiator)
        assert first.stat_sn == initiator.exp_stat_sn  # shown, not taken
        answer_ping(initiator, first)
        second = ping(initiator)
        assert second.ttt != first.ttt
        assert initiator.is_closed()
    assert "no answer to a NOP-In" in target.engine.words()
    assert not connections(target.engine)


def test_a_peer_that_stops_within_a_pdu_is_dropped(launch: Launch) -> None:
    target = limited(launch, nop_in_interval=0, nop_timeout=1)
    with target.login() as initiator:
        initiator.send(bytes(write_pdu(initiator, 0, bytes(64 * BLOCK)))[:20000])
        initiator.socket.settimeout(20)
        assert initiator.is_closed()
    assert "stopped within a PDU" in target.engine.words()
