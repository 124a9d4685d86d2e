# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Random changes by every method that makes some: what is saved is what is live, and loads as what was saved.

A method that is added to the engine and not to CHANGES fails a test.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.methods import all_methods
from control import saved
from engine_process import Engine, Launch, RpcError, free_port

STEPS = 700
Params = dict[str, Any]


class World:
    """What there is to be changed, and chance."""

    def __init__(self, engine: Engine, directory: Path, seed: int) -> None:
        self.engine = engine
        self.directory = directory
        self.chance = random.Random(seed)
        self._numbers = 0

    def new(self, prefix: str) -> str:
        self._numbers += 1
        return f"{prefix}{self._numbers}"

    def tag(self) -> int:
        """Of a group, there or not: few, so that they meet."""
        return self.chance.randrange(1, 5)

    def flag(self) -> bool:
        return self.chance.random() < 0.5

    def some(self, **choices: Any) -> Params:
        """Each of these or not."""
        return {name: value for name, value in choices.items() if self.flag()}

    def bdev(self, *products: str) -> str:
        found = [each for each in self.engine.rpc("bdev_get_bdevs") if not products or each["product_name"] in products]
        return str(self.chance.choice(found)["name"]) if found else "none"

    def node(self) -> Params:
        found = self.engine.rpc("iscsi_get_target_nodes")
        return dict(self.chance.choice(found)) if found else {"name": "none", "pg_ig_maps": [], "luns": []}

    def lun(self) -> Params:
        node = self.node()
        luns = [lun["lun_id"] for lun in node["luns"]] or [0]
        return {"name": node["name"], "lun_id": self.chance.choice(luns)}

    def port_of_node(self) -> Params:
        node = self.node()
        tags = [each["pg_tag"] for each in node["pg_ig_maps"]] or [self.tag()]
        return {"name": node["name"], "pg_tag": self.chance.choice(tags)}

    def maps(self) -> list[Params]:
        return [{"pg_tag": self.tag(), "ig_tag": self.tag()} for _each in range(self.chance.randrange(1, 3))]

    def old_map(self) -> Params:
        node = self.node()
        return {
            "name": node["name"],
            "pg_ig_maps": self.chance.sample(node["pg_ig_maps"], 1 if node["pg_ig_maps"] else 0),
        }

    def portal(self) -> Params:
        return {"host": "127.0.0.1", "port": str(free_port())}

    def old_portal(self) -> Params:
        groups = [group for group in self.engine.rpc("iscsi_get_portal_groups") if len(group["portals"]) > 1]
        group: Params = self.chance.choice(groups) if groups else {"tag": 1, "portals": [self.portal()]}
        return {"tag": group["tag"], "portals": group["portals"][:1]}

    def file(self) -> str:
        path = self.directory / self.new("file")
        path.write_bytes(bytes(2**20))
        return str(path)

    def chap(self) -> Params:
        kinds: list[Params] = [{}, {"disable_chap": True}, {"require_chap": True}]
        kinds.append({"require_chap": True, "mutual_chap": True})
        return {**self.chance.choice(kinds), **self.some(chap_group=self.tag())}

    def secret(self) -> Params:
        mutual = {"muser": self.new("muser"), "msecret": "yet another secret"}
        return {"user": self.new("user"), "secret": "one secret or other", **(mutual if self.flag() else {})}

    def old_secret(self) -> Params:
        groups = [group for group in self.engine.rpc("iscsi_get_auth_groups") if group["secrets"]]
        group: Params = self.chance.choice(groups) if groups else {"tag": 1, "secrets": [{"user": "none"}]}
        return {"tag": group["tag"], "user": self.chance.choice(group["secrets"])["user"]}

    def old_initiators(self) -> Params:
        groups = [group for group in self.engine.rpc("iscsi_get_initiator_groups") if len(group["initiators"]) > 1]
        group: Params = self.chance.choice(groups) if groups else {"tag": 1, "initiators": ["none"]}
        return {"tag": group["tag"], "initiators": group["initiators"][-1:]}

    def groups_of_node(self) -> Params:
        node = self.node()
        tags = sorted({each["ig_tag"] for each in node["pg_ig_maps"]})
        luns = [lun["lun_id"] for lun in node["luns"]] or [0]
        return {
            "name": node["name"],
            "lun_id": self.chance.choice(luns),
            "initiator_groups": tags if self.flag() else [],
        }

    def new_node(self) -> Params:
        luns = [
            {"bdev_name": self.bdev(), "lun_id": number, **self.some(removable=True, readonly=True)}
            for number in range(self.chance.randrange(1, 3))
        ]
        digests = self.some(header_digest=True, data_digest=True)
        alias = self.chance.choice(["", "An alias", '\u017elu\u0165oučký "kůň" \\'])
        made = {"name": self.new("node"), "alias_name": alias, "pg_ig_maps": self.maps(), "luns": luns}
        return {**made, "queue_depth": self.chance.randrange(0, 300), **digests, **self.chap()}

    def uuid(self) -> Params:
        return self.some(uuid=f"{self.chance.getrandbits(128):032x}")

    def latencies(self) -> Params:
        kinds = ("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency")
        return {kind: self.chance.randrange(1000) for kind in kinds}

    def limits(self) -> Params:
        kinds = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")
        return self.some(**{kind: self.chance.randrange(0, 5) * 10_000 for kind in kinds})

    def apply(self) -> Params:
        names = [name for name in CHANGES if name not in {"engine_apply", "bdev_malloc_delete"} and "nvme" not in name]
        calls = [{"method": name, "params": CHANGES[name](self)} for name in self.chance.sample(names, 2)]
        return {"calls": calls}


MALLOC, AIO, URING, NULL = "Malloc disk", "AIO disk", "URING bdev", "Null disk"
GEOMETRY = {"num_blocks": 2048, "block_size": 512}
HINT = {"optimal_write_size": 64, "physical_block_size": 4096}

CHANGES: dict[str, Callable[[World], Params]] = {
    "bdev_malloc_create": lambda w: {**GEOMETRY, **w.some(name=w.new("M"), physical_block_size=4096), **w.uuid()},
    "bdev_malloc_delete": lambda w: {"name": w.bdev(MALLOC)},
    "bdev_aio_create": lambda w: {
        "name": w.new("A"),
        "filename": w.file(),
        **w.some(readonly=True, fallocate=True, block_size=4096, direct=True, sparse=True, size=2**21),
        **w.uuid(),
    },
    "bdev_aio_delete": lambda w: {"name": w.bdev(AIO), **w.some(remove_file=True)},
    "bdev_uring_create": lambda w: {"name": w.new("U"), "filename": w.file(), **w.uuid()},
    "bdev_uring_delete": lambda w: {"name": w.bdev(URING)},
    "bdev_null_create": lambda w: {"name": w.new("N"), **GEOMETRY, **w.some(**HINT), **w.uuid()},
    "bdev_null_delete": lambda w: {"name": w.bdev(NULL)},
    "bdev_null_resize": lambda w: {"name": w.bdev(NULL), "new_size": w.chance.randrange(1, 9)},
    "bdev_passthru_create": lambda w: {"name": w.new("P"), "base_bdev_name": w.bdev(), **w.uuid()},
    "bdev_passthru_delete": lambda w: {"name": w.bdev("passthru")},
    "bdev_split_create": lambda w: {"base_bdev": w.bdev(), "split_count": 2, **w.some(split_size_mb=1)},
    "bdev_split_delete": lambda w: {"base_bdev": w.bdev("Split Disk").rpartition("p")[0] or "none"},
    "bdev_delay_create": lambda w: {"name": w.new("D"), "base_bdev_name": w.bdev(), **w.latencies(), **w.uuid()},
    "bdev_delay_delete": lambda w: {"name": w.bdev("delay")},
    "bdev_delay_update_latency": lambda w: {
        "delay_bdev_name": w.bdev("delay"),
        "latency_us": w.chance.randrange(1000),
        "latency_type": w.chance.choice(["avg_read", "p99_write"]),
    },
    "bdev_error_create": lambda w: {"base_name": w.bdev(), **w.uuid()},
    "bdev_error_delete": lambda w: {"name": w.bdev("Error Injection Disk")},
    "bdev_raid_create": lambda w: {
        "name": w.new("R"),
        "base_bdevs": [w.bdev(MALLOC, AIO, NULL) for _each in range(2)],
        "strip_size_kb": 4,
        "raid_level": w.chance.choice(["raid0", "raid1", "concat"]),
    },
    "bdev_raid_delete": lambda w: {"name": w.bdev("Raid Volume")},
    "bdev_raid_set_options": lambda w: {"process_window_size_kb": w.chance.randrange(1, 3) * 512},
    "bdev_set_qos_limit": lambda w: {"name": w.bdev(), **w.limits()},
    "bdev_nvme_set_options": lambda w: w.some(timeout_us=10**6, bdev_retry_count=-1, multipath_opts={"min_io": 3}),
    "bdev_nvme_set_hotplug": lambda w: {"enable": w.flag(), **w.some(period_us=10**6)},
    "iscsi_create_portal_group": lambda w: {
        "tag": w.tag(),
        "portals": [w.portal() for _each in range(w.chance.randrange(1, 3))],
        **w.some(private=True, wait=True),
    },
    "iscsi_start_portal_group": lambda w: {"tag": w.tag()},
    "iscsi_delete_portal_group": lambda w: {"tag": w.tag()},
    "iscsi_portal_group_add_portals": lambda w: {"tag": w.tag(), "portals": [w.portal()]},
    "iscsi_portal_group_remove_portals": lambda w: w.old_portal(),
    "iscsi_portal_group_set_auth": lambda w: {"tag": w.tag(), **w.chance.choice([{"inherit": True}, w.chap()])},
    "iscsi_create_initiator_group": lambda w: {
        "tag": w.tag(),
        "initiators": w.chance.choice([["ALL"], ["!iqn.2026-01.a:b", "iqn.2026-01.a:c"]]),
        "netmasks": w.chance.choice([["ANY"], ["10.0.0.0/8", "[fd00::]/8", "nonsense"]]),
    },
    "iscsi_delete_initiator_group": lambda w: {"tag": w.tag()},
    "iscsi_initiator_group_add_initiators": lambda w: {
        "tag": w.tag(),
        "initiators": [f"iqn.2026-01.a:{w.new('i')}"],
        **w.some(netmasks=["192.0.2.0/24"]),
    },
    "iscsi_initiator_group_remove_initiators": lambda w: w.old_initiators(),
    "iscsi_create_auth_group": lambda w: {"tag": w.tag(), **w.some(secrets=[w.secret(), w.secret()])},
    "iscsi_delete_auth_group": lambda w: {"tag": w.tag()},
    "iscsi_auth_group_add_secret": lambda w: {"tag": w.tag(), **w.secret()},
    "iscsi_auth_group_remove_secret": lambda w: w.old_secret(),
    "iscsi_set_discovery_auth": lambda w: w.chap(),
    "iscsi_create_target_node": lambda w: w.new_node(),
    "iscsi_delete_target_node": lambda w: {"name": w.node()["name"]},
    "iscsi_target_node_add_lun": lambda w: {
        "name": w.node()["name"],
        "bdev_name": w.bdev(),
        **w.some(lun_id=w.chance.randrange(256), removable=True, readonly=True),
    },
    "iscsi_target_node_remove_lun": lambda w: w.lun(),
    "iscsi_target_node_set_lun_mask": lambda w: w.groups_of_node(),
    "iscsi_target_node_add_pg_ig_maps": lambda w: {"name": w.node()["name"], "pg_ig_maps": w.maps()},
    "iscsi_target_node_remove_pg_ig_maps": lambda w: w.old_map(),
    "iscsi_target_node_set_auth": lambda w: {"name": w.node()["name"], **w.chap()},
    "iscsi_target_node_set_redirect": lambda w: {
        **w.port_of_node(),
        **w.chance.choice([{}, {"redirect_host": "192.0.2.1", "redirect_port": "3260", **w.some(permanent=True)}]),
    },
    "iscsi_target_node_set_access_state": lambda w: {
        **w.port_of_node(),
        "access_state": w.chance.choice(["active_optimized", "active_non_optimized", "standby", "unavailable"]),
    },
    "iscsi_target_node_set_options": lambda w: {
        "name": w.node()["name"],
        **w.some(alias_name="Other", queue_depth=5, header_digest=w.flag(), data_digest=w.flag()),
    },
    "iscsi_target_node_enable": lambda w: {"name": w.node()["name"]},
    "iscsi_target_node_disable": lambda w: {"name": w.node()["name"]},
    "iscsi_enable_histogram": lambda w: {"name": w.node()["name"], "enable": w.flag()},
    "engine_apply": lambda w: w.apply(),
}
ELSEWHERE = {
    *("bdev_nvme_attach_controller", "bdev_nvme_detach_controller"),
    *("bdev_raid_add_base_bdev", "bdev_raid_remove_base_bdev"),
}
"""They want a controller on a PCI bus, or a mirror, whose rebuild is a change that nobody asks for when it ends."""


def test_every_method_that_changes_something_is_tried() -> None:
    changing = {method.name for method in all_methods() if method.mutates and State.RUNTIME in method.state}
    assert changing - ELSEWHERE == set(CHANGES)


def configuration(engine: Engine) -> Params:
    subsystems = [each["subsystem"] for each in engine.rpc("framework_get_subsystems")]
    return {name: engine.rpc("framework_get_config", name=name) for name in subsystems}


def refused(engine: Engine, name: str, params: Params) -> str | None:
    try:
        engine.rpc(name, **params)
    except RpcError as error:
        return str(error)
    return None


class Life(NamedTuple):
    engine: Engine
    succeeded: set[str]


def lived(engine: Engine, directory: Path, seed: int, names: Iterable[str]) -> Life:
    """An engine after many random changes, each of which was saved, or refused without an effect."""
    world, life = World(engine, directory, seed), Life(engine, set())
    removing = ("delete", "remove", "apply")
    weighted = [name for name in names for _time in range(1 if any(word in name for word in removing) else 3)]
    before = configuration(engine)
    for _step in range(STEPS):
        name = world.chance.choice(weighted)
        params = CHANGES[name](world)
        refusal = refused(engine, name, params)
        after = configuration(engine)
        if refusal is None:
            assert saved(engine) == after, f"{name} {params}"
            life.succeeded.add(name)
        else:
            assert after == before, f"{name} {params}: {refusal}"
        before = after
    assert "Traceback" not in engine.words()
    return life


def shown(engine: Engine) -> dict[str, Params]:
    """All objects by their names or tags."""
    return {
        f"{kind} {each[key]}": each
        for kind, key in (("bdevs", "name"), ("target_nodes", "name"), ("portal_groups", "tag"), ("auth_groups", "tag"))
        for each in engine.rpc(f"bdev_get_{kind}" if kind == "bdevs" else f"iscsi_get_{kind}")
    }


@pytest.fixture(scope="module")
def lives(launch_shared: Launch, tmp_path_factory: pytest.TempPathFactory) -> list[Life]:
    return [lived(launch_shared(state=True), tmp_path_factory.mktemp("files"), seed, CHANGES) for seed in range(2)]


def test_all_of_them_succeeded(lives: list[Life]) -> None:
    assert set(CHANGES) - lives[0].succeeded - lives[1].succeeded == set()


def test_what_is_saved_is_restored_and_loaded_as_it_was(lives: list[Life], launch: Launch, tmp_path: Path) -> None:
    for number, (engine, _succeeded) in enumerate(lives):
        before = configuration(engine)
        objects = shown(engine)
        assert configuration(engine.restart()) == before
        for kind, each in shown(engine).items():
            assert each == objects[kind]
        assert engine.rpc("engine_get_info")["unrestored"] == []
        config = tmp_path / f"{number}.json"
        config.write_bytes((engine.state_dir / "config.json").read_bytes())
        engine.stop()
        again = launch("-c", config, state=True)
        assert configuration(again) == saved(again) == before
        again.stop()
