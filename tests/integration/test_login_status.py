# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why a login is refused: the statuses that take some arranging (RFC 7143 §11.13.5)."""

from __future__ import annotations

import signal
import threading

import pytest
from engine_process import Launch, Target
from pdu import wire
from pdu.checks import answers_pings
from pdu.initiator import NAME, Initiator, LoginRefused

REMOVED, TOO_MANY_CONNECTIONS, NOT_IN_THIS_SESSION, SESSION_TYPE = (2, 4), (2, 6), (2, 8), (2, 9)
NO_SUCH_SESSION, INVALID_REQUEST, SHUTTING_DOWN, OUT_OF_RESOURCES = (2, 10), (2, 11), (3, 1), (3, 2)


def status(initiator: Initiator, **keys: str) -> tuple[int, int]:
    """How the target answers a login, to a session of that TSIH as connection 1; refused, the connection ends."""
    initiator.send(initiator.login_pdu({"InitiatorName": initiator.name, **keys}, cid=1 if initiator.tsih else 0))
    response = initiator.receive()
    assert response.opcode == wire.LOGIN_RESPONSE
    assert response.status_class == 0 or (response.flags == 0 and initiator.is_closed())
    return response.status_class, response.status_detail


def another(target: Target, number: int = 2) -> Initiator:
    return target.connect(isid=bytes([0x80, 0, 0, 0, 0, number]))


@pytest.mark.parametrize("session_type", ["Ordinary", "", "normal"])
def test_a_type_of_session_that_does_not_exist(target: Target, session_type: str) -> None:
    with target.connect() as initiator:
        assert status(initiator, TargetName=target.name, SessionType=session_type) == SESSION_TYPE


def test_one_connection_more_than_agreed(target: Target) -> None:
    with target.login(MaxConnections="1") as first, target.connect() as second:
        second.tsih = first.tsih
        assert status(second, TargetName=target.name) == TOO_MANY_CONNECTIONS
        assert answers_pings(first)


def test_a_session_is_joined_by_its_own_initiator_only(target: Target) -> None:
    with target.login() as first:
        for stranger in (another(target), target.connect(name=f"{NAME}2")):
            with stranger:
                stranger.tsih = first.tsih
                assert status(stranger, TargetName=target.name) == NO_SUCH_SESSION
        assert answers_pings(first)


def test_a_session_is_joined_for_its_own_target_only(target: Target) -> None:
    other = target.engine.node("other", target.engine.malloc("Other0", 1))
    with target.login() as first, target.connect() as second:
        second.tsih = first.tsih
        assert status(second, TargetName=other) == NO_SUCH_SESSION


def test_a_session_keeps_to_its_portal_group(target: Target) -> None:
    port = target.engine.portal_group(6)
    target.engine.rpc("iscsi_target_node_add_pg_ig_maps", name=target.name, pg_ig_maps=[{"pg_tag": 6, "ig_tag": 2}])
    with target.login() as first, Initiator(("127.0.0.1", port)) as second:
        second.tsih = first.tsih
        assert status(second, TargetName=target.name) == NOT_IN_THIS_SESSION


def test_a_discovery_session_has_one_connection(target: Target) -> None:
    with target.connect().login() as first, target.connect() as second:
        second.tsih = first.tsih
        assert status(second, SessionType="Discovery") == TOO_MANY_CONNECTIONS


def test_a_request_of_another_stage(target: Target) -> None:
    with target.connect() as initiator:
        initiator.send(
            initiator.login_pdu({"InitiatorName": NAME, "TargetName": target.name}, transit=False),
            initiator.login_pdu({}, csg=0, nsg=1),
        )
        assert initiator.receive().status_class == 0
        response = initiator.receive()
        assert (response.status_class, response.status_detail) == INVALID_REQUEST


def test_a_node_that_is_being_removed(target: Target) -> None:
    name = target.engine.node("leaving", target.engine.malloc("Leaving0", 1))
    with target.connect().login(name) as last:
        deletion = threading.Thread(target=target.engine.rpc, args=("iscsi_delete_target_node",), kwargs={"name": name})
        deletion.start()
        assert last.receive().opcode == wire.ASYNC
        with another(target) as initiator:
            assert status(initiator, TargetName=name) == REMOVED
        with target.connect().login() as discovery:
            discovery.send(discovery.text({"SendTargets": name}))
            assert discovery.receive().data == b""
        last.send(last.logout())
        assert last.receive().opcode == wire.LOGOUT_RESPONSE
        deletion.join()


@pytest.fixture
def small(launch: Launch) -> Target:
    """An engine that takes two sessions."""
    engine = launch("--wait-for-rpc")
    engine.rpc("iscsi_set_options", max_sessions=2)
    engine.rpc("framework_start_init")
    engine.initiator_group()
    return Target(engine, engine.portal_group(), engine.node("disk0", engine.malloc("Malloc0", 1)))


def test_more_sessions_than_there_may_be(small: Target) -> None:
    with small.login() as first, another(small).login(small.name) as second:
        with another(small, 3) as third:
            assert status(third, TargetName=small.name) == OUT_OF_RESOURCES
        assert answers_pings(first)
        with another(small).login(small.name) as again:  # reinstatement takes no further session
            assert second.is_closed()
            assert answers_pings(again)


def test_a_target_that_shuts_down(small: Target) -> None:
    with small.login() as present, another(small) as late:
        late.send(late.login_pdu({"InitiatorName": NAME, "TargetName": small.name}, transit=False))
        assert late.receive().status_class == 0
        process = small.engine.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        assert present.receive().opcode == wire.ASYNC
        with pytest.raises(LoginRefused) as refused:
            late.login(small.name)
        assert refused.value.status == SHUTTING_DOWN
        present.send(present.logout())
        assert present.receive().opcode == wire.LOGOUT_RESPONSE
        assert process.wait(20) == 0
