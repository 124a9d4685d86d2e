# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Logins without a network: whatever is sent, what comes back is an answer of the RFC, and nobody gets in unproved."""

from __future__ import annotations

import functools
import struct
from typing import NamedTuple

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.malloc import MallocBdev
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import login as login_module
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import pdu
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.auth import Auth, AuthGroup, Secret
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.login import Login, Reply
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.portal import PortalGroup
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from fuzz.moves import texts
from hypothesis import example, given
from hypothesis import strategies as st

OPEN, GUARDED, STRICT = (f"iqn.2016-06.io.spdk:{name}" for name in ("open", "guarded", "strict"))
NAME = "iqn.2026-01.test.openlun:initiator"
STATUSES = {0x0000, 0x0101, 0x0102, *range(0x0200, 0x020C), 0x0301, 0x0302}  # 0300 is a bug in the engine
TRANSIT, CONTINUE = 0x80, 0x40


@functools.lru_cache(maxsize=1)
def target() -> IscsiTarget:
    """A node for everybody, one that wants CHAP, and one that wants digests."""
    bdevs = BdevRegistry()
    made = IscsiTarget(bdevs)
    made.serving = True
    made.portal_groups[1] = PortalGroup(1, [], private=False, wait=False)
    made.create_initiator_group(2, ["ANY"], ["ANY"])
    made.add_auth_group(AuthGroup(7, [Secret("alice", "wonderland-0001", "queen", "of-hearts-00002")]))
    for name, auth in ((OPEN, Auth()), (GUARDED, Auth(require_chap=True, chap_group=7)), (STRICT, Auth())):
        bdevs.create(MallocBdev(name[-7:], 8, 512))
        made.create_node(name, "", [(1, 2)], [(0, name[-7:])], 8, auth, header_digest=name == STRICT)
    return made


class Step(NamedTuple):
    """A login request."""

    flags: int
    text: bytes
    tsih: int = 0
    cid: int = 0


class Answer(NamedTuple):
    reply: Reply
    flags: int
    status: int
    text: bytes


def take(login: Login, step: Step) -> Answer:
    header = struct.pack(
        ">BBxxL6sHLHxxLL16x", 0x43, step.flags, len(step.text), b"\x80\0\0\0\0\1", step.tsih, 7, step.cid, 1, 1
    )
    reply = login.handle(memoryview(header), 0, memoryview(step.text))
    head, *rest = reply.response
    fields = pdu.LOGIN_RESPONSE_PDU.unpack(head)
    text = b"".join(rest)[: fields[4]]
    return Answer(reply, fields[1], fields[-2] << 8 | fields[-1], text)


def identity(name: str) -> bytes:
    return f"InitiatorName={NAME}\0TargetName={name}\0".encode()


FLAGS = st.sampled_from((0x87, 0x81, 0x83, 0x00, 0x04, 0x40, 0x44)) | st.integers(0, 255)
STEPS = st.lists(
    st.builds(Step, FLAGS, texts(), tsih=st.sampled_from((0, 0, 0, 1, 65535)), cid=st.sampled_from((0, 0, 0, 1))),
    max_size=8,
)
FIRST = st.sampled_from([(name, flags) for name in (OPEN, GUARDED, STRICT) for flags in (0x00, 0x04, 0x81, 0x87)])


@given(FIRST, st.booleans(), STEPS)
@example((GUARDED, 0x00), True, [Step(0x00, b"AuthMethod=CHAP\0"), Step(0x83, b"")])
@example((STRICT, 0x04), True, [Step(0x87, b""), Step(0x87, b"HeaderDigest=None\0")])
def test_every_request_is_answered_by_the_rules(first: tuple[str, int], known: bool, steps: list[Step]) -> None:
    login = Login(target(), 1, "127.0.0.1")
    begins = [Step(first[1], identity(first[0]))] if known else []
    for step in [*begins, *steps]:
        answer = take(login, step)
        assert answer.status in STATUSES
        assert len(answer.text) <= 8192
        assert answer.reply.failed == (answer.status != 0)
        if answer.reply.failed:
            assert answer.flags == 0
            return
        assert answer.flags & 0x0C == step.flags & 0x0C
        if answer.flags & TRANSIT:
            assert step.flags & TRANSIT
            assert answer.flags & 3 == step.flags & 3
            assert not answer.flags & CONTINUE
        if answer.reply.session is not None:
            assert answer.flags & 0x83 == TRANSIT | 3
            node = answer.reply.session.node
            assert node is None or node.name != GUARDED
            assert node is None or node.name != STRICT or answer.reply.session.parameters.header_digest
            return


def test_a_login_of_one_request_opens_a_session() -> None:
    answer = take(Login(target(), 1, "127.0.0.1"), Step(0x87, identity(OPEN)))
    assert answer.reply.session is not None
    assert answer.reply.session.initiator == NAME
    assert answer.reply.parameters is answer.reply.session.parameters


def test_a_bug_is_the_target_s_error_and_ends_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(login_module, "understand", None)
    answer = take(Login(target(), 1, "127.0.0.1"), Step(0x87, identity(OPEN)))
    assert (answer.status, answer.reply.failed) == (0x0300, True)
