# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's methods take every parameter that SPDK's own client can send them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import spdk.cli
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods.framework import EXTENSIONS
from spdk.rpc.cmd_parser import args_global
from spdk.spdk_rpc import create_parser

METHODS = {method.name: method for method in all_methods()}
GROUPED = {"policy", "selector", "min_io"}
"""Options of its command line that it sends as one parameter, multipath_opts."""


def calls() -> Iterator[tuple[str, set[str]]]:
    """Methods that the client's command line calls, with the parameters of each call."""
    for path in Path(spdk.cli.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("args.client."):
                name = ast.unparse(node.func).rpartition(".")[2]
                known = {keyword.arg for keyword in node.keywords if keyword.arg}
                spread = any(keyword.arg is None for keyword in node.keywords)
                yield name, known | (options(name) if spread else set())


def options(name: str) -> set[str]:
    """What the client's command line knows for a method that it hands on as a whole."""
    _parser, commands = create_parser()
    known = {action.dest for action in commands.choices[name]._actions} - {"help", *args_global}
    return known - GROUPED | ({"multipath_opts"} if known & GROUPED else set())


SENT = {name: sent for name, sent in calls() if name in METHODS}


@pytest.mark.parametrize("name", sorted(SENT))
def test_every_parameter_of_spdks_client_is_known(name: str) -> None:
    assert sorted(SENT[name] - set(METHODS[name].params or {})) == []


def test_the_clients_calls_are_found() -> None:
    assert SENT["iscsi_create_portal_group"] == {"portals", "tag", "private", "wait"}
    assert {"name", "trtype", "traddr", "multipath_opts"} <= SENT["bdev_nvme_attach_controller"]
    assert len(SENT) > 80


NOT_OF_ITS_CLIENT = {"bdev_raid_create.delta_bitmap", "bdev_nvme_set_options.retry_count"}
"""SPDK takes them, or did, but its client does not send them."""


def test_what_goes_beyond_spdk_is_told() -> None:
    """engine_get_info, which tells it, tells by being there."""
    beyond = {name for name in METHODS if name not in SENT and name != "engine_get_info"}
    for name, sent in SENT.items():
        beyond |= {f"{name}.{each}" for each in set(METHODS[name].params or {}) - sent} - NOT_OF_ITS_CLIENT
    assert sorted(beyond - set(EXTENSIONS)) == []
    assert sorted(each for each in EXTENSIONS if each.count(".") == 0) == sorted(
        each for each in beyond if "." not in each
    )
