# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whoever does not log in in time is dropped. The target runs in this process, where 30 seconds can be made short."""

from __future__ import annotations

import asyncio
from unittest.mock import Mock

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.base import BdevRegistry
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi import connection, reception
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.reception import Elsewhere
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.target import IscsiTarget
from engine_process import DEADLINE, free_port
from pdu import wire
from pdu.initiator import NAME
from pdu.wire import Pdu, text_data


def login(flags: int) -> bytes:
    """The beginning of a discovery login."""
    return bytes(
        Pdu(wire.LOGIN, flags, immediate=True, data=text_data({"InitiatorName": NAME, "SessionType": "Discovery"}))
    )


COMPLETE = login(wire.FINAL | 1 << 2 | 3)
FIRST_OF_MORE = login(1 << 2)
UNFINISHED = login(wire.CONTINUE | 1 << 2)
"""Its text goes on in the next PDU."""


async def what_becomes_of(sent: bytes, workers: Elsewhere | None = None) -> bytes:
    """All that the target says to who sends this and waits. TimeoutError when it keeps the connection."""
    target = IscsiTarget(BdevRegistry())
    target.elsewhere = workers
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


@pytest.mark.parametrize("sent", [b"", COMPLETE[:20], FIRST_OF_MORE], ids=["silent", "stuck", "half done"])
def test_a_login_that_takes_too_long_ends(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connection, "LOGIN_SECONDS", 1)
    said = asyncio.run(what_becomes_of(sent))
    assert bool(said) == (sent == FIRST_OF_MORE)
    assert "no login within 1 s" in caplog.text


@pytest.mark.parametrize("sent", [b"", COMPLETE[:20], UNFINISHED], ids=["silent", "stuck", "half named"])
def test_so_does_one_that_never_says_which_process_it_is_for(
    sent: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reception, "LOGIN_SECONDS", 1)
    said = asyncio.run(what_becomes_of(sent, Mock(spec=Elsewhere)))
    assert bool(said) == (sent == UNFINISHED)
    assert "connection from 127.0.0.1 dropped: no login within 1 s" in caplog.text
