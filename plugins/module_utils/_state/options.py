# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of every kind of object: how the value of each is read, and what is wrong with it by itself."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final

from .._engine import facts
from .auth import Secret, known_secret
from .base import AUTH_GROUP, BDEV, DISCOVERY_AUTH, INITIATOR_GROUP, PORTAL_GROUP, TARGET_NODE, TARGET_OPTIONS
from .bdevs import IOS_STEP, Latency, Qos
from .model import Lun, Map, Redirect
from .names import check_name, full_name, parse_initiator
from .portals import parse_netmask, parse_portal
from .sizes import parse_size
from .target_options import FLAGS
from .text import Problems

Parse = Callable[[Any, str, Problems], Any]
"""Takes the value, its path and the list for problems of its parts; one of the value itself is a ValueError."""


def _one(parse: Callable[[Any], Any]) -> Parse:
    return lambda value, _path, _problems: parse(value)


def _each(
    parse: Callable[[Any], Any],
    most: int | None = None,
    identity: Callable[[Any], Any] = lambda item: item,
    *,
    may_be_empty: bool = False,
) -> Parse:
    """A list in which no two items are the same by ``identity``."""

    def parse_list(values: Any, path: str, problems: Problems) -> tuple[Any, ...]:
        if not values and not may_be_empty:
            raise ValueError("the list is empty. Leave the option out to keep what is there.")
        if most is not None and len(values) > most:
            raise ValueError(f"{len(values)} entries are more than the {most} an engine takes.")
        seen: dict[Any, int] = {}
        items = []
        for index, value in enumerate(values):
            try:
                item = parse(value)
            except ValueError as error:
                problems.note(f"{path}[{index}]", str(error))
                continue
            first = seen.setdefault(identity(item), index)
            if first != index:
                problems.note(f"{path}[{index}]", f"repeats {path}[{first}].")
            items.append(item)
        return tuple(items)

    return parse_list


def _between(what: str, low: int, high: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number = int(value)
        if not low <= number <= high:
            raise ValueError(f"{what} {number} is not between {low} and {high}.")
        return number

    return check


def _text(most_bytes: int) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        text = str(value)
        if len(text.encode("utf-8", "surrogateescape")) > most_bytes:
            raise ValueError(f"{text!r} is longer than {most_bytes} bytes.")
        if not text.isprintable():
            raise ValueError(f"{text!r} holds characters that cannot be printed.")
        return text

    return check


def _bdev_name(value: Any) -> str:
    name = _text(facts.MAX_BDEV_NAME_BYTES)(value)
    if not name or name != name.strip():
        raise ValueError(f"{name!r} is not a name for a bdev.")
    return name


def _node_name(value: Any, node_base: str) -> str:
    name = full_name(str(value), node_base)
    check_name(name)
    return name


def _node_base(value: Any) -> str:
    name = str(value)
    check_name(name)
    return name


def _size(value: Any) -> int:
    size = parse_size(str(value))
    if size == 0:
        raise ValueError("a disk of size 0 holds nothing.")
    return size


def _uuid(value: Any) -> str:
    try:
        return str(uuid.UUID(str(value)))
    except ValueError:
        raise ValueError(f"{value!r} is not a UUID such as 2b6601ba-eada-44fb-9a83-a20eb9eb9e90.") from None


def _path(value: Any) -> str:
    path = str(value)
    if not path.startswith("/"):
        raise ValueError(f"{path!r} is not an absolute path.")
    return path


def _block_size(value: Any) -> int:
    if int(value) not in facts.BLOCK_SIZES:
        sizes = " and ".join(str(size) for size in facts.BLOCK_SIZES)
        raise ValueError(f"{value} is not a block size the engines serve; those are {sizes}.")
    return int(value)


_PORTAL_GROUP_TAG: Final = _between("tag", 1, facts.MAX_PORTAL_GROUP_TAG)
_GROUP_TAG: Final = _between("tag", 1, facts.MAX_TAG)
_LUN_ID: Final = _between("LUN", 0, facts.MAX_LUN_ID)


def _lun(value: Mapping[str, Any]) -> Lun:
    groups = value.get("initiator_groups")
    mask = None if groups is None else tuple(sorted({_GROUP_TAG(tag) for tag in groups}))
    return Lun(_LUN_ID(value["id"]), str(value["bdev"]), mask, value.get("readonly"), value.get("removable"))


_ADDRESS: Final = re.compile(
    r"(?:(?P<domain>[0-9a-f]{4,8}):)?(?P<bus>[0-9a-f]{2}):(?P<slot>[01][0-9a-f])\.(?P<function>[0-7])"
)


def known_address(text: str) -> str:
    """A PCI address in the one spelling that is compared, ``0000:03:00.0``. Raises ValueError with a sentence."""
    match = _ADDRESS.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text!r} is not a PCI address. Write DOMAIN:BUS:SLOT.FUNCTION, such as 0000:03:00.0.")
    return f"{match['domain'] or '0000'}:{match['bus']}:{match['slot']}.{match['function']}"


def _qos(value: Mapping[str, Any], path: str, problems: Problems) -> dict[str, int]:
    """The limits that are given. Operations are rounded up as the engine does it, so that they compare."""
    limits = {}
    for name in Qos._fields:
        number = value.get(name)
        if number is None:
            continue
        if not 0 <= int(number) <= _MOST_QOS:
            problems.note(f"{path}.{name}", f"{number} is not between 0, which is no limit, and {_MOST_QOS}.")
        limits[name] = int(number)
    if "rw_ios_per_sec" in limits:
        limits["rw_ios_per_sec"] += -limits["rw_ios_per_sec"] % IOS_STEP
    return limits


_MOST_QOS: Final = 10**9


def _latency(value: Mapping[str, Any], path: str, problems: Problems) -> dict[str, int]:
    """The latencies that are given, in microseconds."""
    latencies = {name: int(value[name]) for name in Latency._fields if value.get(name) is not None}
    for name, number in latencies.items():
        if not 0 <= number <= _MOST_LATENCY:
            problems.note(f"{path}.{name}", f"{number} microseconds are not between 0 and an hour.")
    return latencies


_MOST_LATENCY: Final = 3600 * 10**6


def _strip_size(value: Any) -> int:
    size = parse_size(str(value))
    if size < 1024 or size & (size - 1):
        raise ValueError(f"{value} is not 1KiB or a power of two of it, such as 64KiB.")
    return size


def _label(value: Any) -> str:
    """A name in another system."""
    name = _text(facts.MAX_BDEV_NAME_BYTES)(value)
    if not name:
        raise ValueError("the name is empty.")
    return name


_MOST_BASES: Final = 255
"""SPDK's bdev_raid_create takes no more."""
_MOST_PARTS: Final = 4096


def _redirect(value: Mapping[str, Any]) -> Redirect:
    address = parse_portal(str(value["address"]))
    if address.is_wildcard:
        raise ValueError(f"{address} is no address to go to.")
    return Redirect(_PORTAL_GROUP_TAG(value["portal_group"]), address, bool(value.get("permanent")))


def _secret(value: Mapping[str, Any]) -> Secret:
    user, muser = _user("user", value["user"]), value.get("muser")
    secret = Secret(
        user,
        known_secret(_word("secret", value.get("secret"))),
        _user("muser", muser) if muser is not None else None,
        known_secret(_word("msecret", value.get("msecret"))),
    )
    if secret.msecret is not None and secret.muser is None:
        raise ValueError(f"the msecret of user {user} needs a muser.")
    if secret.msecret is not None and secret.msecret == secret.secret:
        # RFC 7143 §9.2.1; an initiator that checks it does not log in.
        raise ValueError(f"secret and msecret of user {user} are the same. The target needs one of its own.")
    return secret


def _user(option: str, value: Any) -> str:
    name = _text(facts.MAX_SECRET_BYTES)(value)
    if not name:
        raise ValueError(f"the {option} is empty.")
    return name


def _word(option: str, value: Any) -> str | None:
    """A secret, which no message repeats."""
    if value is None:
        return None
    text = str(value)
    if not text:
        raise ValueError(f"the {option} is empty.")
    if len(text.encode("utf-8", "surrogateescape")) > facts.MAX_SECRET_BYTES:
        raise ValueError(f"the {option} is longer than {facts.MAX_SECRET_BYTES} bytes.")
    if not text.isprintable():
        raise ValueError(f"the {option} holds characters that cannot be printed, such as the end of a line.")
    return text


def _map(value: Mapping[str, Any]) -> Map:
    return Map(_PORTAL_GROUP_TAG(value["portal_group"]), _GROUP_TAG(value["initiator_group"]))


KEYS: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    BDEV: lambda value, _node_base: _bdev_name(value),
    AUTH_GROUP: lambda value, _node_base: _GROUP_TAG(value),
    PORTAL_GROUP: lambda value, _node_base: _PORTAL_GROUP_TAG(value),
    INITIATOR_GROUP: lambda value, _node_base: _GROUP_TAG(value),
    TARGET_NODE: _node_name,
}
"""Kind -> how its key is read; takes the engine's node_base, too. Singletons have no key."""

_POLICY: Final[Mapping[str, Parse]] = {"chap": _one(str), "auth_group": _one(_GROUP_TAG)}

OPTIONS: Final[Mapping[str, Mapping[str, Parse]]] = {
    BDEV: {
        "type": _one(str),
        "size": _one(_size),
        "block_size": _one(_block_size),
        "uuid": _one(_uuid),
        "path": _one(_path),
        "readonly": _one(bool),
        "sparse": _one(bool),
        "address": _one(lambda value: known_address(str(value))),
        "qos": _qos,
        "base_bdevs": _each(_bdev_name, _MOST_BASES),
        "count": _one(_between("count", 1, _MOST_PARTS)),
        "latency": _latency,
        "level": _one(str),
        "strip_size": _one(_strip_size),
        **{name: _one(_label) for name in ("pool", "image", "ceph_user", "cluster")},
    },
    AUTH_GROUP: {
        "secrets": _each(_secret, identity=lambda secret: secret.user),
        "update_secret": _one(str),
    },
    PORTAL_GROUP: {
        "portals": _each(parse_portal, facts.MAX_PORTALS_PER_GROUP),
        "private": _one(bool),
        **_POLICY,
    },
    INITIATOR_GROUP: {
        "initiators": _each(parse_initiator, facts.MAX_INITIATORS_PER_GROUP),
        "netmasks": _each(parse_netmask, facts.MAX_NETMASKS_PER_GROUP),
    },
    TARGET_NODE: {
        "alias": _one(_text(facts.MAX_ALIAS_BYTES)),
        "luns": _each(_lun, facts.MAX_LUNS, identity=lambda lun: lun.id),
        "maps": _each(_map, facts.MAX_MAPS_PER_NODE),
        "queue_depth": _one(_between("queue depth", 1, facts.MAX_QUEUE_DEPTH)),
        "header_digest": _one(bool),
        "data_digest": _one(bool),
        "enabled": _one(bool),
        **_POLICY,
        "redirects": _each(_redirect, identity=lambda redirect: redirect.portal_group, may_be_empty=True),
    },
    DISCOVERY_AUTH: _POLICY,
    TARGET_OPTIONS: {
        "node_base": _one(_node_base),
        **{name: _one(bool) for name in FLAGS},
        **{name: _one(_between(name, low, high)) for name, (low, high) in facts.TARGET_OPTION_RANGES.items()},
    },
}
"""Kind -> option -> how its value is read."""
