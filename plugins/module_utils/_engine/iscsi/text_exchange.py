# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A negotiation in full feature phase: texts of more than one PDU, both ways (RFC 7143 §6.4, §11.10, §11.11)."""

from __future__ import annotations

from typing import Callable, Final, NamedTuple

from . import pdu
from .text import TextError

_MAX_TEXT: Final = 65536
"""Bytes of one text of an initiator."""


class Part(NamedTuple):
    """What a Text Response has: its flags, and how much of the answer fits. ``goes_on``: it needs a transfer tag."""

    flags: int
    data: bytes
    goes_on: bool


class TextExchange:
    """The negotiation that a connection has open. A request with the reserved transfer tag begins a new one."""

    __slots__ = ("_received", "_tag", "_unsent")

    def __init__(self) -> None:
        self._tag = pdu.RESERVED_TAG
        self._received = b""
        self._unsent = b""

    def reset(self) -> None:
        self._tag = pdu.RESERVED_TAG
        self._received = b""
        self._unsent = b""

    def continue_with(self, tag: int) -> None:
        """The initiator is told this transfer tag, and is to repeat it."""
        self._tag = tag

    def take(self, flags: int, tag: int, data: bytes, answer: Callable[[bytes], bytes], limit: int) -> Part:
        """One Text Request; ``answer`` gets the text when it is complete, ``limit`` is what a response may carry.

        Raises TextError, which also ends the negotiation.
        """
        try:
            return self._take(flags, tag, data, answer, limit)
        except TextError:
            self.reset()
            raise

    def _take(self, flags: int, tag: int, data: bytes, answer: Callable[[bytes], bytes], limit: int) -> Part:
        if tag == pdu.RESERVED_TAG:
            self.reset()
        elif tag != self._tag:
            raise TextError(f"target transfer tag 0x{tag:08x} belongs to no negotiation")
        final, continues = bool(flags & pdu.FINAL), bool(flags & pdu.CONTINUE)
        if final and continues:
            raise TextError("F and C bit both set")
        if self._unsent:
            if data or continues:
                raise TextError("more text, while it has not yet seen all of the answer")
        else:
            self._received += data
            if len(self._received) > _MAX_TEXT:
                raise TextError(f"a text of more than {_MAX_TEXT} bytes")
            if continues:
                return Part(0, b"", goes_on=True)
            text, self._received = self._received, b""
            self._unsent = answer(text)
        part, self._unsent = self._unsent[:limit], self._unsent[limit:]
        if self._unsent:
            return Part(pdu.CONTINUE, part, goes_on=True)
        if not final:
            return Part(0, part, goes_on=True)
        self.reset()
        return Part(pdu.FINAL, part, goes_on=False)
