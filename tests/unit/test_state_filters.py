# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The filters and tests, as templates call them and as the documentation names them."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleFilterError

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = sorted((kind, path.stem) for kind in ("filter", "test") for path in (ROOT / "plugins" / kind).glob("*.py"))


def plugin(kind: str, name: str) -> Any:
    module = importlib.import_module(f"ansible_collections.openlun.iscsi.plugins.{kind}.{name}")
    found = module.FilterModule().filters() if kind == "filter" else module.TestModule().tests()
    return found[name]


@pytest.mark.parametrize(("kind", "name"), PLUGINS)
def test_a_plugin_is_documented_under_its_name(kind: str, name: str) -> None:
    module = importlib.import_module(f"ansible_collections.openlun.iscsi.plugins.{kind}.{name}")
    assert yaml.safe_load(module.DOCUMENTATION)["name"] == name
    assert callable(plugin(kind, name))


def test_a_short_name_is_completed_and_a_complete_one_kept() -> None:
    iqn = plugin("filter", "iqn")
    assert iqn("disk1") == "iqn.2016-06.io.spdk:disk1"
    assert iqn("disk1", base="iqn.2020-01.test") == "iqn.2020-01.test:disk1"
    assert iqn("naa.52004567ba64678d") == "naa.52004567ba64678d"
    with pytest.raises(AnsibleFilterError, match=r"'iqn\.2016-06.io.spdk:a b' holds ' '"):
        iqn("a b")


@pytest.mark.parametrize(
    ("host", "port", "text"),
    [
        ("10.0.0.1", 3261, "10.0.0.1:3261"),
        ("FD00:0::1", "3260", "[fd00::1]:3260"),
        ("[::1]", 3260, "[::1]:3260"),
        ("*", 3260, "0.0.0.0:3260"),
    ],
)
def test_a_portal_is_put_together_and_taken_apart(host: str, port: Any, text: str) -> None:
    assert plugin("filter", "portal")(host, port) == text
    parts = plugin("filter", "parse_portal")(text)
    assert plugin("filter", "portal")(**parts) == text
    assert parts["port"] == int(port)
    assert "[" not in parts["host"]


@pytest.mark.parametrize(("host", "port"), [("storage", 3260), ("10.0.0.1", 0), ("10.0.0.1:3260", 3260), ("::1", "x")])
def test_what_is_no_portal_is_refused(host: str, port: Any) -> None:
    with pytest.raises(AnsibleFilterError, match=r"^openlun\.iscsi\.portal: "):
        plugin("filter", "portal")(host, port)
    with pytest.raises(AnsibleFilterError, match="is not an IP address"):
        plugin("filter", "parse_portal")("storage:3260")


@pytest.mark.parametrize(
    ("text", "is_name"),
    [("iqn.2020-01.test:a", True), ("eui.02004567a425678d", True), ("disk1", False), ("iqn.2020-13.test", False)],
)
def test_a_name_is_told_from_other_text(text: str, is_name: bool) -> None:
    assert plugin("test", "iqn")(text) is is_name


def test_volumes_are_expanded_or_refused_with_all_problems() -> None:
    volumes = plugin("filter", "volumes")
    hosts = {"db1": {"initiator": "iqn.2020-01.test:db1"}}
    assert volumes([{"name": "a", "size": "1GiB", "hosts": ["db1"]}], hosts)["target_nodes"][0]["name"] == "a"
    with pytest.raises(AnsibleFilterError, match=r"hosts: name at least one.*\[0\]\.size: volume a needs"):
        volumes([{"name": "a"}], hosts)
