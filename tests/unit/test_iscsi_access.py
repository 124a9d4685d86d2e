# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who may log in: initiator groups and names."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError, Exists, Invalid, NotFound
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.access import InitiatorGroup
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.names import full_name, is_name

DB1 = "iqn.2016-06.io.spdk:db1"


@pytest.mark.parametrize(
    ("initiators", "netmasks", "name", "address", "verdict"),
    [
        (["ANY"], ["ANY"], DB1, "10.0.0.1", True),
        (["ALL"], ["ALL"], DB1, "fd00::1", True),
        ([DB1], ["ANY"], DB1.upper(), "10.0.0.1", True),
        ([DB1], ["ANY"], "iqn.2016-06.io.spdk:db2", "10.0.0.1", None),
        ([f"!{DB1}", "ANY"], ["ANY"], DB1, "10.0.0.1", False),
        (["ANY", f"!{DB1}"], ["ANY"], DB1, "10.0.0.1", True),
        (["!ANY"], ["ANY"], DB1, "10.0.0.1", False),
        (["ANY"], ["10.0.0.0/8"], DB1, "10.255.0.1", True),
        (["ANY"], ["10.0.0.0/8"], DB1, "11.0.0.1", None),
        (["ANY"], ["0.0.0.0/0"], DB1, "11.0.0.1", True),
        (["ANY"], ["0.0.0.0/0"], DB1, "fd00::1", None),
        (["ANY"], ["10.0.0.7"], DB1, "10.0.0.7", True),
        (["ANY"], ["[fd00::]/64"], DB1, "fd00::7", True),
        (["ANY"], ["[fd00::]/64"], DB1, "fd01::7", None),
        (["ANY"], ["10.0.0.0/255.0.0.0"], DB1, "10.0.0.1", None),
        (["ANY"], ["not-a-mask"], DB1, "10.0.0.1", None),
        (["ANY"], ["10.0.0.0/77"], DB1, "10.0.0.1", None),
        (["ANY"], ["not-a-mask", "10.0.0.0/8"], DB1, "10.0.0.1", True),
    ],
)
def test_verdicts(initiators: list[str], netmasks: list[str], name: str, address: str, verdict: bool | None) -> None:
    assert InitiatorGroup(1, initiators, netmasks).verdict(name, address) is verdict


def test_all_is_kept_as_any() -> None:
    assert InitiatorGroup(1, ["ALL"], ["ALL"]).to_rpc() == {"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}


def test_adding_what_is_there_changes_nothing() -> None:
    group = InitiatorGroup(1, [DB1], ["10.0.0.0/8"])
    with pytest.raises(Exists, match="initiator group 1"):
        group.add(["iqn.2016-06.io.spdk:db2"], ["10.0.0.0/8"])
    assert group.initiators == [DB1]


def test_removing_what_is_not_there_changes_nothing() -> None:
    group = InitiatorGroup(1, [DB1, "ANY"], ["10.0.0.0/8"])
    with pytest.raises(NotFound, match="netmask 11"):
        group.remove([DB1], ["11.0.0.0/8"])
    assert group.initiators == [DB1, "ANY"]


@pytest.mark.parametrize(
    "name",
    ["iqn.2016-06.io.spdk:disk1", "IQN.2016-06.IO.SPDK:Disk-1", "eui.02004567a425678d", "naa.52004567ba64678d"],
)
def test_names_of_the_rfc(name: str) -> None:
    assert is_name(name)


@pytest.mark.parametrize(
    "name",
    ["iqn.bad name!", "iqn.2016-6.io:x", "eui.123", "naa.5200", "disk1", "", f"iqn.2016-06.io.spdk:{'x' * 204}"],
)
def test_what_is_no_name(name: str) -> None:
    assert not is_name(name)


def test_a_short_name_gets_the_node_base() -> None:
    assert full_name("myNVMeDisk1", "iqn.2016-06.io.spdk") == "iqn.2016-06.io.spdk:myNVMeDisk1"


@pytest.mark.parametrize("name", ["", "two words", "x" * 224])
def test_an_impossible_name_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as refusal:
        full_name(name, "iqn.2016-06.io.spdk")
    assert isinstance(refusal.value, EngineError)
    assert "target node" in str(refusal.value)
