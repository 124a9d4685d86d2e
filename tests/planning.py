# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plans for an engine in memory: what they are, what comes of them, and why there is none."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.operations import Operation
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import Refused, plan
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import read
from fake_engine import FakeEngine


def planned(
    engine: FakeEngine, *, prune: bool = False, force: bool = False, ignore: Any = (), **variables: Any
) -> list[Operation]:
    snapshot = read(engine)
    declaration = declare(entries_of(variables), snapshot.can.node_base)
    return plan(snapshot.state, declaration, snapshot.can, prune=prune, ignore=ignore, force=force)


def converge(engine: FakeEngine, **variables: Any) -> None:
    execute(planned(engine, **variables), engine)
    engine.written.clear()


def problems(engine: FakeEngine, **variables: Any) -> list[str]:
    with pytest.raises(Refused) as refusal:
        planned(engine, **variables)
    return refusal.value.problems


def refused(engine: FakeEngine, **variables: Any) -> str:
    with pytest.raises(Refused) as refusal:
        planned(engine, **variables)
    return str(refusal.value)
