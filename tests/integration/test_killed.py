# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that is killed while its configuration changes: what is saved is the state before or after one change."""

from __future__ import annotations

import json
import random
import signal
import threading
from typing import Any

from control import connected, live_bdevs, request, saved
from engine_process import Engine, Launch


class Changes:
    """Random changes, and what they lead to: a model of the configuration for each that was made."""

    KINDS = ("bdev", "limit", "initiator", "secret")

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self._number = 0

    def next(self, before: Model) -> tuple[str, dict[str, Any], Model]:
        """A method, its parameters, and the model after it."""
        kind = self.chance.choice(self.KINDS)
        there = before[kind]
        if kind == "limit":
            if not before["bdev"]:
                return self.next(before)
            name, most = self.chance.choice(before["bdev"]), self.chance.randrange(1, 9)
            others = tuple(each for each in there if not each.startswith(f"{name}="))
            after = {**before, kind: tuple(sorted((*others, f"{name}={most}")))}
            return "bdev_set_qos_limit", {"name": name, "rw_mbytes_per_sec": most}, after
        if there and self.chance.random() < (0.5 if len(there) > 5 else 0.2):
            gone = self.chance.choice(there)
            after = {**before, kind: tuple(each for each in there if each != gone)}
            if kind == "bdev":
                after["limit"] = tuple(each for each in before["limit"] if not each.startswith(f"{gone}="))
            return self._call(kind, make=False), self._params(kind, gone, make=False), after
        self._number += 1
        new = f"iqn.2026-01.test:x{self._number}" if kind == "initiator" else f"x{self._number}"
        return self._call(kind, make=True), self._params(kind, new, make=True), {**before, kind: (*there, new)}

    @staticmethod
    def _call(kind: str, make: bool) -> str:
        return {
            "bdev": "bdev_malloc_create" if make else "bdev_malloc_delete",
            "initiator": f"iscsi_initiator_group_{'add' if make else 'remove'}_initiators",
            "secret": f"iscsi_auth_group_{'add' if make else 'remove'}_secret",
        }[kind]

    @staticmethod
    def _params(kind: str, name: str, make: bool) -> dict[str, Any]:
        if kind == "bdev":
            return {"name": name, **({"num_blocks": 8, "block_size": 512} if make else {})}
        if kind == "initiator":
            return {"tag": 2, "initiators": [name]}
        return {"tag": 1, "user": name, **({"secret": "hush"} if make else {})}


Model = dict[str, tuple[str, ...]]


def model_of(engine: Engine) -> Model:
    """What the saved file says of everything that :class:`Changes` changes."""
    calls = [(call["method"], call.get("params", {})) for section in saved(engine).values() for call in section or ()]
    secrets = next(params for method, params in calls if method == "iscsi_create_auth_group")["secrets"]
    return {
        "bdev": tuple(params["name"] for method, params in calls if method == "bdev_malloc_create"),
        "limit": tuple(
            sorted(
                f"{params['name']}={params['rw_mbytes_per_sec']}"
                for method, params in calls
                if method == "bdev_set_qos_limit"
            )
        ),
        "initiator": tuple(
            name
            for method, params in calls
            if method == "iscsi_create_initiator_group"
            for name in params["initiators"]
            if name != "ANY"
        ),
        "secret": tuple(secret["user"] for secret in secrets if secret["user"] != "first"),
    }


def test_kills_during_a_thousand_changes_leave_the_state_before_or_after_one(launch: Launch) -> None:
    engine = launch(state=True)
    engine.initiator_group()
    engine.rpc("iscsi_create_auth_group", tag=1, secrets=[{"user": "first", "secret": "hush"}])
    changes = Changes(1)
    model = model_of(engine)
    made = lives = 0
    while made < 1000:
        enough = changes.chance.randrange(1, 100)
        with connected(engine) as connection, connection.makefile("rb") as stream:
            for number in range(enough + 1):
                method, params, after = changes.next(model)
                connection.sendall(request(method, **params))
                if number == enough:
                    threading.Event().wait(changes.chance.random() * 0.004)  # somewhere on the way
                    engine.end(signal.SIGKILL)
                    break
                assert json.loads(stream.readline())["result"]
                model = after
                made += 1
        lives += 1
        assert model_of(engine) in (model, after)
        model = model_of(engine)
        engine.start()
        assert live_bdevs(engine) == list(model["bdev"])
        assert engine.rpc("engine_get_info")["unrestored"] == []
        assert saved(engine) == {
            name: engine.rpc("framework_get_config", name=name) for name in engine_subsystems(engine)
        }
    assert lives > 10


def engine_subsystems(engine: Engine) -> list[str]:
    return [each["subsystem"] for each in engine.rpc("framework_get_subsystems")]
