# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What open-iscsi prints and keeps, read and written back."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator import exit_codes, records
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.nodes import (
    Node,
    by_path,
    live_place,
    parse_place,
)
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.session_text import Session, parse_sessions
from ansible_collections.openlun.iscsi.plugins.module_utils._state.portals import Portal
from hypothesis import given
from hypothesis import strategies as st

TEXTS = Path(__file__).with_name("open_iscsi")
DISK0 = "iqn.2016-06.io.spdk:disk0"
HERE, THERE = Portal("10.9.0.22", 3260), Portal("[fd00::22]", 3260)


def sessions(file: str) -> list[Session]:
    return parse_sessions((TEXTS / file).read_text())


def test_every_interface_and_every_portal_has_its_own_session() -> None:
    found = sessions("debian12/session-P3.txt")
    assert [(each.sid, *each.node.key) for each in found] == [
        (1, DISK0, HERE, "default"),
        (2, DISK0, HERE, "second"),
        (3, DISK0, THERE, "default"),
    ]
    assert [each.netdev for each in found] == ["", "lo", ""]


def test_disks_belong_to_the_session_above_them() -> None:
    found = [[(unit.lun, unit.disk) for unit in each.units] for each in sessions("debian12/session-P3.txt")]
    assert found == [[(0, "sda"), (1, "sdc")], [(0, "sdb"), (1, "sde")], [(0, "sdd"), (1, "sdf")]]


def test_the_short_form_tells_the_same_sessions_without_their_disks() -> None:
    short, long = sessions("debian12/session-P1.txt"), sessions("debian12/session-P3.txt")
    assert [each.node for each in short] == [each.node for each in long]
    assert not any(each.units or each.negotiated for each in short)


def test_an_ipv6_portal_is_the_same_one_in_every_spelling() -> None:
    session = sessions("debian12/session-P3.txt")[2]
    assert session.current == session.portal == THERE
    assert session.tag == 1


def test_an_adapter_that_offloads_is_read_as_older_versions_print_it() -> None:
    (session,) = sessions("derived/el7-offload-P3.txt")
    assert session.target == "iqn.2001-04.com.example:storage.disk2.sys1.xyz"
    assert (session.interface, session.transport) == ("bnx2i.00:10:18:ad:2e:f1", "bnx2i")
    assert (session.user, session.netdev, session.negotiated["HeaderDigest"]) == ("db1", "", "CRC32C")
    assert [(unit.lun, unit.disk) for unit in session.units] == [(0, ""), (17, "sdaa")]
    assert [unit.lun for unit in session.disks] == [17]


def test_a_session_that_recovers_is_no_session_to_ask() -> None:
    away, moved = sessions("derived/recovering-P3.txt")
    assert (away.logged_in, away.disks[0].state) == (False, "blocked")
    assert moved.logged_in
    assert (moved.portal, moved.current) == (Portal("[fd00::1]", 3260), Portal("[fd00::2]", 3261))


def test_no_sessions_are_no_text() -> None:
    assert parse_sessions("") == []


def test_what_show_prints_is_what_the_file_holds_and_more_names() -> None:
    shown = records.parse((TEXTS / "debian12/node-show.txt").read_text())
    kept = records.parse((TEXTS / "debian12/node-record.txt").read_text())
    assert {name: value for name, value in shown.items() if value} == kept
    assert shown["node.session.auth.password"] == ""


def test_a_record_keeps_what_is_not_changed() -> None:
    text = (TEXTS / "debian12/node-record.txt").read_text()
    changes = {"node.startup": "automatic", "node.session.auth.password": "a secret = with # marks"}
    edited = records.edit(text, changes)
    assert records.parse(edited) == {**records.parse(text), **changes}
    assert edited.splitlines()[-1] == "# END RECORD"
    assert records.edit(edited, {"node.startup": "manual", "node.session.auth.password": ""}) == text


NAMES = st.from_regex(r"node\.[a-z]{1,8}", fullmatch=True)
VALUES = st.text(
    st.one_of(
        st.characters(min_codepoint=32, max_codepoint=126),
        st.sampled_from("\r\v\f\x1c\x85\u2028äß"),  # ends of lines for Python, not for open-iscsi
    ),
    max_size=20,
).filter(lambda text: text == text.strip() and text != "<empty>")


@given(st.dictionaries(NAMES, VALUES), st.dictionaries(NAMES, VALUES))
def test_an_edited_record_says_what_was_written(before: dict[str, str], changes: dict[str, str]) -> None:
    text = records.edit("# BEGIN RECORD 2.1.8\n# END RECORD\n", before)
    after = records.parse(records.edit(text, changes))
    assert after == {name: value for name, value in {**before, **changes}.items() if value}


@pytest.mark.parametrize(
    ("text", "portal", "tag"),
    [
        ("10.9.0.22", HERE, None),
        ("10.9.0.22:3260,1", HERE, 1),
        ("[fd00::22]:3260,65535", THERE, 65535),
        (" [fd00:0::22] ", THERE, None),
    ],
)
def test_a_portal_can_be_copied_from_a_discovery(text: str, portal: Portal, tag: int | None) -> None:
    assert parse_place(text) == (portal, tag)
    assert live_place(text) == (portal, tag)


@pytest.mark.parametrize(
    ("text", "says"),
    [("fd00::22", "needs brackets"), ("10.9.0.22:3260,x", "'x' is not the tag"), ("disk.example", "not an IP address")],
)
def test_a_portal_that_is_none_is_explained(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_place(text)


def test_links_are_called_as_udev_calls_them() -> None:
    assert by_path(Node(DISK0, THERE), 1) == f"/dev/disk/by-path/ip-fd00::22:3260-iscsi-{DISK0}-lun-1"
    assert by_path(Node(DISK0, HERE), 256).endswith("-lun-0x0100000000000000")


@pytest.mark.parametrize(
    ("code", "name", "says"),
    [
        (24, "authentication", "the target refuses the user or the secret"),
        (19, "login_refused", "do its initiator groups let this host in"),
        (8, "transport_timeout", "the portal does not answer"),
        (21, "nothing_found", "no such record"),
        (77, "code_77", "ended with status 77"),
    ],
)
def test_exit_codes_become_sentences(code: int, name: str, says: str) -> None:
    assert exit_codes.meaning(code).name == name
    sentence = exit_codes.sentence("target t at 10.0.0.1:3260", code)
    assert sentence.startswith("target t at 10.0.0.1:3260: ")
    assert says in sentence


def test_iscsiadm_is_quoted_where_its_code_says_little() -> None:
    errors = "iscsiadm: Cannot modify node.nonsense. Invalid param name.\niscsiadm: Could not execute operation\n"
    assert "Cannot modify node.nonsense. Invalid param name." in exit_codes.sentence("x", 7, errors)
    assert "initiator" not in exit_codes.sentence("x", 24, "iscsiadm: initiator reported error (24 - authorization)\n")
