# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form: volumes for hosts, expanded into the bdevs, groups and target nodes of target_config."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, NamedTuple

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
_PROOFS: Final = ("user", "secret", "muser", "msecret")
_BDEV_OPTIONS: Final = ("sparse", "readonly", "block_size")
_NODE_OPTIONS: Final = ("alias", "queue_depth")
_VOLUME_KEYS: Final = frozenset(
    ("name", "size", "path", "bdev", "hosts", "chap", "tag", "state", *_BDEV_OPTIONS, *_NODE_OPTIONS)
)
_KEYS_OF_HOSTS: Final = frozenset(("filesystem", "mount", "mount_options"))
"""What the hosts do with the volume once they have it."""
_HOST_KEYS: Final = frozenset(("initiator", "addresses", *_PROOFS))
_TO_KNOW: Final = "Set {} for that host{} or gather its facts."

Variables = dict[str, list[dict[str, Any]]]


class BadVolumes(ValueError):
    """``problems`` says everything that is wrong, each with its path in the variables."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class _Volume(NamedTuple):
    """One entry of the list: where it is, what it says, and how its objects are called."""

    path: str
    given: Mapping[str, Any]
    name: str
    tag: int


def expand(
    volumes: Sequence[Mapping[str, Any]],
    hosts: Mapping[str, Mapping[str, Any]],
    *,
    portal_group: int = 1,
    directory: str = DEFAULT_DIRECTORY,
    taken: Collection[int] = (),
) -> Variables:
    """The options of target_config for ``volumes``, in their order. Raises BadVolumes.

    A volume has a ``name`` and ``hosts``, and a ``size``, the ``path`` of a device or a ``bdev`` of somebody else.
    ``hosts`` has the ``initiator`` of each, and may have its ``addresses``, ``user``, ``secret``, ``muser`` and
    ``msecret``. All that is generated for a volume is called by its name, or by a tag which that name alone decides;
    ``taken`` are tags of other groups.
    """
    problems = Problems()
    result: Variables = {"bdevs": [], "auth_groups": [], "initiator_groups": [], "target_nodes": []}
    for volume in _named(volumes, taken, problems):
        if volume.given.get("state", "present") == "absent":
            _remove(volume, result)
        else:
            _provide(volume, hosts, portal_group, directory, result, problems)
    if problems:
        raise BadVolumes(list(dict.fromkeys(problems)))
    return result


def tag_of(name: str) -> int:
    """The tag of the groups of a volume. It depends on nothing but the name, so that no other volume changes it."""
    digest = hashlib.sha256(f"{name}/0".encode()).digest()
    return _FIRST_TAG + int.from_bytes(digest[:8], "big") % (MAX_TAG - _FIRST_TAG)


def _named(volumes: Sequence[Any], taken: Collection[int], problems: Problems) -> list[_Volume]:
    """The volumes, bad ones too, so that all of their problems are told; names and tags have to be their own."""
    found = []
    names: dict[str, str] = {}
    tags = {int(tag): "a declared group" for tag in taken}
    for index, given in enumerate(volumes):
        path = f"iscsi_volumes[{index}]"
        if not isinstance(given, Mapping):
            problems.note(path, "not a volume. Write a dictionary with a name, a size and hosts.")
            continue
        _check_keys(given, path, problems)
        name = str(given.get("name") or "")
        tag = tag_of(name)
        if not _NAME.fullmatch(name):
            problems.note(f"{path}.name", f"{name!r} is no name for a volume. Use small letters, digits, '-' and '.'.")
        elif names.setdefault(name, path) != path:
            problems.note(f"{path}.name", f"volume {name} is declared in {names[name]} already.")
        else:
            tag = _own_tag(given, name, path, tags, problems)
            tags[tag] = f"volume {name}"
        found.append(_Volume(path, given, name, tag))
    return found


def _check_keys(given: Mapping[str, Any], path: str, problems: Problems) -> None:
    known = _VOLUME_KEYS | _KEYS_OF_HOSTS
    for key in given:
        if key not in known:
            problems.note(f"{path}.{key}", f"a volume has no such option. It has {listed(sorted(known))}.")
    state = given.get("state", "present")
    if state not in ("present", "absent"):
        problems.note(f"{path}.state", f"{state!r} is neither present nor absent.")


def _own_tag(given: Mapping[str, Any], name: str, path: str, tags: Mapping[int, str], problems: Problems) -> int:
    """The tag that the volume asks for, or that its name gives. Two of 500 names share one with odds of 1 to 17,000."""
    tag = given.get("tag", tag_of(name))
    try:
        tag = int(tag)
    except (TypeError, ValueError):
        tag = 0
    if not 1 <= tag <= MAX_TAG:
        problems.note(f"{path}.tag", f"not a number from 1 to {MAX_TAG}.")
    elif tag in tags:
        problems.note(f"{path}.tag", f"{tag} is the tag of {tags[tag]}, too. Give volume {name} another one with tag.")
    return tag


def _provide(
    volume: _Volume,
    hosts: Mapping[str, Mapping[str, Any]],
    portal_group: int,
    directory: str,
    result: Variables,
    problems: Problems,
) -> None:
    given, path = volume.given, volume.path
    guests = _guests(given, hosts, path, problems)
    chap = _policy(given, path, problems)
    node: dict[str, Any] = {"name": volume.name, "luns": [{"id": 0, "bdev": str(given.get("bdev") or volume.name)}]}
    node["maps"] = [{"portal_group": portal_group, "initiator_group": volume.tag}]
    node["chap"] = chap
    if chap != NONE:
        node["auth_group"] = volume.tag
        secrets = _secrets(guests, chap, f"{path}.chap", problems)
        result["auth_groups"].append({"tag": volume.tag, "secrets": secrets})
    result["bdevs"] += _bdevs(volume, directory, problems)
    result["initiator_groups"].append({"tag": volume.tag, **_admitted(guests, problems)})
    result["target_nodes"].append({**node, **{key: given[key] for key in _NODE_OPTIONS if key in given}})


def _remove(volume: _Volume, result: Variables) -> None:
    """All that a volume is made of goes, but not its file."""
    gone = {"state": "absent"}
    if not volume.given.get("bdev"):
        result["bdevs"].append({"name": volume.name, **gone})
    for groups in ("auth_groups", "initiator_groups"):
        result[groups].append({"tag": volume.tag, **gone})
    result["target_nodes"].append({"name": volume.name, **gone})


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
        # What was given is not repeated: it may be a secret that was written in the wrong place.
        problems.note(f"{path}.chap", f"not one of true, false, {', '.join(POLICIES)}.")
        return NONE
    return policy


def _bdevs(volume: _Volume, directory: str, problems: Problems) -> list[dict[str, Any]]:
    """The bdev of a file or a device; none where the volume names one that is declared elsewhere."""
    given, path, name = volume.given, volume.path, volume.name
    if given.get("bdev"):
        for key in ("size", "path", *_BDEV_OPTIONS):
            if key in given:
                problems.note(f"{path}.{key}", f"bdev {given['bdev']} has its own. Leave one of the two out.")
        return []
    file, size = given.get("path") or f"{directory}/{name}.img", given.get("size")
    if size is None and not str(file).startswith("/dev/"):
        problems.note(f"{path}.size", f"volume {name} needs a size, the path of a device, or a bdev.")
    elif size is not None:
        try:
            parse_size(str(size))
        except ValueError as error:
            problems.note(f"{path}.size", str(error))
    bdev = {"name": name, "type": "aio", "path": str(file)}
    bdev.update((key, given[key]) for key in _BDEV_OPTIONS if key in given)
    return [bdev if size is None else {**bdev, "size": str(size)}]


def _admitted(guests: Mapping[str, Mapping[str, Any]], problems: Problems) -> dict[str, list[str]]:
    """Who may come, and from where: from anywhere as soon as one host has no ``addresses`` at all."""
    initiators, netmasks = [], []
    for name, host in guests.items():
        for key in host:
            if key not in _HOST_KEYS:
                problems.note(f"hosts.{name}.{key}", f"a host has no such option. It has {listed(sorted(_HOST_KEYS))}.")
        if not host.get("initiator"):
            problems.note(f"hosts.{name}.initiator", f"not known. {_TO_KNOW.format('iscsi_initiator_name', '')}")
        else:
            try:
                initiators.append(parse_initiator(str(host["initiator"])))
            except ValueError as error:
                problems.note(f"hosts.{name}.initiator", str(error))
        addresses = host.get("addresses", [ANY])
        if not addresses:
            advice = _TO_KNOW.format("iscsi_initiator_addresses", " to them, or to [ANY] for anywhere,")
            problems.note(f"hosts.{name}.addresses", f"not known. {advice}")
        for index, address in enumerate(addresses):
            try:
                netmasks.append(parse_netmask(str(address)))
            except ValueError as error:
                problems.note(f"hosts.{name}.addresses[{index}]", str(error))
    netmasks = [ANY] if ANY in netmasks else netmasks
    return {"initiators": list(dict.fromkeys(initiators)), "netmasks": list(dict.fromkeys(netmasks))}


def _secrets(guests: Mapping[str, Mapping[str, Any]], chap: str, path: str, problems: Problems) -> list[dict[str, Any]]:
    """One entry for every user; no message repeats a secret."""
    needed = _PROOFS if chap == MUTUAL else _PROOFS[:2]
    secrets: dict[str, dict[str, Any]] = {}
    for name, host in guests.items():
        missing = [option for option in needed if not host.get(option)]
        if missing:
            needs = f"host {name} needs {' and '.join(missing)} for chap {chap}."
            problems.note(path, f"{needs} Set them in iscsi_initiator_chap of that host.")
            continue
        secret = {option: str(host[option]) for option in _PROOFS if host.get(option)}
        if secrets.setdefault(secret["user"], secret) != secret:
            problems.note(path, f"host {name} has the user {secret['user']} of another host, but not its secrets.")
    return list(secrets.values())
