# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initiator's role: its specification, its variables, and that it hands every option on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.options import CHAP, SESSION

ROLE = Path(__file__).resolve().parents[2] / "roles" / "iscsi_initiator"
DEFAULTS: dict[str, Any] = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
OPTIONS: dict[str, dict[str, Any]] = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"][
    "main"
]["options"]
SHARED = {"iscsi_initiator_storage": "{{ groups['iscsi_targets'] | default([]) }}"}
"""A default that is an expression, which a specification cannot say."""


def test_defaults_and_specification_are_the_same() -> None:
    specified = {name: option["default"] for name, option in OPTIONS.items() if name not in SHARED}
    assert {**specified, **SHARED} == DEFAULTS


def test_every_variable_carries_the_prefix_of_the_role_and_is_used_and_documented() -> None:
    files = [path for place in ("tasks", "vars", "templates") for path in (ROLE / place).iterdir()]
    used = "".join(path.read_text() for path in files)
    readme = (ROLE / "README.md").read_text()
    for name in DEFAULTS:
        assert name.startswith("iscsi_initiator_")
        # The secrets of volumes are read by the filter, from the variables of the host.
        assert name in used or name == "iscsi_initiator_chap"
        assert f"| `{name}` |" in readme


def test_every_family_of_distributions_knows_the_same_packages() -> None:
    known = {path.name: set(yaml.safe_load(path.read_text())) for path in (ROLE / "vars").glob("*.yml")}
    del known["main.yml"]
    assert set(map(frozenset, known.values())) == {frozenset(known["default.yml"])}


@pytest.mark.parametrize("variable", ["iscsi_initiator_chap", "iscsi_initiator_discovery_chap"])
def test_secrets_are_not_logged(variable: str) -> None:
    options = OPTIONS[variable]["options"]
    assert set(options) == set(CHAP["options"])
    assert {name for name, option in options.items() if option.get("no_log")} == {"secret", "msecret"}


def test_every_option_of_a_session_is_handed_on() -> None:
    tasks = yaml.safe_load((ROLE / "tasks/login.yml").read_text())
    block = next(task["block"] for task in tasks if "block" in task)
    assert set(block[0]["openlun.iscsi.session"]) == set(SESSION)
