# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests that SPDK's iscsi_tgt answered, asked of this engine: the answers have the same shape and codes.

The recording is tests/unit/exchanges/spdk-exchanges.json (SPDK v26.05). Where the engine answers otherwise, on purpose,
DIFFERENCES says why.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from engine_process import Engine, Launch, free_port
from pdu.initiator import Initiator

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "unit" / "exchanges" / "spdk-exchanges.json").read_text()
)

BUILDING = (
    "ok_create_portal_group",
    "ok_create_initiator_group",
    "ok_bdev_malloc_create",
    "ok_bdev_malloc_create_named",
    "ok_bdev_malloc_create_uuid",
    "ok_create_target_node",
    "ok_target_node_add_lun",
    "ok_target_node_add_pg_ig_maps",
    "ok_target_node_remove_pg_ig_maps",
    "ok_initiator_group_add_initiators",
    "ok_initiator_group_remove_initiators",
    "ok_create_auth_group",
    "get_auth_groups_after",
    "ok_auth_group_add_secret",
    "ok_target_node_set_auth",
)
AFTER = ("get_initiator_groups_after_badmask", "get_target_nodes_after")
REMOVING = (
    "ok_delete_target_node",
    "ok_delete_portal_group",
    "ok_delete_initiator_group",
    "ok_delete_auth_group",
    "ok_bdev_malloc_delete",
)

EXACT = {
    "framework_get_config_iscsi",
    "get_auth_groups_after",
    "get_initiator_groups_after_badmask",
    "get_target_nodes_after",
    "iscsi_get_auth_groups",
    "iscsi_get_initiator_groups",
    "iscsi_get_portal_groups",
    "iscsi_get_target_nodes",
    "log_get_level",
    "notify_get_types",
    "scsi_get_devices",
}
"""Answers that are equal to the last value and not only in shape."""

NOT_OURS = {
    "save_config",  # not a request: what a client puts together from many answers
    "trace_get_info",
}
"""Of methods that this engine does not claim to have."""


def known_to_spdk(call: dict[str, Any]) -> bool:
    saved = {each["method"]: each.get("params", {}) for each in calls_of("framework_get_config_bdev")}
    return call["method"] in saved and set(call.get("params", {})) <= set(saved[call["method"]])


class Difference(NamedTuple):
    reason: str
    check: Callable[[Any], bool]


def error_is(code: int, text: str) -> Callable[[Any], bool]:
    return lambda answer: answer["error"]["code"] == code and answer["error"]["message"].startswith(text)


DIFFERENCES = {
    "ok_bdev_malloc_create": Difference(
        "an automatic name that is taken is skipped instead of refused", lambda answer: answer["result"] == "Malloc1"
    ),
    "spdk_get_version": Difference(
        "a release has no commit",
        lambda answer: set(answer["result"]["fields"]) == {"major", "minor", "patch", "suffix"},
    ),
    "err_string_id": Difference("a release has no commit", lambda answer: answer["id"] == "abc" and "result" in answer),
    "err_no_jsonrpc": Difference("a release has no commit", lambda answer: answer["id"] == 1 and "result" in answer),
    "err_batch": Difference("a release has no commit", lambda answer: [each["id"] for each in answer] == [1, 2]),
    "err_parse": Difference("the reason is told before the connection closes", error_is(-32700, "Parse error")),
    "err_no_id_notification": Difference(
        "a request without a method is told so instead of met with silence", error_is(-32600, "Invalid request")
    ),
    "log_get_flags": Difference(
        "the flags are this engine's parts",
        lambda answer: {"bdev", "iscsi", "scsi"} <= set(answer["result"]) and set(answer["result"].values()) == {False},
    ),
    "framework_get_config_iscsi": Difference(
        "a first burst of 256 KiB is the default, so that such a WRITE needs no R2T",
        lambda answer: with_first_burst(answer["result"], 8192) == calls_of("framework_get_config_iscsi"),
    ),
    "framework_get_config_bdev": Difference(
        "no tuning of parts that are not here, no DIF; every call has parameters that SPDK knows",
        lambda answer: all(known_to_spdk(call) for call in answer["result"]) and len(answer["result"]) == 4,
    ),
}


def calls_of(name: str) -> Any:
    return RECORDED[name]["response"]["result"]


def with_first_burst(calls: list[dict[str, Any]], length: int) -> list[dict[str, Any]]:
    """The calls with another first_burst_length, and with the portal's port as it was recorded."""
    first, *others = json.loads(json.dumps(calls))
    first["params"]["first_burst_length"] = length
    others[0]["params"]["portals"] = [{"host": "127.0.0.1", "port": "3412"}]
    return [first, *others]


def covers(recorded: Any, ours: Any) -> bool:
    """Ours has every key of the recorded value, with values of the same kind; it may have more keys."""
    if isinstance(recorded, dict):
        return isinstance(ours, dict) and all(key in ours and covers(recorded[key], ours[key]) for key in recorded)
    if isinstance(recorded, list):
        return isinstance(ours, list) and (not recorded or all(covers_any(recorded, each) for each in ours))
    return type(recorded) is type(ours)


def covers_any(recorded: list[Any], ours: Any) -> bool:
    if isinstance(ours, dict) and "method" in ours:
        recorded = [each for each in recorded if each["method"] == ours["method"]]
    return any(covers(each, ours) for each in recorded)


def same(name: str, recorded: Any, ours: Any) -> bool:
    """The laws of an exchange that has no entry in DIFFERENCES."""
    if "error" in recorded:
        text = recorded["error"]["message"]
        return list(ours) == list(recorded) and error_is(recorded["error"]["code"], text)(ours)
    if name in EXACT or recorded["result"] is True:
        return bool(ours == recorded)
    return list(ours) == list(recorded) and covers(recorded, ours)


def names_in_order() -> list[str]:
    told = {*BUILDING, *AFTER, *REMOVING, *NOT_OURS, "ok_get_iostat_names"}
    others = [name for name in RECORDED if name not in told]
    errors = sorted((name for name in others if name.startswith("err_")), key=identity)
    looking = [name for name in others if not name.startswith("err_")]
    return [*looking, "ok_get_iostat_names", *BUILDING, *errors, *AFTER, *REMOVING]


def identity(name: str) -> int:
    request = RECORDED[name]["request"]
    return int(request["id"]) if isinstance(request, dict) else 0


class Replay:
    """An engine in the recorded one's state, and its answers to everything."""

    def __init__(self, engine: Engine, disk: Path) -> None:
        self._engine = engine
        self._places = {str(port): str(free_port()) for port in (3412, 3496, 3497, 3498, 3499)}
        self._places["/var/lib/example/disk.img"] = str(disk)
        self.answers: dict[str, Any] = {}
        with disk.open("wb") as file:
            file.truncate(2**30)
        saved = {each["subsystem"]: each["config"] for each in RECORDED["save_config"]["subsystems"]}
        for call in saved["bdev"] + saved["iscsi"]:
            if "create" in call["method"]:
                engine.rpc(call["method"], **self.here(call["params"]))
        self.port = int(self._places["3412"])

    def here(self, value: Any) -> Any:
        """The recorded value with this machine's ports and paths."""
        if isinstance(value, dict):
            return {key: self.here(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.here(each) for each in value]
        return self._places.get(value, value) if isinstance(value, str) else value

    def ask(self, name: str) -> None:
        request = RECORDED[name]["request"]
        text = request if isinstance(request, str) else json.dumps(self.here(request))
        self.answers[name] = json.loads(self._engine.exchange(text.encode()))


@pytest.fixture(scope="module")
def replay(launch_shared: Launch, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    replay = Replay(launch_shared(), tmp_path_factory.mktemp("disk") / "disk.img")
    with Initiator(("127.0.0.1", replay.port)).login("iqn.2016-06.io.spdk:malloc"):
        for name in names_in_order():
            replay.ask(name)
    return replay


@pytest.mark.parametrize("name", names_in_order())
def test_a_recorded_exchange(replay: Replay, name: str) -> None:
    ours = replay.answers[name]
    recorded = replay.here(RECORDED[name]["response"])
    if name in DIFFERENCES:
        assert DIFFERENCES[name].check(ours), DIFFERENCES[name].reason
        answered = isinstance(recorded, dict) and not {"result", "error"}.isdisjoint(recorded)
        assert not (answered and same(name, recorded, ours)), f"{name} is as recorded: it needs no entry in DIFFERENCES"
    else:
        assert same(name, recorded, ours), f"recorded {json.dumps(recorded)}\nours     {json.dumps(ours)}"


def test_every_recorded_exchange_is_asked_or_accounted_for() -> None:
    assert sorted([*names_in_order(), *NOT_OURS]) == sorted(RECORDED)


@pytest.mark.parametrize("name", sorted(NOT_OURS - {"save_config"}))
def test_methods_that_are_not_there_say_so(engine: Engine, name: str) -> None:
    request = RECORDED[name]["request"]
    assert request["method"] not in engine.rpc("rpc_get_methods")
    answer = json.loads(engine.exchange(json.dumps(request).encode()))
    assert error_is(-32601, "Method not found")(answer)


def test_a_configuration_that_spdk_saved_is_loaded_at_start(launch: Launch, tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(b"\0" * 2**20)
    port = free_port()
    text = (
        json.dumps(RECORDED["save_config"]).replace("/var/lib/example/disk.img", str(disk)).replace("3412", str(port))
    )
    config = tmp_path / "spdk.json"
    config.write_text(text)
    engine = launch("-c", config)
    recorded = RECORDED["iscsi_get_target_nodes"]["response"]["result"]
    assert engine.rpc("iscsi_get_target_nodes") == recorded
    assert engine.rpc("iscsi_get_options") == RECORDED["iscsi_get_options"]["response"]["result"]
    with Initiator(("127.0.0.1", port)).login("iqn.2016-06.io.spdk:aio"):
        pass


def test_what_spdk_saves_of_every_kind_of_disk_is_loaded(launch: Launch, tmp_path: Path) -> None:
    """Written after what SPDK's modules save, tuning of what is not here and subsystems of other programs included."""
    text = (Path(__file__).parents[1] / "unit" / "exchanges" / "spdk-every-kind.json").read_text()
    config = tmp_path / "spdk.json"
    config.write_text("// saved by SPDK\n" + text.replace("3412", str(free_port())))
    engine = launch("-c", config, state=True)
    subsystems = ("sock", "iobuf", "bdev", "iscsi")
    before = {name: engine.rpc("framework_get_config", name=name) for name in subsystems}
    made = {call["method"] for calls in before.values() for call in calls}
    wanted = {call["method"] for section in json.loads(text)["subsystems"] for call in section["config"] or ()}
    assert {name for name in wanted - made if not name.endswith(("_set_options", "_whatever"))} == set()
    (node,) = engine.rpc("iscsi_get_target_nodes")
    assert "alias_name" not in node  # SPDK saves none for it, and would not load what it saved
    engine.restart()
    assert {name: engine.rpc("framework_get_config", name=name) for name in subsystems} == before
