# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host is to be logged in to, from the variables of the hosts that serve volumes for it. Pure."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, Final

from .._engine.facts import DEFAULT_NODE_BASE
from .._state.auth import MUTUAL, NONE
from .._state.names import full_name
from .._state.portals import WILDCARD_HOSTS, parse_portal
from .options import SESSION

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

_DEFAULT_PORTALS: Final = ("*:3260",)
_ONE_WAY: Final = ("user", "secret")
_BOTH_WAYS: Final = (*_ONE_WAY, "muser", "msecret")
_MOUNT_KEYS: Final = frozenset(("lun", "filesystem", "mkfs_options", "path", "options"))
_POLICIES: Final = {"True": "required", "False": NONE}


class Derived:
    """``targets`` as the role declares them, hosts of which more has to be known (``strangers``), and ``problems``."""

    def __init__(self) -> None:
        self.targets: dict[str, dict[str, Any]] = {}
        self.strangers: list[str] = []
        self.problems: list[str] = []

    def told(self, defaults: Mapping[str, Any]) -> dict[str, Any]:
        targets = {name: {**defaults, **target} for name, target in self.targets.items()}
        mounts = [(name, mount) for name, target in targets.items() for mount in target.get("mounts") or []]
        return {
            "targets": targets,
            "mounts": [
                {
                    **mount,
                    "target": name,
                    "state": "present" if targets[name].get("state", "present") == "present" else "absent",
                }
                for name, mount in mounts
            ],
            "strangers": self.strangers,
            "problems": self.problems,
        }


def derive(
    hostvars: Mapping[str, Any],
    host: str,
    storage: Sequence[str],
    declared: Sequence[Mapping[str, Any]] = (),
    defaults: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """What ``host`` is to be logged in to: the volumes of the ``storage`` hosts that are for it, and what is declared.

    A declared target with the name of a volume's changes what the volume says. ``defaults`` are the options of those
    that do not say otherwise. No problem repeats a secret.
    """
    result = Derived()
    served: dict[str, str] = {}
    sharing: dict[str, None] = {}
    for name in storage:
        if name not in hostvars:
            result.problems.append(f"host {name}: is to serve volumes, but the inventory has no such host.")
            continue
        sharing.update((str(each), None) for volume in _declared(hostvars[name]) for each in volume.get("hosts") or ())
        for target in _volumes(hostvars[name], name, host, hostvars[host], result):
            other = served.setdefault(target["target"], name)
            if other != name:
                result.problems.append(
                    f"target {target['target']}: both {other} and {name} serve it. Declare iscsi_volumes for each "
                    "target host by itself, or give one of them another node_base."
                )
            result.targets[target["target"]] = target
    for index, each in enumerate(declared):
        _declare(each, f"iscsi_initiator_targets[{index}]", result)
    _check_name(hostvars, host, sharing, result)
    return result.told(defaults or {})


def _declare(given: Mapping[str, Any], path: str, result: Derived) -> None:
    target = str(given.get("target") or "")
    if not target:
        result.problems.append(f"{path}: has no target. Write the full name of one.")
        return
    for key in given:
        if key not in SESSION and key != "mounts":
            result.problems.append(f"{path}.{key}: a target has no such option. See openlun.iscsi.session.")
    for number, mount in enumerate(given.get("mounts") or ()):
        unknown = [key for key in mount if key not in _MOUNT_KEYS]
        if unknown:
            result.problems.append(
                f"{path}.mounts[{number}].{unknown[0]}: has no such option. See openlun.iscsi.disk_mount."
            )
    result.targets[target] = {**result.targets.get(target, {}), **given}


def _check_name(hostvars: Mapping[str, Any], host: str, sharing: Iterable[str], result: Derived) -> None:
    """Two hosts with one name take each other's sessions over."""
    own = str(hostvars[host].get("iscsi_initiator_name") or "").lower()
    for other in sharing if own else ():
        if other == host or other not in hostvars:
            continue
        if str(hostvars[other].get("iscsi_initiator_name") or "").lower() == own:
            result.problems.append(f"host {host}: has the iscsi_initiator_name of {other}, {own}. Give each its own.")


def _volumes(
    storage: Mapping[str, Any], name: str, host: str, own: Mapping[str, Any], result: Derived
) -> Iterator[dict[str, Any]]:
    volumes = [each for each in _declared(storage) if host in map(str, each.get("hosts") or ())]
    if not volumes:
        return
    portals = _portals(storage, name, result)
    base = (storage.get("iscsi_target_options") or {}).get("node_base") or DEFAULT_NODE_BASE
    for volume in volumes:
        label = str(volume.get("name"))
        target: dict[str, Any] = {"target": full_name(label, base), "portals": portals}
        if volume.get("state", "present") == "absent":
            yield {**target, "state": "absent", "mounts": _mounts(volume)}
            continue
        target["chap"] = _chap(volume, host, own, result)
        yield {**target, "luns": [0], "mounts": _mounts(volume)}


def _declared(storage: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    given = storage.get("iscsi_target_volumes")
    return (storage.get("iscsi_volumes") if given is None else given) or []


def _portals(storage: Mapping[str, Any], name: str, result: Derived) -> list[str]:
    """Portals of the volumes with the tag of their group, and addresses instead of wildcards."""
    tag = storage.get("iscsi_target_volume_portal_group", 1)
    groups = storage.get("iscsi_target_portal_groups") or []
    own = [group for group in groups if str(group.get("tag")) == str(tag)]
    portals = own[0].get("portals") if own else storage.get("iscsi_target_volume_portals") or _DEFAULT_PORTALS
    found: dict[str, None] = {}
    for text in portals or ():
        try:
            portal = parse_portal(str(text))
        except ValueError as error:
            result.problems.append(f"host {name}: {error}")
            continue
        if portal.host not in WILDCARD_HOSTS:
            found[f"{portal},{tag}"] = None
            continue
        addresses = _addresses(storage, portal.is_ipv6)
        if not addresses and name not in result.strangers:
            result.strangers.append(name)
            result.problems.append(
                f"host {name}: its portal {portal} does not say where it is reached. Set iscsi_target_addresses for "
                "that host, or gather its facts."
            )
        found.update((f"{address}:{portal.port},{tag}", None) for address in addresses)
    return list(found)


def _addresses(storage: Mapping[str, Any], ipv6: bool) -> list[str]:
    """Of a host that listens everywhere: those that are declared, or the one of its default route."""
    facts = storage.get("ansible_facts") or {}
    default = (facts.get("default_ipv6" if ipv6 else "default_ipv4") or {}).get("address")
    candidates = [storage.get("iscsi_target_addresses"), [default], [storage.get("ansible_host")]]
    for addresses in candidates:
        known = [address for address in map(_address, addresses or ()) if address and (":" in address) == ipv6]
        if known:
            return [f"[{address}]" if ipv6 else address for address in known]
    return []


def _address(text: Any) -> str | None:
    try:
        return str(ipaddress.ip_address(str(text).strip("[]")))
    except ValueError:
        return None


def _chap(volume: Mapping[str, Any], host: str, own: Mapping[str, Any], result: Derived) -> dict[str, str]:
    """What the host proves itself with, as far as the volume asks for it."""
    policy = str(volume.get("chap", False))
    policy = _POLICIES.get(policy, policy)
    if policy == NONE:
        return {}
    given = own.get("iscsi_initiator_chap") or {}
    needed = _BOTH_WAYS if policy == MUTUAL else _ONE_WAY
    missing = [name for name in needed if not given.get(name)]
    if missing:
        result.problems.append(
            f"host {host}: volume {volume.get('name')} needs {' and '.join(missing)} for chap {policy}. Set them in "
            "iscsi_initiator_chap of that host."
        )
    return {name: str(given[name]) for name in needed if given.get(name)}


def _mounts(volume: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = {"filesystem": "filesystem", "mount": "path", "mount_options": "options"}
    mount = {option: volume[key] for key, option in names.items() if volume.get(key)}
    return [{"lun": 0, **mount}] if mount else []
