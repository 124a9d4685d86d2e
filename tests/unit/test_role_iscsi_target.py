# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The role's argument specification says what its defaults are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from ansible_collections.openlun.iscsi.plugins.module_utils._state.arguments import config_arguments

ROLE = Path(__file__).resolve().parents[2] / "roles" / "iscsi_target"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
OPTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"][
    "main"
]["options"]


SHARED = {"iscsi_target_volumes": "{{ iscsi_volumes | default([]) }}"}
"""A default that is another variable, which a specification cannot say."""


def test_defaults_and_specification_are_the_same() -> None:
    specified = {name: option["default"] for name, option in OPTIONS.items() if name not in SHARED}
    assert {**specified, **SHARED} == DEFAULTS
    assert set(OPTIONS) == set(DEFAULTS)


def test_every_variable_carries_the_prefix_of_the_role() -> None:
    assert [name for name in DEFAULTS if not name.startswith("iscsi_target_")] == []


def test_every_variable_is_used() -> None:
    used = "".join(path.read_text() for place in ("tasks", "vars") for path in (ROLE / place).glob("*.yml"))
    assert [name for name in DEFAULTS if name not in used] == []


def test_every_family_of_distributions_knows_the_same_packages() -> None:
    known = {path.name: set(yaml.safe_load(path.read_text())) for path in (ROLE / "vars").glob("*.yml")}
    del known["main.yml"]
    assert set(map(frozenset, known.values())) == {frozenset(known["default.yml"])}


def test_the_readme_has_every_variable() -> None:
    readme = (ROLE / "README.md").read_text()
    assert [name for name in DEFAULTS if f"| `{name}` |" not in readme] == []


def test_secrets_are_not_logged() -> None:
    secrets = OPTIONS["iscsi_target_auth_groups"]["options"]["secrets"]["options"]
    assert {name for name, option in secrets.items() if option.get("no_log")} == {"secret", "msecret"}


def test_the_specification_knows_the_options_of_an_auth_group() -> None:
    specified = OPTIONS["iscsi_target_auth_groups"]["options"]
    module = config_arguments()["auth_groups"]["options"]
    assert set(specified) == set(module)
    assert set(specified["secrets"]["options"]) == set(module["secrets"]["options"])
