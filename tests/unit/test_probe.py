# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The small initiator and what it makes of addresses and designators, without a network."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.probe import (
    Address,
    Found,
    _nearest,
    _parsed,
    targets_in,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.scsi import identifiers

HERE = Address("10.0.0.1", 3260)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("10.0.0.1:3261,1", Address("10.0.0.1", 3261)),
        ("[fe80::1]:3260,2", Address("fe80::1", 3260)),
        ("[fe80::1],2", Address("fe80::1", 3260)),
        ("10.0.0.1", HERE),
    ],
)
def test_target_addresses_are_read_as_the_standard_writes_them(text: str, address: Address) -> None:
    assert _parsed(text) == address


def test_targets_have_the_portals_that_come_after_them() -> None:
    one, two = "iqn.2016-06.io.spdk:a", "iqn.2001-05.com.example:With_Underscore"
    answer = [
        *(("TargetName", one), ("TargetAddress", "10.0.0.1:3260,1"), ("TargetAddress", "[fe80::1%eth0]:3260,2")),
        ("TargetName", two),
    ]
    assert targets_in(answer) == [Found(one, ["10.0.0.1:3260,1", "[fe80::1%eth0]:3260,2"]), Found(two, [])]


@pytest.mark.parametrize("key", ["TargetName", "TargetAddress"])
@pytest.mark.parametrize(
    "value", ["", ".", "..", "../../../tmp/x", "iqn.2016-06.io.spdk:../a", "-m", "a b", "a\nb", "\x1b[2J", "x" * 256]
)
def test_what_could_become_a_path_or_an_argument_is_no_name_and_no_address(key: str, value: str) -> None:
    with pytest.raises(ValueError, match=f"it offers a {key} that is none"):
        targets_in([("TargetName", "iqn.2016-06.io.spdk:a"), (key, value)])


@pytest.mark.parametrize(
    ("portals", "nearest"),
    [
        (["10.0.0.2:3260,1", "10.0.0.1:3260,1"], HERE),
        (["10.0.0.2:3260,1", "10.0.0.3:3260,1"], Address("10.0.0.2", 3260)),
        (["0.0.0.0:3260,1"], HERE),
        ([], HERE),
    ],
)
def test_the_portal_that_was_asked_comes_first(portals: list[str], nearest: Address) -> None:
    assert _nearest(HERE, Found("iqn.2016-06.io.spdk:a", portals)) == nearest


def designator(code_set: int, kind: int, value: bytes) -> bytes:
    return bytes((code_set, kind, 0, len(value))) + value


def test_designators_of_the_unit_are_named_by_their_type_and_those_of_ports_left_out() -> None:
    page = bytes((0, 0x83, 0, 0)) + b"".join(
        (
            designator(1, 0x03, bytes.fromhex("6001405a00000001")),
            designator(2, 0x01, b"VENDOR  serial "),
            designator(3, 0x08, b"iqn.2016-06.io.spdk:a\0\0\0"),
            designator(1, 0x94, bytes.fromhex("00000001")),
        )
    )
    assert identifiers(page) == ["naa.6001405a00000001", "t10.VENDOR  serial", "iqn.2016-06.io.spdk:a"]


def test_a_page_that_is_cut_short_gives_what_is_there() -> None:
    page = bytes((0, 0x83, 0, 0)) + designator(1, 0x03, b"\1" * 8)
    assert identifiers(page + b"\1\3") == ["naa." + "01" * 8]
