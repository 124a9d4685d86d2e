# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How sizes, portals, netmasks and names are read."""

from __future__ import annotations

import re

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.names import check_name, full_name, parse_initiator
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import Portal, parse_netmask, parse_portal
from ansible_collections.openlun.iscsi.plugins.module_utils._state.sizes import parse_size, show_size
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 2**63))
def test_a_size_that_is_shown_reads_back(size: int) -> None:
    assert parse_size(show_size(size)) == size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512", 512),
        ("64MiB", 64 << 20),
        ("64M", 64 << 20),
        ("1.5TiB", 3 << 39),
        ("10 GB", 10**10),
        ("1kb", 1000),
        ("7b", 7),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5", "10Gi", "1e6", "ten", "1 2", "0x10", "1.0001K"])
def test_what_is_no_size_is_named(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{text!r} is not a"):
        parse_size(text)


@pytest.mark.parametrize(
    ("text", "portal"),
    [
        ("10.0.0.1:3260", Portal("10.0.0.1", 3260)),
        ("10.0.0.1", Portal("10.0.0.1", 3260)),
        ("[fd00:0::1]:860", Portal("[fd00::1]", 860)),
        ("[::1]", Portal("[::1]", 3260)),
        ("*:3261", Portal("0.0.0.0", 3261)),
        ("[*]", Portal("[::]", 3260)),
    ],
)
def test_portals(text: str, portal: Portal) -> None:
    assert parse_portal(text) == portal
    assert parse_portal(str(portal)) == portal


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("::1", r"needs brackets\. Write \[::1\]:3260"),
        ("::1:3260", "needs brackets"),
        ("10.0.0.1:0", "port 0 is not between 1 and 65535"),
        ("10.0.0.1:65536", "port 65536"),
        ("300.1.1.1:3260", "300.1.1.1 is not an IP address"),
        ("storage.example.com", "is not an IP address"),
        ("[10.0.0.1]:3260", "is not an IP address"),
        ("10.0.0.1:http", "is not a portal"),
        ("", "is not a portal"),
    ],
)
def test_what_is_no_portal_is_told_how_to_write_it(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        parse_portal(text)


@pytest.mark.parametrize(
    ("one", "other", "overlap"),
    [
        ("10.0.0.1", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("10.0.0.1", "10.0.0.1:3261", False),
        ("*", "10.0.0.1", True),
        ("*", "[fd00::1]", False),
        ("[*]", "[fd00::1]", True),
    ],
)
def test_portals_overlap_as_in_the_operating_system(one: str, other: str, overlap: bool) -> None:
    assert parse_portal(one).overlaps(parse_portal(other)) is overlap
    assert parse_portal(other).overlaps(parse_portal(one)) is overlap


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("any", "ANY"),
        ("ALL", "ANY"),
        ("10.0.0.0/8", "10.0.0.0/8"),
        ("10.1.2.3", "10.1.2.3"),
        ("[FD00::]/8", "[fd00::]/8"),
        ("fd00::1", "[fd00::1]"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::/0", "[::]/0"),
    ],
)
def test_netmasks(text: str, mask: str) -> None:
    assert parse_netmask(text) == mask


@pytest.mark.parametrize("text", ["10.0.0.0/33", "10.0.0.0/255.0.0.0", "[fd00::]/129", "net", "", "10.0.0.0/"])
def test_netmasks_that_match_nobody_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(repr(text))}"):
        parse_netmask(text)


@pytest.mark.parametrize(
    "name",
    [
        "iqn.2016-06.io.spdk:myNVMeDisk1",
        "iqn.2001-04.com.example",
        "iqn.2001-04.com.example:storage:disk2.sys1.xyz",
        "iqn.2001-04.com.example:größe",
        "eui.02004567A425678D",
        "naa.62004567ba64678d0123456789abcdef",
        "iqn.2016-06.io.spdk:" + "x" * 203,
    ],
)
def test_iscsi_names(name: str) -> None:
    check_name(name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("iqn.bad name!", "holds ' '"),
        ("iqn.2016-13.io.spdk:x", "iqn.YEAR-MONTH"),
        ("iqn.2016-06", "iqn.YEAR-MONTH"),
        ("iqn.2016-06.io.spdk:a_b", "holds '_'"),
        ("eui.123", "16 hexadecimal digits"),
        ("naa.62004567ba64678d01234567", "16 or 32"),
        ("disk1", "starts with iqn"),
        ("iqn.2016-06.io.spdk:" + "x" * 204, "224 bytes long"),
        ("iqn.2016-06.io.spdk:" + "ö" * 102, "224 bytes long"),
    ],
)
def test_what_is_no_iscsi_name_is_told_why(name: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check_name(name)


def test_short_names_stand_behind_the_node_base() -> None:
    assert full_name("disk1", "iqn.2020-01.com.example") == "iqn.2020-01.com.example:disk1"
    assert full_name("EUI.02004567A425678D", "iqn.2020-01.com.example") == "EUI.02004567A425678D"


@pytest.mark.parametrize(
    ("text", "entry"),
    [("all", "ANY"), ("!ALL", "!ANY"), ("IQN.2020-01.Test:A", "iqn.2020-01.test:a"), ("!iqn.2020-01.test:a",) * 2],
)
def test_initiators(text: str, entry: str) -> None:
    assert parse_initiator(text) == entry


@pytest.mark.parametrize("text", ["", "!", "host1", "10.0.0.1"])
def test_what_is_no_initiator_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an iSCSI name"):
        parse_initiator(text)
