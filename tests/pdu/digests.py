# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An initiator that protects what it sends with CRC32C digests, right or wrong ones, and checks what it gets."""

from __future__ import annotations

from pdu.crc32c import digest
from pdu.initiator import Initiator
from pdu.wire import BHS_LENGTH, Pdu


class WrongDigest(Exception):
    """The target sent a PDU whose digest does not fit."""


def spoiled(checksum: bytes) -> bytes:
    return bytes([checksum[0] ^ 0x01]) + checksum[1:]


class DigestInitiator(Initiator):
    """Uses the digests that its login agreed on."""

    header_digest = False
    data_digest = False

    def login(self, target: str | None = None, **keys: str) -> DigestInitiator:
        super().login(target, **keys)
        self.header_digest = self.keys.get("HeaderDigest") == "CRC32C"
        self.data_digest = self.keys.get("DataDigest") == "CRC32C"
        return self

    def send(self, *pdus: Pdu | bytes) -> None:
        super().send(*(self.protected(pdu) if isinstance(pdu, Pdu) else pdu for pdu in pdus))

    def protected(self, pdu: Pdu, *, spoil_header: bool = False, spoil_data: bool = False) -> bytes:
        """The PDU as bytes, with the digests in force, if wanted wrong ones."""
        header = bytes(pdu.header) + pdu.ahs
        data = pdu.data + bytes(-len(pdu.data) % 4)
        header_digest = digest(header) if self.header_digest else b""
        data_digest = digest(data) if self.data_digest and data else b""
        if spoil_header:
            header_digest = spoiled(header_digest)
        if spoil_data:
            data_digest = spoiled(data_digest)
        return header + header_digest + data + data_digest

    def read_pdu(self) -> Pdu:
        header = self.read_bytes(BHS_LENGTH)
        ahs = self.read_bytes(header[4] * 4)
        if self.header_digest and self.read_bytes(4) != digest(header + ahs):
            raise WrongDigest("header")
        length = int.from_bytes(header[5:8], "big")
        data = self.read_bytes(length + -length % 4)
        if self.data_digest and length and self.read_bytes(4) != digest(data):
            raise WrongDigest("data")
        return Pdu.parse(header, ahs, data[:length])
