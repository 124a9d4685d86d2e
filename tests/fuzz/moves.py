# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What an attacker may do on a connection: PDUs right and wrong, in any order, as Hypothesis strategies."""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from hypothesis import strategies as st
from pdu import wire
from pdu.wire import FIELDS, RESERVED_TAG, Pdu

REQUESTS: Final = (
    *(wire.NOP_OUT, wire.SCSI_COMMAND, wire.TASK_REQUEST, wire.LOGIN, wire.TEXT, wire.DATA_OUT, wire.LOGOUT),
    wire.SNACK,
)
_NUMBERED: Final = frozenset({wire.NOP_OUT, wire.SCSI_COMMAND, wire.TASK_REQUEST, wire.TEXT, wire.LOGOUT})
_KEYS: Final = (
    *("InitiatorName", "InitiatorAlias", "TargetName", "SessionType", "SendTargets", "TargetPortalGroupTag"),
    *("HeaderDigest", "DataDigest", "MaxConnections", "InitialR2T", "ImmediateData", "MaxRecvDataSegmentLength"),
    *("MaxBurstLength", "FirstBurstLength", "DefaultTime2Wait", "DefaultTime2Retain", "MaxOutstandingR2T"),
    *("DataPDUInOrder", "DataSequenceInOrder", "ErrorRecoveryLevel", "TaskReporting", "iSCSIProtocolLevel"),
    *("AuthMethod", "CHAP_A", "CHAP_I", "CHAP_C", "CHAP_N", "CHAP_R", "IFMarker", "OFMarkInt", "X-fuzz.key"),
)
_VALUES: Final = (
    *("Yes", "No", "None", "CRC32C", "CRC32C,None", "None,CHAP", "CHAP", "All", "Normal", "Discovery", "Reject"),
    *("0", "1", "2", "512", "8192", "65536", "16777215", "16777216", "0x200", "0xffffffffff", "-1", "5,6,7,8"),
    *("0x00", "0b", "0bAAAA", "0x" + "ab" * 16, "0x" + "ab" * 1025, "iqn.2016-06.io.spdk:fuzz", "", ",", "=", "~"),
)
_BOUNDARIES: Final = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFFFFFF, 0x80000000, RESERVED_TAG - 1, RESERVED_TAG)
_CDB_OPCODES: Final = (
    *(0x00, 0x03, 0x04, 0x08, 0x0A, 0x12, 0x15, 0x16, 0x17, 0x1A, 0x1B, 0x1E, 0x25, 0x28, 0x2A, 0x2E, 0x2F, 0x34),
    *(0x35, 0x37, 0x3B, 0x3C, 0x41, 0x42, 0x48, 0x4D, 0x55, 0x56, 0x57, 0x5A, 0x5E, 0x5F, 0x7F, 0x83, 0x84, 0x88),
    *(0x89, 0x8A, 0x8B, 0x8E, 0x8F, 0x90, 0x91, 0x93, 0x9C, 0x9E, 0xA0, 0xA2, 0xA3, 0xA8, 0xAA, 0xAE, 0xAF, 0xFF),
)


_BLOCK: Final = 512
_COUNTS: Final = (0, 1, 2, 16, 128)
_IO_10: Final = struct.Struct(">BxLxHxxxxxxx")
_IO_16: Final = struct.Struct(">BxQLxx")

_LIKELY: Final[dict[int, dict[str, tuple[int, ...]]]] = {
    wire.SCSI_COMMAND: {"expected_length": (0, 512, 1024, 8192, 65536, 2**24)},
    wire.DATA_OUT: {"ttt": (RESERVED_TAG, 1, 2, 3), "buffer_offset": (0, 0, 512, 1024, 8192), "data_sn": (0, 0, 1)},
    wire.TEXT: {"ttt": (RESERVED_TAG, 1, 2)},
    wire.NOP_OUT: {"ttt": (RESERVED_TAG, 1)},
    wire.LOGOUT: {"cid": (0, 1, 2)},
}
"""Fields that make a PDU fit what came before it, often enough."""


class Move(NamedTuple):
    """Bytes to send. ``opcode`` None is no PDU at all, just ``data``.

    ``fields`` overwrite those of a PDU that is right otherwise; ``patches`` then overwrite bytes of its header, and
    ``keep`` cuts what is sent. What depends on the connection (numbers, tags) is filled in when it is sent. Where there
    are digests, ``spoil`` makes that of the header (1) or of the data (2) wrong.
    """

    opcode: int | None = None
    immediate: bool = False
    flags: int = wire.FINAL
    data: bytes = b""
    ahs: bytes = b""
    cdb: bytes = b""
    lun: int = 0
    fields: tuple[tuple[str, int], ...] = ()
    patches: tuple[tuple[int, int], ...] = ()
    keep: int | None = None
    spoil: int = 0

    @property
    def takes_number(self) -> bool:
        """Whether the target is to count it; otherwise all that comes after it would wait for this number."""
        whole = self.keep is None and not self.patches and "cmd_sn" not in dict(self.fields)
        return whole and self.opcode in _NUMBERED and not self.immediate

    def __repr__(self) -> str:
        """What differs from the defaults, with long runs of zeros cut short."""
        told = {name: value for name, value in self._asdict().items() if value != Move._field_defaults[name]}
        return f"Move({', '.join(f'{name}={_short(value)}' for name, value in told.items())})"

    def build(self, opcode: int, numbers: dict[str, int], isid: bytes) -> Pdu:
        """``numbers`` are the connection's CmdSN, ExpStatSN, tags … by the names of the header's fields."""
        pdu = Pdu(
            opcode, self.flags, immediate=self.immediate, data=self.data, ahs=self.ahs, lun=self.lun, cdb=self.cdb
        )
        known = {name: value for name, value in numbers.items() if not (self.cdb and FIELDS[name][0] >= 32)}
        pdu.set(**known)
        if opcode == wire.LOGIN:
            pdu.header[8:14] = isid
        pdu.set(**dict(self.fields))
        for place, value in self.patches:
            pdu.header[place] = value
        return pdu


def _short(value: object) -> str:
    return f"bytes({len(value)})" if isinstance(value, bytes) and len(value) > 8 and not any(value) else repr(value)


def texts() -> st.SearchStrategy[bytes]:
    """Key=value pairs, most of them with known names; sometimes no text at all."""
    names = st.sampled_from(_KEYS) | st.text(max_size=70)
    values = st.sampled_from(_VALUES) | st.text(max_size=40)
    pairs = st.lists(st.builds("{}={}".format, names, values), max_size=6)
    return pairs.map(lambda each: "\0".join([*each, ""]).encode("utf-8", "surrogatepass")) | st.binary(max_size=64)


def numbers(size: int) -> st.SearchStrategy[int]:
    """A field of ``size`` bytes: small, at a boundary, or anything."""
    most = 256**size - 1
    boundaries = sorted({min(each, most) for each in _BOUNDARIES})
    return st.integers(0, min(64, most)) | st.sampled_from(boundaries) | st.integers(0, most)


def field_changes(most: int) -> st.SearchStrategy[tuple[tuple[str, int], ...]]:
    change = st.sampled_from(sorted(FIELDS)).flatmap(lambda name: st.tuples(st.just(name), numbers(FIELDS[name][1])))
    return st.lists(change, max_size=most).map(tuple)


def cdbs() -> st.SearchStrategy[bytes]:
    """Reads and writes that are right; known and unknown operation codes with what is near to make sense, or not."""
    lba, blocks = st.integers(0, 2047), st.sampled_from(_COUNTS)
    io_10 = st.tuples(st.sampled_from((0x28, 0x2A)), lba, blocks).map(lambda fields: _IO_10.pack(*fields))
    io_16 = st.tuples(st.sampled_from((0x88, 0x8A)), lba, blocks).map(lambda fields: _IO_16.pack(*fields))
    opcodes = st.sampled_from(_CDB_OPCODES) | st.integers(0, 255)
    small = st.lists(st.sampled_from((0, 0, 0, 1, 8, 0x80, 0xFF)), min_size=15, max_size=15).map(bytes)
    strange = st.builds(lambda code, rest: bytes([code]) + rest, opcodes, small | st.binary(min_size=15, max_size=15))
    return st.one_of(io_10, io_16, strange)


_DATA: Final = st.binary(max_size=64) | st.sampled_from((0, 512, 1024, 4096, 8192, 65536)).map(bytes)
_LUNS: Final = st.sampled_from((0, 0, 0, 1, 0x4001, 0xC101, 0xFFFF))
_WORDS: Final = st.binary(max_size=20).map(lambda each: each + bytes(-len(each) % 4))
_AHS: Final = st.integers(0, 9).flatmap(lambda each: st.just(b"") if each else _WORDS)
_FLAGS: Final = st.sampled_from((0x80, 0x81, 0xC1, 0xA1, 0xE1, 0x21, 0x40, 0x00, 0x87, 0x81)) | st.integers(0, 255)


def requests(
    opcodes: st.SearchStrategy[int], changes: int, flags: st.SearchStrategy[int] = _FLAGS
) -> st.SearchStrategy[Move]:
    """PDUs with up to ``changes`` wrong fields."""

    def of(opcode: int) -> st.SearchStrategy[Move]:
        likely = [
            st.sampled_from(values).map(lambda value, name=name: (name, value))  # type: ignore[misc]
            for name, values in _LIKELY.get(opcode, {}).items()
        ]
        is_command = opcode == wire.SCSI_COMMAND
        return st.builds(
            Move,
            opcode=st.just(opcode),
            immediate=st.booleans(),
            flags=flags,
            data=texts() if opcode in (wire.LOGIN, wire.TEXT) else _DATA,
            ahs=_AHS,
            cdb=cdbs() if is_command else st.just(b""),
            lun=_LUNS,
            fields=st.builds(lambda right, wrong: right + wrong, st.tuples(*likely), field_changes(changes)),
            patches=st.just(()),
            keep=st.none(),
            spoil=st.sampled_from((0, 0, 0, 0, 0, 0, 1, 2)),
        )

    return opcodes.flatmap(of)


def transfers() -> st.SearchStrategy[Move]:
    """Reads and writes that are right in all respects; what a write lacks is to come as Data-Out."""

    def build(lba: int, blocks: int, writes: bool, immediate: int, final: bool) -> Move:
        length = blocks * _BLOCK
        direction = wire.WRITE if writes else wire.READ
        return Move(
            wire.SCSI_COMMAND,
            flags=direction | wire.SIMPLE | (wire.FINAL if final or not writes else 0),
            data=bytes(min(immediate, length)) if writes else b"",
            cdb=_IO_10.pack(0x2A if writes else 0x28, lba, blocks),
            fields=(("expected_length", length),),
        )

    return st.builds(
        build,
        st.integers(0, 1900),
        st.sampled_from(_COUNTS),
        st.booleans(),
        st.sampled_from((0, 512, 8192)),
        st.booleans(),
    )


def logins(stage: int) -> st.SearchStrategy[Move]:
    """Login requests of that stage, 0 or 1, that stay in it, go on, or have more to say."""
    flags = (0x00, 0x40, 0x81, 0x83) if stage == 0 else (0x04, 0x44, 0x87)
    return requests(st.just(wire.LOGIN), 0, st.sampled_from(flags))


def moves() -> st.SearchStrategy[Move]:
    """Anything: right, wrong, mutilated, no PDU at all."""
    known = st.sampled_from(REQUESTS)
    right = requests(known, 0)
    wrong = requests(known | st.integers(0, 63), 3)
    patches = st.lists(st.tuples(st.integers(0, 47), st.integers(0, 255)), min_size=1, max_size=4).map(tuple)
    mutilated = st.builds(lambda move, changed: move._replace(patches=changed), right, patches)
    cut = st.builds(lambda move, keep: move._replace(keep=keep), right | wrong, st.integers(0, 120))
    noise = st.binary(min_size=1, max_size=200).map(lambda data: Move(data=data))
    answers = requests(st.just(wire.DATA_OUT), 0)
    return st.one_of(transfers(), transfers(), answers, right, right, right, wrong, mutilated, cut, noise)
