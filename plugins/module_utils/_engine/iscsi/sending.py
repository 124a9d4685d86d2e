# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The sending half of a connection: PDUs are queued, and leave with one vectored send a wake-up."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from abc import ABC, abstractmethod
from typing import Final

from ..bdev.base import Bdev, Buffer
from ..bdev.mapping import owned
from .crc32c import crc32c

_log = logging.getLogger(__name__)

_MAX_VECTOR: Final = 1024  # IOV_MAX
OUTPUT_LIMIT: Final = 8 * 1024 * 1024
"""Bytes that may wait for the peer to read before nothing more is received from it."""
_UNREAD: Final = "what was sent to it is not read"


class Sender(ABC):
    """Owns the socket, what is queued for it, and the loans of device memory that the queue shows."""

    __slots__ = (
        *("_blocked", "_flush_scheduled", "_hushed", "_loop", "_socket", "_stuck", "awake", "closed", "data_digest"),
        *("digests", "header_digest", "leaving", "loans", "out", "out_bytes"),
    )

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._loop = asyncio.get_running_loop()
        self.closed = False
        self.leaving = False
        """Nothing is handled any more; it closes when what is queued is sent."""
        self.out: list[Buffer] = []
        self.out_bytes = 0
        self.loans: list[Bdev] = []
        """Devices whose memory is shown by views in the queue."""
        self.awake = False
        """Its PDUs are being handled, so that what is queued goes out when they are done."""
        self.header_digest = False
        self.data_digest = False
        """Headers, data segments are followed by their CRC32C, in both directions."""
        self.digests = False
        """One of them, or both."""
        self._flush_scheduled = False
        self._blocked = False
        """The socket takes no more for now; what is queued goes out when it is writable."""
        self._hushed = 0
        """By how many nothing is to be sent for now, whatever is queued."""
        self._stuck: Buffer | None = None
        """What was first in the queue when somebody looked last: see :meth:`is_stuck`."""

    @abstractmethod
    def close(self) -> None:
        """End the connection at once."""

    @abstractmethod
    def pause(self, why: str) -> None:
        """Receive nothing more for this reason."""

    @abstractmethod
    def resume(self, why: str) -> None:
        """This reason to receive nothing is gone."""

    def send(self, header: bytes, data: Buffer = b"") -> None:
        """Queue a PDU; it goes out with the others at the end of the wake-up."""
        if self.digests:
            self._queue_with_digests(header, data)
        else:
            out = self.out
            out.append(header)
            self.out_bytes += 48
            if data:
                out.append(data)
                length = len(data)
                if length & 3:
                    out.append(bytes(-length & 3))
                self.out_bytes += length + 3 & ~3
        if not self.awake:
            self.flush_soon()

    def _queue_with_digests(self, header: bytes, data: Buffer) -> None:
        """RFC 7143 §11.2.3: the header's digest follows it, the digest of the data covers its padding too."""
        out, queued = self.out, 48
        out.append(header)
        if self.header_digest:
            out.append(crc32c(header).to_bytes(4, "little"))
            queued = 52
        if data:
            if len(data) & 3:
                data = b"".join((data, bytes(-len(data) & 3)))
            out.append(data)
            queued += len(data)
            if self.data_digest:  # which is why nobody may change the data from here on
                out.append(crc32c(data).to_bytes(4, "little"))
                queued += 4
        self.out_bytes += queued

    def flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush_later)

    def queue_raw(self, part: Buffer) -> None:
        """Queue bytes that are complete as they are."""
        self.out.append(part)
        self.out_bytes += len(part)

    def borrow(self, bdev: Bdev) -> None:
        """READ data about to be queued is a view of ``bdev``'s memory."""
        if bdev not in self.loans:
            self.loans.append(bdev)
            bdev.lend(self)

    def own_borrowed(self) -> None:
        """The memory behind queued views is about to change: send what the socket takes, and copy the rest."""
        self._send_queued()
        try:
            self.out = [owned(part) if isinstance(part, memoryview) else part for part in self.out]
        except OSError as error:
            self.fail(error)
        self._return_loans()

    def _return_loans(self) -> None:
        for bdev in self.loans:
            bdev.return_loan(self)
        self.loans.clear()

    def _flush_later(self) -> None:
        self._flush_scheduled = False
        self.flush()

    def flush(self) -> None:
        """Send what is queued; what the socket does not take now follows when it is writable."""
        self._send_queued()
        if self.closed:
            return
        if self.out:
            if not self._blocked and not self._hushed:
                self._blocked = True
                self._loop.add_writer(self._socket, self.flush)
            if self.out_bytes > OUTPUT_LIMIT:
                self.pause(_UNREAD)
            return
        if self.loans:
            self._return_loans()
        if self._blocked:
            self._blocked = False
            self._stuck = None
            self._loop.remove_writer(self._socket)
            self.resume(_UNREAD)
        if self.leaving:
            self.close()

    def hush(self) -> None:
        """Send nothing until :meth:`unhush` was called as often as this."""
        self._hushed += 1
        if self._blocked:
            self._blocked = False
            self._loop.remove_writer(self._socket)

    def unhush(self) -> None:
        self._hushed -= 1
        if not self._hushed and not self.closed:
            self._blocked = True
            self._loop.add_writer(self._socket, self.flush)

    def note_output(self, length: int) -> None:
        """A READ of ``length`` bytes is answered from memory of its own: stop in time when the peer does not read."""
        if self.out_bytes + length > OUTPUT_LIMIT:
            self.pause(_UNREAD)
            if not self._hushed:
                self._blocked = True
                self._loop.add_writer(self._socket, self.flush)

    def _send_queued(self) -> None:
        out = self.out
        try:
            while out and not self._hushed:
                sent = self._socket.sendmsg(out if len(out) <= _MAX_VECTOR else out[:_MAX_VECTOR])
                self.out_bytes -= sent
                if not self.out_bytes:
                    out.clear()
                    return
                if not self._drop_sent(out, sent):
                    return
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self.fail(error)

    def fail(self, error: OSError) -> None:
        """The connection, or the memory it was to send, is gone."""
        if error.errno == errno.EFAULT:
            for bdev in [each for each in self.loans if each.has_lost()] or self.loans:
                bdev.distrust()
        _log.info("%s lost: %s", self, error.strerror or error)
        self.close()

    @staticmethod
    def _drop_sent(out: list[Buffer], sent: int) -> bool:
        """Drop ``sent`` bytes from the front of ``out``; False when the socket took less than it was given."""
        count = 0
        for part in out:
            size = len(part)
            if size > sent:
                break
            sent -= size
            count += 1
        del out[:count]
        if sent:
            out[0] = memoryview(out[0])[sent:]
            return False
        return bool(out)

    def is_stuck(self) -> bool:
        """Has the peer read nothing since this was asked last, though something is there for it?"""
        first = self.out[0] if self._blocked and self.out else None
        stuck = first is not None and first is self._stuck
        self._stuck = first
        return stuck

    def end_sending(self) -> None:
        """Give back what the queue holds; for :meth:`close`."""
        self._loop.remove_writer(self._socket)
        self._return_loans()
        self.out.clear()
        self._stuck = None
