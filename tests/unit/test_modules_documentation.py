# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules promise in their documentation holds together with the rest of the collection."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.openlun.iscsi.plugins.doc_fragments._target import ModuleDocFragment
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import DEFAULT_SOCKET
from ansible_collections.openlun.iscsi.plugins.module_utils._state.arguments import config_arguments, object_arguments
from ansible_collections.openlun.iscsi.plugins.module_utils._state.base import SINGLETONS
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import COLLECTIONS
from ansible_collections.openlun.iscsi.plugins.module_utils._state.info import only_reads

ROOT = Path(__file__).resolve().parents[2]
GROUP: list[str] = yaml.safe_load((ROOT / "meta/runtime.yml").read_text())["action_groups"]["target"]


def documentation(module: str) -> dict[str, Any]:
    plugin = importlib.import_module(f"ansible_collections.openlun.iscsi.plugins.modules.{module}")
    documented: dict[str, Any] = yaml.safe_load(plugin.DOCUMENTATION)
    return documented


def inside(documented: Any, place: str, options: set[str]) -> Any:
    """What is documented for an option, as it stands where ``options`` are suboptions of ``place``."""
    if isinstance(documented, str):
        return re.sub(r"O\((\w+)", lambda link: f"O({place if link[1] in options else ''}{link[1]}", documented)
    if isinstance(documented, list):
        return [inside(each, place, options) for each in documented]
    if isinstance(documented, dict):
        return {name: inside(each, place, options) for name, each in documented.items()}
    return documented


def test_the_action_group_is_alphabetical() -> None:
    assert sorted(GROUP) == GROUP


@pytest.mark.parametrize("module", sorted(path.stem for path in (ROOT / "plugins/modules").glob("*.py")))
def test_a_module_says_that_it_is_in_the_action_group_if_it_is(module: str) -> None:
    says = "openlun.iscsi._attributes.target" in documentation(module)["extends_documentation_fragment"]
    assert says == (module in GROUP)


def test_the_documented_socket_is_the_one_that_is_used() -> None:
    assert yaml.safe_load(ModuleDocFragment.DOCUMENTATION)["options"]["socket"]["default"] == DEFAULT_SOCKET


@pytest.mark.parametrize(("kind", "collection"), COLLECTIONS.items())
def test_the_whole_configuration_documents_an_object_with_the_options_of_its_module(kind: str, collection: str) -> None:
    whole = documentation("target_config")["options"][collection]["suboptions"]
    single = documentation(kind)["options"]
    assert set(whole) - {"state"} == set(single)
    for option in single:
        assert whole[option] == inside(single[option], f"{collection}[].", set(single) | {"state"})


@pytest.mark.parametrize("kind", COLLECTIONS)
def test_the_whole_configuration_takes_every_option_of_a_single_object(kind: str) -> None:
    inside = config_arguments()[COLLECTIONS[kind]]["options"]
    assert {name: object_arguments(kind)[name] for name in inside} == inside


@pytest.mark.parametrize("kind", SINGLETONS)
def test_the_whole_configuration_has_what_every_engine_has_once(kind: str) -> None:
    whole = documentation("target_config")["options"][kind]["suboptions"]
    single = documentation(kind)["options"]
    assert whole.keys() == single.keys() == config_arguments()[kind]["options"].keys()
    assert whole == inside(single, f"{kind}.", set(single))


@pytest.mark.parametrize("method", ["bdev_get_bdevs", "rpc_get_methods", "spdk_get_version", "framework_wait_init"])
def test_methods_that_read(method: str) -> None:
    assert only_reads(method)


@pytest.mark.parametrize("method", ["bdev_malloc_create", "log_set_level", "spdk_kill_instance", "get", "forget_it"])
def test_methods_that_change(method: str) -> None:
    assert not only_reads(method)
