# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever does not log in in time is dropped. The target runs in this process, where 30 seconds can be made short."""

from __future__ import annotations

import asyncio

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import connection
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from engine_process import DEADLINE, free_port
from pdu import wire
from pdu.initiator import NAME
from pdu.wire import Pdu, text_data


def login(*, last: bool) -> bytes:
    """A discovery login in one step, or the first of more steps."""
    flags = wire.FINAL | 1 << 2 | 3 if last else 1 << 2
    return bytes(
        Pdu(wire.LOGIN, flags, immediate=True, data=text_data({"InitiatorName": NAME, "SessionType": "Discovery"}))
    )


async def what_becomes_of(sent: bytes) -> bytes:
    """All that the target says to who sends this and waits. TimeoutError when it keeps the connection."""
    target = IscsiTarget(BdevRegistry())
    port = free_port()
    target.create_portal_group(1, [("127.0.0.1", str(port))])
    target.start_serving()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        said = await asyncio.wait_for(reader.read(), DEADLINE)
        writer.close()
        return said
    finally:
        await target.shutdown()


@pytest.mark.parametrize("sent", [b"", login(last=True)[:20], login(last=False)], ids=["silent", "stuck", "half done"])
def test_a_login_that_takes_too_long_ends(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 1)
    said = asyncio.run(what_becomes_of(sent))
    assert bool(said) == (sent == login(last=False))
    assert "no login within 1 s" in caplog.text
