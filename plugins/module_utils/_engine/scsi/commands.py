# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of commands: dispatch, conflicts, access states and REPORT SUPPORTED OPERATION CODES are read from it."""

from __future__ import annotations

from typing import Final

from . import (
    access,
    buffers,
    compare,
    copy,
    erase,
    log,
    medium,
    mode,
    mode_select,
    opcodes,
    persistent,
    provisioning,
    sbc,
    spc,
)
from .command import (
    ASK,
    ATOMIC,
    FLUSH,
    INQUIRE,
    LOOK,
    MANAGE,
    READ,
    READY,
    RESERVING,
    WRITE,
    Command,
    parameters,
)
from .sense import InvalidFieldInCdb, InvalidOpcode

COMMANDS: Final[tuple[Command, ...]] = (
    Command(0x00, None, "TEST UNIT READY", spc.unit_ready, "000000000000", READY),
    Command(0x03, None, "REQUEST SENSE", spc.request_sense, "03010000ff00", INQUIRE),
    Command(0x04, None, "FORMAT UNIT", erase.format_unit, "043800000000", erase.RULES, erase.prepare_format),
    Command(0x08, None, "READ(6)", sbc.read, "081fffffff00", READ),
    Command(0x0A, None, "WRITE(6)", sbc.write, "0a1fffffff00", WRITE, sbc.prepare_write),
    Command(0x12, None, "INQUIRY", spc.inquiry, "1201ffffff00", INQUIRE),
    Command(0x15, None, "MODE SELECT(6)", mode_select.select_6, "15110000ff00", MANAGE, parameters(4, 1)),
    Command(0x16, None, "RESERVE(6)", persistent.reserve_6, "160000000000", RESERVING),
    Command(0x17, None, "RELEASE(6)", persistent.release_6, "170000000000", RESERVING),
    Command(0x1A, None, "MODE SENSE(6)", mode.sense_6, "1a08ffffff00", MANAGE),
    Command(0x1B, None, "START STOP UNIT", medium.start_stop, "1b01000ff700", RESERVING),
    Command(0x1E, None, "PREVENT ALLOW MEDIUM REMOVAL", medium.prevent_allow, "1e0000000300", RESERVING),
    Command(0x25, None, "READ CAPACITY(10)", sbc.read_capacity_10, "25000000000000000000", LOOK),
    Command(0x28, None, "READ(10)", sbc.read, "2818ffffffff00ffff00", READ),
    Command(0x2A, None, "WRITE(10)", sbc.write, "2a18ffffffff00ffff00", WRITE, sbc.prepare_write),
    Command(0x2E, None, "WRITE AND VERIFY(10)", compare.write_verify, "2e16ffffffff00ffff00", WRITE, sbc.prepare_write),
    Command(0x2F, None, "VERIFY(10)", compare.verify, "2f16ffffffff00ffff00", READ, compare.prepare_verify),
    Command(0x34, None, "PRE-FETCH(10)", sbc.pre_fetch, "3402ffffffff00ffff00", READ),
    Command(0x35, None, "SYNCHRONIZE CACHE(10)", sbc.synchronize_cache, "3502ffffffff00ffff00", FLUSH),
    Command(0x37, None, "READ DEFECT DATA(10)", medium.read_defect_data_10, "37001f00000000ffff00", READ),
    Command(0x3B, None, "WRITE BUFFER", buffers.write, "3b1fffffffffffffff00", MANAGE, buffers.prepare_write),
    Command(0x3C, None, "READ BUFFER", buffers.read, "3c1fffffffffffffff00", MANAGE),
    Command(
        *(0x41, None, "WRITE SAME(10)", provisioning.write_same, "4108ffffffff00ffff00", WRITE),
        provisioning.prepare_write_same,
    ),
    Command(
        *(0x42, None, "UNMAP", provisioning.unmap, "42000000000000ffff00", WRITE, parameters(7, 2)),
        lambda bdev: bdev.unmaps,
    ),
    Command(0x4D, None, "LOG SENSE", log.sense, "4d00ffff00ffffffff00", ASK),
    Command(0x55, None, "MODE SELECT(10)", mode_select.select_10, "55110000000000ffff00", MANAGE, parameters(7, 2)),
    Command(0x56, None, "RESERVE(10)", persistent.reserve_10, "56000000000000000000", RESERVING),
    Command(0x57, None, "RELEASE(10)", persistent.release_10, "57000000000000000000", RESERVING),
    Command(0x5A, None, "MODE SENSE(10)", mode.sense_10, "5a18ffff000000ffff00", MANAGE),
    *(
        Command(0x5E, action, f"PERSISTENT RESERVE IN, {name}", handler, f"5e{action:02x}0000000000ffff00", ASK)
        for action, name, handler in persistent.IN
    ),
    *(
        Command(
            *(0x5F, action, f"PERSISTENT RESERVE OUT, {name}", persistent.out),
            *(f"5f{action:02x}ff0000ffffffff00", persistent.RULES, parameters(5, 4, persistent.LONGEST_LIST)),
        )
        for action, name in persistent.OUT
    ),
    Command(
        *(0x83, 0x00, "EXTENDED COPY(LID1)", copy.extended_copy, "83000000000000000000ffffffff0000", WRITE),
        parameters(10, 4, copy.LONGEST_LIST),
    ),
    *(
        Command(
            0x84, action, f"RECEIVE COPY RESULTS, {name}", handler, f"84{action:02x}ff00000000000000ffffffff0000", ASK
        )
        for action, name, handler in copy.RESULTS
    ),
    Command(0x88, None, "READ(16)", sbc.read, "8818ffffffffffffffffffffffff0000", READ),
    Command(
        *(0x89, None, "COMPARE AND WRITE", compare.compare_and_write, "8918ffffffffffffffff000000ff0000", ATOMIC),
        compare.prepare_compare_and_write,
    ),
    Command(0x8A, None, "WRITE(16)", sbc.write, "8a18ffffffffffffffffffffffff0000", WRITE, sbc.prepare_write),
    Command(0x8B, None, "ORWRITE(16)", compare.or_write, "8b18ffffffffffffffffffffffff0000", ATOMIC, sbc.prepare_write),
    Command(
        *(0x8E, None, "WRITE AND VERIFY(16)", compare.write_verify, "8e16ffffffffffffffffffffffff0000", WRITE),
        sbc.prepare_write,
    ),
    Command(0x8F, None, "VERIFY(16)", compare.verify, "8f16ffffffffffffffffffffffff0000", READ, compare.prepare_verify),
    Command(0x90, None, "PRE-FETCH(16)", sbc.pre_fetch, "9002ffffffffffffffffffffffff0000", READ),
    Command(0x91, None, "SYNCHRONIZE CACHE(16)", sbc.synchronize_cache, "9102ffffffffffffffffffffffff0000", FLUSH),
    Command(
        *(0x93, None, "WRITE SAME(16)", provisioning.write_same, "9309ffffffffffffffffffffffff0000", WRITE),
        provisioning.prepare_write_same,
    ),
    Command(
        *(0x9C, None, "WRITE ATOMIC(16)", compare.write_atomic, "9c18ffffffffffffffff0000ffff0000", ATOMIC),
        *(compare.prepare_write_atomic, lambda bdev: compare.atomic_blocks(bdev) > 0),
    ),
    Command(0x9E, 0x10, "READ CAPACITY(16)", sbc.read_capacity_16, "9e100000000000000000ffffffff0000", LOOK),
    Command(0x9E, 0x12, "GET LBA STATUS", provisioning.get_lba_status, "9e12ffffffffffffffffffffffff0000", READ),
    Command(0xA0, None, "REPORT LUNS", spc.report_luns, "a000ff000000ffffffff0000", INQUIRE),
    Command(0xA3, 0x0A, "REPORT TARGET PORT GROUPS", access.report, "a3ea00000000ffffffff0000", ASK),
    Command(
        *(0xA3, 0x0C, "REPORT SUPPORTED OPERATION CODES", lambda task: opcodes.report(task, COMMANDS)),
        *("a30c87ffffffffffffff0000", ASK),
    ),
    Command(
        *(0xA3, 0x0D, "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", opcodes.report_task_management),
        *("a30d80000000ffffffff0000", ASK),
    ),
    Command(
        *(0xA4, 0x0A, "SET TARGET PORT GROUPS", access.change, "a40a00000000ffffffff0000", access.CHANGE_RULES),
        parameters(6, 4, access.LONGEST_LIST),
    ),
    Command(0xA8, None, "READ(12)", sbc.read, "a818ffffffffffffffff0000", READ),
    Command(0xAA, None, "WRITE(12)", sbc.write, "aa18ffffffffffffffff0000", WRITE, sbc.prepare_write),
    Command(
        *(0xAE, None, "WRITE AND VERIFY(12)", compare.write_verify, "ae16ffffffffffffffff0000", WRITE),
        sbc.prepare_write,
    ),
    Command(0xAF, None, "VERIFY(12)", compare.verify, "af16ffffffffffffffff0000", READ, compare.prepare_verify),
    Command(0xB7, None, "READ DEFECT DATA(12)", medium.read_defect_data_12, "b71f00000000ffffffff0000", READ),
    *(
        Command(
            *(0x48, action, f"SANITIZE, {name}", handler, f"48{action | 0xA0:02x}0000000000ffff00", erase.RULES),
            *(prepare, offered),
        )
        for action, name, handler, prepare, offered in erase.SANITIZE
    ),
)

BY_OPCODE: Final[tuple[Command | None, ...]] = tuple(
    next((row for row in COMMANDS if row.opcode == opcode and row.service_action is None), None)
    for opcode in range(256)
)
_BY_ACTION: Final[dict[int, dict[int, Command]]] = {
    opcode: {row.service_action: row for row in COMMANDS if row.opcode == opcode and row.service_action is not None}
    for opcode in {row.opcode for row in COMMANDS if row.service_action is not None}
}

TAKES_DATA: Final = frozenset(row.opcode for row in COMMANDS if row.prepare is not None)
"""Operation codes of commands with Data-Out, which are prepared before they are executed."""


def find(cdb: bytes) -> Command:
    """The command's row. Raises InvalidOpcode, or InvalidFieldInCdb for an unknown service action."""
    command = BY_OPCODE[cdb[0]]
    if command is not None:
        return command
    actions = _BY_ACTION.get(cdb[0])
    if actions is None:
        raise InvalidOpcode()
    action = actions.get(cdb[1] & 0x1F)
    if action is None:
        raise InvalidFieldInCdb(byte=1, bit=4)
    return action
