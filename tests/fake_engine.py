# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine in memory that answers SPDK's JSON-RPC and refuses what an engine refuses.

It is strict where others let things pass: what is in use is not removed, and nothing is done twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from typing import Any

import spdk_limits
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call, CallError

NODE_BASE = "iqn.2016-06.io.spdk"
EXTENSIONS = [
    "bdev_aio_create.size",
    "bdev_aio_create.sparse",
    "bdev_aio_delete.remove_file",
    "bdev_aio_resize",
    "iscsi_create_target_node.luns.initiator_groups",
    "iscsi_create_target_node.luns.readonly",
    "iscsi_create_target_node.luns.removable",
    "iscsi_get_portal_groups.chap_group",
    "iscsi_get_target_nodes.disabled",
    "iscsi_get_target_nodes.redirects",
    "iscsi_portal_group_set_auth.inherit",
    "iscsi_target_node_set_lun_mask",
]
ONLY_BUILTIN = tuple(spdk_limits.METHODS - {"engine_apply", "iscsi_get_masked_auth_groups"})
ONLY_SPDK = ("bdev_split_", "bdev_delay_", "bdev_error_", "bdev_passthru_", "bdev_raid_", "bdev_rbd_", "bdev_uring_")
LATENCIES = ("avg_read_latency", "p99_read_latency", "avg_write_latency", "p99_write_latency")
STARTUP = frozenset(("rpc_get_methods", "spdk_get_version", "iscsi_set_options", "framework_start_init"))
LEGAL_CHAP = frozenset(((False, False, False), (True, False, False), (False, True, False), (False, True, True)))
QOS = ("rw_ios_per_sec", "rw_mbytes_per_sec", "r_mbytes_per_sec", "w_mbytes_per_sec")
AUTO = {"disable_chap": False, "require_chap": False, "mutual_chap": False, "chap_group": 0}

Entries = dict[Any, dict[str, Any]]


class Refusal(Exception):
    """What the engine answers instead of a result."""


def _need(condition: object, why: str) -> None:
    if not condition:
        raise Refusal(why)


class FakeEngine:
    """State and methods of an engine; ``written`` lists the calls that may have changed something.

    ``waiting`` is an engine that has not started yet, ``discreet`` one that does not show secrets.
    ``slots`` are the NVMe devices of its host: PCI address and number of namespaces; ``images`` are those of a Ceph
    cluster: pool, name and size.
    """

    def __init__(self, *, builtin: bool = True, waiting: bool = False, discreet: bool = False) -> None:
        self.builtin = builtin
        self.waiting = waiting
        self.discreet = discreet
        self.options: dict[str, Any] = {"node_base": NODE_BASE, "max_queue_depth": 64, "max_sessions": 128, **AUTO}
        self.options_set = False
        self.auth_groups: dict[int, dict[str, dict[str, Any]]] = {}
        self.bdevs: Entries = {}
        self.files: dict[str, int] = {}
        self.slots: dict[str, int] = {}
        self.images: dict[tuple[str, str], int] = {}
        self.made_of: dict[str, tuple[str, ...]] = {}
        self.controllers: dict[str, str] = {}
        self.portal_groups: Entries = {}
        self.initiator_groups: Entries = {}
        self.nodes: Entries = {}
        self.connections: list[dict[str, Any]] = []
        self.written: list[Call] = []
        self.sent: list[Call] = []
        self.fail_at: Callable[[Call], bool] = lambda _call: False

    # -- the client's side

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        result = self._answer(Call(method, params))
        if isinstance(result, CallError):
            raise result
        return result

    def call_batch(self, calls: Sequence[Call]) -> list[Any]:
        return [self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Any:
        self.sent.append(call)
        if "_get_" not in call.method:
            self.written.append(call)
        if self.waiting and call.method not in STARTUP:
            return CallError(-1, "Method may only be called after framework is initialized", call.method)
        try:
            _need(not self.fail_at(call), "told to fail")
            _need(call.method in self.do_rpc_get_methods(), "Method not found")
            handler: Callable[..., Any] = getattr(self, f"do_{call.method}")
            return handler(**(call.params or {}))
        except Refusal as refusal:
            return CallError(-32602, str(refusal), call.method)

    # -- what it is

    def do_rpc_get_methods(self) -> list[str]:
        methods = [name[len("do_") :] for name in dir(self) if name.startswith("do_")]
        others = ONLY_SPDK if self.builtin else ONLY_BUILTIN
        return [method for method in methods if not method.startswith(others)]

    def do_engine_get_info(self) -> dict[str, Any]:
        return {"name": "openlun-iscsi", "version": "0.1.0", "extensions": EXTENSIONS}

    def do_spdk_get_version(self) -> dict[str, Any]:
        return {"version": "SPDK v26.05", "fields": {"major": 26, "minor": 5, "patch": 0, "suffix": ""}}

    def do_iscsi_get_options(self) -> dict[str, Any]:
        return dict(self.options)

    def do_iscsi_set_options(self, **options: Any) -> bool:
        _need(self.waiting, "wrong state")
        _need(not self.options_set, "Must not call more than once")
        self.options_set = True
        self.options.update(options)
        return True

    def do_framework_start_init(self) -> bool:
        _need(self.waiting, "wrong state")
        self.waiting = False
        return True

    def do_iscsi_get_connections(self) -> list[dict[str, Any]]:
        return self.connections

    # -- bdevs

    def do_bdev_get_bdevs(self) -> list[dict[str, Any]]:
        return list(self.bdevs.values())

    def _add_bdev(
        self, name: str, product: str, size: int, block_size: int, ident: str | None, **specific: dict[str, Any]
    ) -> str:
        _need(name not in self.bdevs, f"bdev {name} exists")
        _need(size > 0, "no size")
        _need(size % block_size == 0, "odd size")
        ident = ident or str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}{len(self.written)}"))
        _need(all(each["uuid"] != ident for each in self.bdevs.values()), f"uuid {ident} exists")
        self.bdevs[name] = {
            "name": name,
            "product_name": product,
            "block_size": block_size,
            "num_blocks": size // block_size,
            "uuid": ident,
            "claimed": False,
            "driver_specific": specific,
            "assigned_rate_limits": dict.fromkeys(QOS, 0),
        }
        return name

    def _claim(self, user: str, *bases: str) -> dict[str, Any]:
        """The first of the bdevs that ``user`` is made of, which nobody else may use."""
        for base in bases:
            _need(base in self.bdevs, f"no bdev {base}")
            _need(not self.bdevs[base]["claimed"], f"bdev {base} is claimed")
            users = [node for node in self.nodes.values() if any(lun["bdev_name"] == base for lun in node["luns"])]
            _need(not users, f"bdev {base} is served")
        for base in bases:
            self.bdevs[base]["claimed"] = True
        self.made_of[user] = bases
        return self.bdevs[bases[0]]

    def _release(self, user: str) -> None:
        for base in self.made_of.pop(user, ()):
            self.bdevs[base]["claimed"] = False

    def _on_bases(self, name: str, product: str, ident: str | None, *bases: str, **specific: dict[str, Any]) -> str:
        _need(name not in self.bdevs, f"bdev {name} exists")
        base = self._claim(name, *bases)
        return self._add_bdev(
            name, product, base["num_blocks"] * base["block_size"], base["block_size"], ident, **specific
        )

    def do_bdev_malloc_create(self, name: str, num_blocks: int, block_size: int, uuid: str | None = None) -> str:
        return self._add_bdev(name, "Malloc disk", num_blocks * block_size, block_size, uuid)

    def do_bdev_null_create(self, name: str, num_blocks: int, block_size: int, uuid: str | None = None) -> str:
        return self._add_bdev(name, "Null disk", num_blocks * block_size, block_size, uuid)

    def do_bdev_null_resize(self, name: str, new_size: int) -> bool:
        bdev = self.bdevs[name]
        blocks = (new_size << 20) // bdev["block_size"]
        _need(blocks > bdev["num_blocks"], "does not grow")
        bdev["num_blocks"] = blocks
        return True

    def do_bdev_null_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "Null disk")

    def do_bdev_set_qos_limit(self, name: str, **limits: int) -> bool:
        _need(
            limits and set(limits) <= set(QOS) and limits.get("rw_ios_per_sec", 0) % 1000 == 0, f"odd limits {limits}"
        )
        self.bdevs[name]["assigned_rate_limits"].update(limits)
        return True

    def do_bdev_nvme_get_controllers(self) -> list[dict[str, Any]]:
        return [
            {"name": name, "ctrlrs": [{"state": "enabled", "trid": {"trtype": "PCIe", "traddr": address}}]}
            for name, address in self.controllers.items()
        ]

    def do_bdev_nvme_attach_controller(self, name: str, trtype: str, traddr: str) -> list[str]:
        _need(trtype == "PCIe" and traddr in self.slots, f"nothing at {traddr}")
        _need(name not in self.controllers and traddr not in self.controllers.values(), f"{name} is attached")
        self.controllers[name] = traddr
        names = [f"{name}n{number}" for number in range(1, self.slots[traddr] + 1)]
        return [self._add_bdev(each, "NVMe disk", 1 << 30, 512, None) for each in names]

    def do_bdev_nvme_detach_controller(self, name: str) -> bool:
        address = self.controllers.pop(name)
        for number in range(1, self.slots[address] + 1):
            self._delete_bdev(f"{name}n{number}", "NVMe disk")
        return True

    def do_bdev_aio_create(
        self,
        name: str,
        filename: str,
        block_size: int = 512,
        readonly: bool = False,
        uuid: str | None = None,
        size: int | None = None,
        sparse: bool = False,
    ) -> str:
        _need(self.builtin or (size is None and not sparse), "unknown parameter")
        self._need_free(filename)
        _need(size is not None or filename in self.files, f"no file {filename}")
        _need(size is None or size >= self.files.get(filename, 0), f"{filename} is larger")
        added = self._add_bdev(
            name,
            "AIO disk",
            size or self.files[filename],
            block_size,
            uuid,
            aio={"filename": filename, "readonly": readonly},
        )
        self.files[filename] = size or self.files[filename]
        return added

    def _need_free(self, filename: str) -> None:
        details = [each["driver_specific"] for each in self.bdevs.values()]
        in_use = [each.get(kind, {}).get("filename") for each in details for kind in ("aio", "uring")]
        _need(filename not in in_use, f"{filename} is in use")

    def do_bdev_uring_create(self, name: str, filename: str, block_size: int = 512, uuid: str | None = None) -> str:
        self._need_free(filename)
        _need(filename in self.files, f"no file {filename}")
        return self._add_bdev(name, "URING bdev", self.files[filename], block_size, uuid, uring={"filename": filename})

    def do_bdev_uring_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "URING bdev")

    def do_bdev_aio_resize(self, name: str, size: int) -> bool:
        _need(self.builtin, "Method not found")
        bdev = self.bdevs[name]
        _need(size > bdev["num_blocks"] * bdev["block_size"], "does not grow")
        bdev["num_blocks"] = size // bdev["block_size"]
        self.files[bdev["driver_specific"]["aio"]["filename"]] = size
        return True

    def _delete_bdev(self, name: str, product: str) -> bool:
        _need(name in self.bdevs, f"no bdev {name}")
        _need(self.bdevs[name]["product_name"] == product, "another module's bdev")
        users = [node["name"] for node in self.nodes.values() if any(lun["bdev_name"] == name for lun in node["luns"])]
        _need(not users, f"bdev {name} is served by {users}")
        _need(not self.bdevs[name]["claimed"], f"bdev {name} is claimed")
        del self.bdevs[name]
        self._release(name)
        return True

    def do_bdev_malloc_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "Malloc disk")

    def do_bdev_aio_delete(self, name: str, remove_file: bool = False) -> bool:
        _need(self.builtin or not remove_file, "unknown parameter")
        bdev = self.bdevs.get(name)
        deleted = self._delete_bdev(name, "AIO disk")
        if bdev is not None and remove_file:
            del self.files[bdev["driver_specific"]["aio"]["filename"]]
        return deleted

    def do_bdev_split_create(self, base_bdev: str, split_count: int, split_size_mb: int | None = None) -> list[str]:
        split = f"{base_bdev}p"
        _need(split not in self.made_of, f"{base_bdev} is split")
        base = self._claim(split, base_bdev)
        blocks = base["num_blocks"] // split_count
        if split_size_mb is not None:
            blocks = (split_size_mb << 20) // base["block_size"]
        size = blocks * base["block_size"]
        count = min(split_count, base["num_blocks"] // blocks)
        details = [{"base_bdev": base_bdev, "offset_blocks": number * blocks} for number in range(count)]
        return [
            self._add_bdev(f"{split}{number}", "Split Disk", size, base["block_size"], None, split=each)
            for number, each in enumerate(details)
        ]

    def do_bdev_split_delete(self, base_bdev: str) -> bool:
        _need(f"{base_bdev}p" in self.made_of, f"{base_bdev} is not split")
        for name, each in list(self.bdevs.items()):
            if each["driver_specific"].get("split", {}).get("base_bdev") == base_bdev:
                self._delete_bdev(name, "Split Disk")
        self._release(f"{base_bdev}p")
        return True

    def do_bdev_delay_create(self, name: str, base_bdev_name: str, uuid: str | None = None, **latencies: int) -> str:
        _need(set(latencies) == set(LATENCIES), f"odd latencies {latencies}")
        _need(latencies[LATENCIES[0]] <= latencies[LATENCIES[1]], "p99 is less than the average")
        _need(latencies[LATENCIES[2]] <= latencies[LATENCIES[3]], "p99 is less than the average")
        delay = {"name": name, "base_bdev_name": base_bdev_name, **latencies}
        return self._on_bases(name, "delay", uuid, base_bdev_name, delay=delay)

    def do_bdev_delay_update_latency(self, delay_bdev_name: str, latency_type: str, latency_us: int) -> bool:
        delay = self.bdevs[delay_bdev_name]["driver_specific"]["delay"]
        _need(f"{latency_type}_latency" in delay, f"odd latency {latency_type}")
        delay[f"{latency_type}_latency"] = latency_us
        return True

    def do_bdev_delay_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "delay")

    def do_bdev_error_create(self, base_name: str, uuid: str | None = None) -> bool:
        error = {"base_bdev": base_name}
        return bool(self._on_bases(f"EE_{base_name}", "Error Injection Disk", uuid, base_name, error_disk=error))

    def do_bdev_error_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "Error Injection Disk")

    def do_bdev_passthru_create(self, name: str, base_bdev_name: str, uuid: str | None = None) -> str:
        details = {"name": name, "base_bdev_name": base_bdev_name}
        return self._on_bases(name, "passthru", uuid, base_bdev_name, passthru=details)

    def do_bdev_passthru_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "passthru")

    def do_bdev_raid_create(
        self, name: str, raid_level: str, base_bdevs: list[str], strip_size_kb: int = 0, uuid: str | None = None
    ) -> bool:
        _need((strip_size_kb == 0) == (raid_level == "raid1"), f"strips of {strip_size_kb} in a {raid_level}")
        _need(len(base_bdevs) >= (2 if raid_level == "raid1" else 1), "not enough disks")
        _need(
            len({self.bdevs[each]["block_size"] for each in base_bdevs if each in self.bdevs}) == 1, "odd block sizes"
        )
        disks = [{"name": each, "is_configured": True} for each in base_bdevs]
        details = {"strip_size_kb": strip_size_kb, "raid_level": raid_level, "base_bdevs_list": disks}
        return bool(self._on_bases(name, "Raid Volume", uuid, *base_bdevs, raid=details))

    def do_bdev_raid_add_base_bdev(self, raid_bdev: str, base_bdev: str) -> bool:
        raid = self.bdevs[raid_bdev]["driver_specific"]["raid"]
        _need(raid["raid_level"] == "raid1" and "process" not in raid, "no mirror, or one that is rebuilt")
        place = next((each for each in raid["base_bdevs_list"] if each["name"] is None), None)
        _need(place is not None, f"no empty slot in {raid_bdev}")
        bases = self.made_of[raid_bdev]
        self._claim(raid_bdev, base_bdev)
        self.made_of[raid_bdev] = (*bases, base_bdev)
        raid["base_bdevs_list"].remove(place)
        raid["base_bdevs_list"].append({"name": base_bdev, "is_configured": True})
        return True

    def do_bdev_raid_remove_base_bdev(self, name: str) -> bool:
        [user] = [user for user, bases in self.made_of.items() if name in bases]
        raid = self.bdevs[user]["driver_specific"]["raid"]
        _need(raid["raid_level"] == "raid1" and len(self.made_of[user]) > 1, f"{user} needs {name}")
        raid["base_bdevs_list"] = [each for each in raid["base_bdevs_list"] if each["name"] != name]
        raid["base_bdevs_list"].append({"name": None, "is_configured": False})
        self.made_of[user] = tuple(base for base in self.made_of[user] if base != name)
        self.bdevs[name]["claimed"] = False
        return True

    def do_bdev_raid_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "Raid Volume")

    def do_bdev_rbd_create(
        self,
        name: str,
        pool_name: str,
        rbd_name: str,
        block_size: int,
        user_id: str | None = None,
        cluster_name: str | None = None,
        uuid: str | None = None,
    ) -> str:
        _need((pool_name, rbd_name) in self.images, f"no image {pool_name}/{rbd_name}")
        _need(user_id is None or cluster_name is None, "a cluster has its own user")
        given = {"user_id": user_id, "cluster_name": cluster_name}
        details = {"pool_name": pool_name, "rbd_name": rbd_name, **{key: each for key, each in given.items() if each}}
        size = self.images[pool_name, rbd_name]
        return self._add_bdev(name, "Ceph Rbd Disk", size, block_size, uuid, rbd=details)

    def do_bdev_rbd_delete(self, name: str) -> bool:
        return self._delete_bdev(name, "Ceph Rbd Disk")

    # -- authentication

    def do_iscsi_get_auth_groups(self) -> list[dict[str, Any]]:
        shown = {"secret": "****", "msecret": "****"} if self.discreet else {}
        return [
            {
                "tag": tag,
                "secrets": [{**each, **{key: shown[key] for key in shown if key in each}} for each in group.values()],
            }
            for tag, group in self.auth_groups.items()
        ]

    def do_iscsi_create_auth_group(self, tag: int, secrets: Sequence[dict[str, Any]] = ()) -> bool:
        _need(tag not in self.auth_groups, f"auth group {tag} exists")
        _need(len(secrets) <= 64, "too many secrets")
        self.auth_groups[tag] = {}
        for secret in secrets:
            self.do_iscsi_auth_group_add_secret(tag, **secret)
        return True

    def do_iscsi_delete_auth_group(self, tag: int) -> bool:
        _need(tag in self.auth_groups, f"no auth group {tag}")
        users = [name for name, node in self.nodes.items() if node["chap_group"] == tag]
        groups = [each["tag"] for each in self.portal_groups.values() if each.get("chap_group") == tag]
        _need(not users and not groups and self.options["chap_group"] != tag, f"auth group {tag} is used by {users}")
        del self.auth_groups[tag]
        return True

    def do_iscsi_auth_group_add_secret(self, tag: int, **secret: Any) -> bool:
        _need(secret["user"] not in self.auth_groups[tag], f"user {secret['user']} exists")
        _need(set(secret["secret"]) != {"*"} and ("muser" in secret) == ("msecret" in secret), f"odd secret {secret}")
        self.auth_groups[tag][secret["user"]] = secret
        return True

    def do_iscsi_auth_group_remove_secret(self, tag: int, user: str) -> bool:
        _need(self.auth_groups[tag].pop(user, None), f"no user {user}")
        return True

    def _check_auth(self, auth: dict[str, Any]) -> None:
        _need(tuple(auth[key] for key in ("disable_chap", "require_chap", "mutual_chap")) in LEGAL_CHAP, "bad CHAP")
        _need(auth["chap_group"] in (0, *self.auth_groups), f"no auth group {auth['chap_group']}")

    def do_iscsi_set_discovery_auth(self, **auth: Any) -> bool:
        self._check_auth(auth)
        self.options.update(auth)
        return True

    def do_iscsi_portal_group_set_auth(self, tag: int, inherit: bool = False, **auth: Any) -> bool:
        _need(not inherit or (self.builtin and not auth), "unknown parameter")
        group = self.portal_groups[tag]
        for key in AUTO:
            group.pop(key, None)
        if not inherit:
            self._check_auth(auth)
            group.update(auth)
        return True

    # -- groups

    def do_iscsi_get_portal_groups(self) -> list[dict[str, Any]]:
        return list(self.portal_groups.values())

    def do_iscsi_create_portal_group(self, tag: int, portals: list[dict[str, str]], private: bool = False) -> bool:
        _need(tag not in self.portal_groups, f"portal group {tag} exists")
        taken = [portal for group in self.portal_groups.values() for portal in group["portals"]]
        _need(portals and not any(portal in taken for portal in portals), "portal in use")
        self.portal_groups[tag] = {"tag": tag, "portals": portals, "private": private}
        return True

    def do_iscsi_portal_group_add_portals(self, tag: int, portals: list[dict[str, str]]) -> bool:
        taken = [portal for group in self.portal_groups.values() for portal in group["portals"]]
        _need(portals and not any(portal in taken for portal in portals), "portal in use")
        for node in self.nodes.values():
            _need(not any(self._goes_to(each, tag, portals) for each in node["redirects"]), "a circle")
        self.portal_groups[tag]["portals"] = [*self.portal_groups[tag]["portals"], *portals]
        return True

    def _goes_to(self, redirect: dict[str, Any], tag: int, portals: list[dict[str, str]]) -> bool:
        address = {"host": redirect["redirect_host"], "port": redirect["redirect_port"]}
        return bool(
            redirect["pg_tag"] == tag and address in [{**each, "host": each["host"].strip("[]")} for each in portals]
        )

    def do_iscsi_portal_group_remove_portals(self, tag: int, portals: list[dict[str, str]]) -> bool:
        group = self.portal_groups[tag]
        _need(portals and all(portal in group["portals"] for portal in portals), "no such portal")
        left = [portal for portal in group["portals"] if portal not in portals]
        _need(left, "the group would have no portal")
        group["portals"] = left
        return True

    def do_iscsi_delete_portal_group(self, tag: int) -> bool:
        _need(self.portal_groups.pop(tag, None), f"no portal group {tag}")
        self._drop_maps("pg_tag", tag)
        return True

    def do_iscsi_get_initiator_groups(self) -> list[dict[str, Any]]:
        return list(self.initiator_groups.values())

    def do_iscsi_create_initiator_group(self, tag: int, initiators: list[str], netmasks: list[str]) -> bool:
        _need(tag not in self.initiator_groups, f"initiator group {tag} exists")
        _need(initiators and netmasks, "empty group")
        self.initiator_groups[tag] = {"tag": tag, "initiators": list(initiators), "netmasks": list(netmasks)}
        return True

    def do_iscsi_initiator_group_add_initiators(self, tag: int, **lists: list[str]) -> bool:
        for name, entries in lists.items():
            live = self.initiator_groups[tag][name]
            _need(not set(entries) & set(live), "entry exists")
            live += entries
        return True

    def do_iscsi_initiator_group_remove_initiators(self, tag: int, **lists: list[str]) -> bool:
        for name, entries in lists.items():
            live = self.initiator_groups[tag][name]
            _need(set(entries) <= set(live), "no such entry")
            _need(len(entries) < len(live), "the group would be empty")
            self.initiator_groups[tag][name] = [entry for entry in live if entry not in entries]
        return True

    def do_iscsi_delete_initiator_group(self, tag: int) -> bool:
        _need(self.initiator_groups.pop(tag, None), f"no initiator group {tag}")
        masks = [lun.get("initiator_groups", ()) for node in self.nodes.values() for lun in node["luns"]]
        _need(not any(tag in mask for mask in masks), f"initiator group {tag} is in a mask")
        self._drop_maps("ig_tag", tag)
        return True

    def _drop_maps(self, key: str, tag: int) -> None:
        for node in self.nodes.values():
            self._set_maps(node, [each for each in node["pg_ig_maps"] if each[key] != tag])

    def _set_maps(self, node: dict[str, Any], maps: list[dict[str, int]]) -> None:
        """A redirect goes with the last map of its portal group."""
        node["pg_ig_maps"] = maps
        mapped = {each["pg_tag"] for each in maps}
        node["redirects"] = [each for each in node["redirects"] if each["pg_tag"] in mapped]

    # -- target nodes

    def do_iscsi_get_target_nodes(self) -> list[dict[str, Any]]:
        hidden = () if self.builtin else ("redirects",)
        return [{key: value for key, value in node.items() if key not in hidden} for node in self.nodes.values()]

    def _sessions(self, name: str) -> list[dict[str, Any]]:
        return [each for each in self.connections if each["target_node_name"] == name.partition(":")[2]]

    def do_iscsi_create_target_node(self, name: str, luns: Any, pg_ig_maps: Any, alias_name: str, **rest: Any) -> bool:
        _need(name not in self.nodes, f"node {name} exists")
        _need(any(lun["lun_id"] == 0 for lun in luns) and pg_ig_maps, "incomplete")
        _need(self.builtin or not any("readonly" in lun or "removable" in lun for lun in luns), "unknown parameter")
        self._check_auth(rest)
        node = {"name": name, "luns": [], "pg_ig_maps": [], "redirects": [], **rest}
        for lun in luns:
            self._add_lun(node, lun)
        self._add_maps(node, pg_ig_maps)
        self.nodes[name] = {**node, **({"alias_name": alias_name} if alias_name else {})}
        return True

    def do_iscsi_delete_target_node(self, name: str) -> bool:
        _need(self.nodes.pop(name, None), f"no node {name}")
        self.connections = [each for each in self.connections if each["target_node_name"] != name.partition(":")[2]]
        return True

    def _add_lun(self, node: dict[str, Any], lun: dict[str, Any]) -> None:
        _need(lun["bdev_name"] in self.bdevs, f"no bdev {lun['bdev_name']}")
        _need(not self.bdevs[lun["bdev_name"]]["claimed"], f"bdev {lun['bdev_name']} is claimed")
        _need(all(each["lun_id"] != lun["lun_id"] for each in node["luns"]), "LUN taken")
        self._check_mask(lun.get("initiator_groups", ()))
        node["luns"].append(dict(lun))

    def _lun(self, name: str, lun_id: int) -> dict[str, Any]:
        found: list[dict[str, Any]] = [each for each in self.nodes[name]["luns"] if each["lun_id"] == lun_id]
        _need(found, f"no LUN {lun_id}")
        return found[0]

    def _check_mask(self, tags: Sequence[int]) -> None:
        _need(self.builtin or not tags, "unknown parameter")
        _need(all(tag in self.initiator_groups for tag in tags), f"no initiator group among {tags}")

    def do_iscsi_target_node_set_lun_mask(self, name: str, lun_id: int, initiator_groups: list[int]) -> bool:
        _need(self.builtin, "Method not found")
        self._check_mask(initiator_groups)
        lun = self._lun(name, lun_id)
        lun.pop("initiator_groups", None)
        if initiator_groups:
            lun["initiator_groups"] = initiator_groups
        return True

    def do_iscsi_target_node_add_lun(self, name: str, bdev_name: str, lun_id: int, **flags: bool) -> bool:
        _need(self.builtin or not self._sessions(name), "the target has connections")
        _need(self.builtin or not flags, "unknown parameter")
        self._add_lun(self.nodes[name], {"bdev_name": bdev_name, "lun_id": lun_id, **flags})
        return True

    def do_iscsi_target_node_remove_lun(self, name: str, lun_id: int) -> bool:
        lun = self._lun(name, lun_id)
        self.nodes[name]["luns"].remove(lun)
        return True

    def do_iscsi_target_node_set_options(self, name: str, **options: Any) -> bool:
        _need(set(options) <= {"alias_name", "queue_depth", "header_digest", "data_digest"}, f"odd options {options}")
        self.nodes[name].update(options)
        return True

    def do_iscsi_target_node_disable(self, name: str) -> bool:
        self.nodes[name]["disabled"] = True
        self.connections = [each for each in self.connections if each["target_node_name"] != name.partition(":")[2]]
        return True

    def do_iscsi_target_node_enable(self, name: str) -> bool:
        _need(self.nodes[name].pop("disabled", False), "not disabled")
        return True

    def _add_maps(self, node: dict[str, Any], maps: list[dict[str, int]]) -> None:
        for each in maps:
            _need(each["pg_tag"] in self.portal_groups, f"no portal group {each['pg_tag']}")
            _need(each["ig_tag"] in self.initiator_groups, f"no initiator group {each['ig_tag']}")
            _need(each not in node["pg_ig_maps"], "map exists")
            node["pg_ig_maps"].append(each)

    def do_iscsi_target_node_add_pg_ig_maps(self, name: str, pg_ig_maps: list[dict[str, int]]) -> bool:
        self._add_maps(self.nodes[name], pg_ig_maps)
        return True

    def do_iscsi_target_node_remove_pg_ig_maps(self, name: str, pg_ig_maps: list[dict[str, int]]) -> bool:
        node = self.nodes[name]
        for each in pg_ig_maps:
            _need(each in node["pg_ig_maps"], "no such map")
            self._set_maps(node, [other for other in node["pg_ig_maps"] if other != each])
        return True

    def do_iscsi_target_node_set_auth(self, name: str, **auth: Any) -> bool:
        self._check_auth(auth)
        self.nodes[name].update(auth)
        return True

    def do_iscsi_target_node_set_redirect(self, name: str, pg_tag: int, **where: Any) -> bool:
        node, group = self.nodes[name], self.portal_groups.get(pg_tag)
        _need(group is not None and not group["private"], f"no public portal group {pg_tag}")
        _need(any(each["pg_tag"] == pg_tag for each in node["pg_ig_maps"]), f"portal group {pg_tag} is not mapped")
        node["redirects"] = [each for each in node["redirects"] if each["pg_tag"] != pg_tag]
        if where:
            node["redirects"].append({"pg_tag": pg_tag, **where})
        return True

    # -- what tests do to it

    def log_in(self, node: str, *, initiator: str = "iqn.2020-01.test:host", address: str = "10.0.0.7") -> None:
        """A session of ``initiator`` with the node of that short name, by the portal 10.0.0.1."""
        session = {"tsih": len(self.connections) + 1, "target_node_name": node, "initiator_addr": address}
        extra = {"initiator_name": initiator} if self.builtin else {}
        self.connections.append({**session, "target_addr": "10.0.0.1", **extra})
