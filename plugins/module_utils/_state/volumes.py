# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form: volumes for hosts, expanded into the bdevs, groups and target nodes of target_config."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final

from .._engine.facts import MAX_TAG
from .auth import MUTUAL, NONE, POLICIES, REQUIRED
from .names import parse_initiator
from .portals import ANY, parse_netmask
from .sizes import parse_size
from .text import Problems, listed

DEFAULT_DIRECTORY: Final = "/srv/iscsi"
_FIRST_TAG: Final = 1 << 16
"""Generated tags begin where those end that people choose."""
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?")

Variables = dict[str, list[dict[str, Any]]]


class BadVolumes(ValueError):
    """``problems`` says everything that is wrong, each with its path in the variables."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


def expand(
    volumes: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    portal_group: int = 1,
    directory: str = DEFAULT_DIRECTORY,
    taken: Collection[int] = (),
) -> Variables:
    """The options of target_config for ``volumes``, in their order. Raises BadVolumes.

    A volume has a ``name``, a ``size`` or the ``path`` of a device, ``hosts`` and ``chap``; anything else concerns its
    hosts. ``hosts`` has the ``initiator`` of each, and may have its ``addresses``, ``user``, ``secret``, ``muser`` and
    ``msecret``. All that is generated for a volume is called by its name, or by a tag which that name decides;
    ``taken`` are tags of other groups.
    """
    problems = Problems()
    _check_names(volumes, problems)
    result: Variables = {"bdevs": [], "auth_groups": [], "initiator_groups": [], "target_nodes": []}
    tag_of = tags((str(volume.get("name")) for volume in volumes), taken)
    for index, volume in enumerate(volumes):
        path, name = f"iscsi_volumes[{index}]", str(volume.get("name"))
        guests = _guests(volume, hosts, path, problems)
        chap = _policy(volume, path, problems)
        node: dict[str, Any] = {"name": name, "luns": [{"id": 0, "bdev": name}], "chap": chap}
        node["maps"] = [{"portal_group": portal_group, "initiator_group": tag_of[name]}]
        if chap != NONE:
            node["auth_group"] = tag_of[name]
            secrets = _secrets(guests, chap, f"{path}.chap", problems)
            result["auth_groups"].append({"tag": tag_of[name], "secrets": secrets})
        result["bdevs"].append(_bdev(volume, name, directory, path, problems))
        result["initiator_groups"].append({"tag": tag_of[name], **_admitted(guests, problems)})
        result["target_nodes"].append(node)
    if problems:
        raise BadVolumes(list(dict.fromkeys(problems)))
    return result


def tags(names: Iterable[str], taken: Collection[int] = (), most: int = MAX_TAG - _FIRST_TAG) -> dict[str, int]:
    """Name -> tag, whatever the order of the names. One more name changes no other's tag, short of a collision.

    Of two names that collide, which is one pair in two thousand million, the first in the alphabet has the tag.
    """
    result: dict[str, int] = {}
    used = set(taken)
    for name in sorted(set(names)):
        attempt = 0
        while name not in result:
            digest = hashlib.sha256(f"{name}/{attempt}".encode()).digest()
            tag = _FIRST_TAG + int.from_bytes(digest[:8], "big") % most
            if tag not in used:
                result[name] = tag
                used.add(tag)
            attempt += 1
    return result


def _check_names(volumes: Sequence[Mapping[str, Any]], problems: Problems) -> None:
    seen: dict[str, int] = {}
    for index, volume in enumerate(volumes):
        path, name = f"iscsi_volumes[{index}].name", str(volume.get("name") or "")
        if not _NAME.fullmatch(name):
            problems.note(path, f"{name!r} is no name for a volume. Use small letters, digits, '-' and '.'.")
        elif seen.setdefault(name, index) != index:
            problems.note(path, f"volume {name} is declared in iscsi_volumes[{seen[name]}] already.")


def _guests(
    volume: Mapping[str, Any], hosts: Mapping[str, Mapping[str, Any]], path: str, problems: Problems
) -> dict[str, Mapping[str, Any]]:
    """The hosts of a volume that are known."""
    names = volume.get("hosts") or []
    if not names or isinstance(names, str):
        problems.note(f"{path}.hosts", "name at least one host, in a list.")
        return {}
    for index, name in enumerate(names):
        if name not in hosts:
            known = listed(sorted(map(str, hosts)))
            problems.note(f"{path}.hosts[{index}]", f"no host named {name}. Known hosts: {known}.")
    return {str(name): hosts[name] for name in names if name in hosts}


def _policy(volume: Mapping[str, Any], path: str, problems: Problems) -> str:
    """``chap`` as a policy; true asks for it."""
    chap = volume.get("chap", False)
    policy = {"True": REQUIRED, "False": NONE}.get(str(chap), str(chap))
    if policy not in POLICIES:
        problems.note(f"{path}.chap", f"{chap!r} is none of true, false, {', '.join(POLICIES)}.")
        return NONE
    return policy


def _bdev(volume: Mapping[str, Any], name: str, directory: str, path: str, problems: Problems) -> dict[str, Any]:
    file, size = volume.get("path") or f"{directory}/{name}.img", volume.get("size")
    if size is None and not str(file).startswith("/dev/"):
        problems.note(f"{path}.size", f"volume {name} needs a size, or the path of a device.")
    elif size is not None:
        try:
            parse_size(str(size))
        except ValueError as error:
            problems.note(f"{path}.size", str(error))
    bdev = {"name": name, "type": "aio", "path": str(file)}
    return bdev if size is None else {**bdev, "size": str(size)}


def _admitted(guests: Mapping[str, Mapping[str, Any]], problems: Problems) -> dict[str, list[str]]:
    """Who may come, and from where: from anywhere as soon as one host's addresses are not known."""
    initiators, netmasks = [], []
    for name, host in guests.items():
        try:
            initiators.append(parse_initiator(str(host.get("initiator") or "")))
        except ValueError as error:
            problems.note(f"hosts.{name}.initiator", str(error))
        addresses = host.get("addresses") or [ANY]
        for index, address in enumerate(addresses):
            try:
                netmasks.append(parse_netmask(str(address)))
            except ValueError as error:
                problems.note(f"hosts.{name}.addresses[{index}]", str(error))
    netmasks = [ANY] if ANY in netmasks else netmasks
    return {"initiators": list(dict.fromkeys(initiators)), "netmasks": list(dict.fromkeys(netmasks))}


def _secrets(guests: Mapping[str, Mapping[str, Any]], chap: str, path: str, problems: Problems) -> list[dict[str, Any]]:
    """One entry for every user; no message repeats a secret."""
    options = ("user", "secret", "muser", "msecret")
    needed = options if chap == MUTUAL else options[:2]
    secrets: dict[str, dict[str, Any]] = {}
    for name, host in guests.items():
        missing = [option for option in needed if not host.get(option)]
        if missing:
            problems.note(path, f"host {name} needs {' and '.join(missing)} for chap {chap}.")
            continue
        secret = {option: str(host[option]) for option in options if host.get(option)}
        if secrets.setdefault(secret["user"], secret) != secret:
            problems.note(path, f"host {name} has the user {secret['user']} of another host, but not its secrets.")
    return list(secrets.values())
