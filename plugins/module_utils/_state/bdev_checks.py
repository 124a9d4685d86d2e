# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Do the bdevs fit together, with what is there and with what this engine can make?"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from .base import BDEV, Ref, label
from .bdevs import MIB, Bdev
from .context import Context, Found, dangling, noun
from .declaration import Wish
from .drivers import DRIVERS, OPTIONS, PART, RAID, RAID1, SPLIT, giver_of
from .mirrors import ADD_BASE, REMOVE_BASE
from .model import TargetNode
from .sizes import show_size

_SET_QOS: Final = "bdev_set_qos_limit"
_FEWEST_DISKS: Final[Mapping[str, int]] = {RAID1: 2, "raid5f": 3}
"""RAID level -> base bdevs it needs, where one is not enough."""


def check(bdev: Bdev, context: Context) -> Found:
    wish = context.goal.wishes.get(bdev.ref)
    if wish is None:
        yield from _lost_bases(bdev, context)
        return
    live = context.current.get(bdev.ref)
    live = live if isinstance(live, Bdev) else None
    yield from _limits(bdev, live, wish, context)
    if not (bdev if live is None else live).managed:
        if _differing(bdev, live, wish) - {"qos"}:
            what = f"is a {(live or bdev).type}, which openlun.iscsi can serve and limit but not change"
            yield wish.at("name"), f"bdev {bdev.name} {what}."
        return
    driver = DRIVERS[bdev.type]
    if (live is None or live.type != bdev.type) and not context.can.has(driver.create):
        why = f"{context.can.engine} has no {driver.create}, so it makes no bdevs of type {bdev.type}"
        yield wish.at("type"), f"{why}. Choose another type."
    for option in sorted(_differing(bdev, live, wish) & (OPTIONS - driver.options)):
        yield wish.at(option), f"bdev {bdev.name} is of type {bdev.type}, which has no {option}."
    for option, needed in driver.needs:
        if live is not None and getattr(bdev, option) is None:
            yield wish.at(option), f"as another device, bdev {bdev.name} needs {needed}."
    yield from _name(bdev, live, wish, context)
    if bdev.size is not None and bdev.block_size is not None and bdev.size % bdev.block_size:
        yield wish.at("size"), f"{bdev.size} bytes are not a multiple of the block size {bdev.block_size}."
    if bdev.type == "aio" and "size" in wish.given:
        yield from _size_of_file(bdev, live if live is not None and live.path == bdev.path else None, wish, context)
    yield from _details(bdev, live, wish, context)
    yield from _bases(bdev, wish, context)
    if live is not None and "base_bdevs" in wish.given:
        yield from _new_base(live, wish, context)


def _differing(bdev: Bdev, live: Bdev | None, wish: Wish) -> set[str]:
    """The options that ask for something else than what is there; one that says no or nothing asks for nothing."""
    asked = {option for option, value in wish.given.items() if value and option != "name"}
    return {option for option in asked if live is None or getattr(live, option) != getattr(bdev, option)}


def _limits(bdev: Bdev, live: Bdev | None, wish: Wish, context: Context) -> Found:
    if "qos" not in wish.given:
        return
    if bdev.is_giver:
        example = next(iter(bdev.parts), f"{bdev.name}n1")
        yield wish.at("qos"), f"{bdev.name} is no bdev itself. Limit the bdevs it gives, such as {example}."
    elif bdev.qos is not None and bdev.qos.changed(live.qos if live else None) and not context.can.has(_SET_QOS):
        why = f"{context.can.engine} has no {_SET_QOS}, so it cannot limit bdevs"
        yield wish.at("qos"), f"{why}. Leave it out, or upgrade the engine."


def _name(bdev: Bdev, live: Bdev | None, wish: Wish, context: Context) -> Found:
    """What the engine names by itself, and the names that it takes for that."""
    fixed = DRIVERS[bdev.type].name
    if fixed is not None and bdev.base_bdevs:
        name = fixed.format(bdev.base_bdevs[0])
        if name != bdev.name:
            yield wish.at("name"), f"a bdev of type {bdev.type} on {bdev.base_bdevs[0]} is called {name}. Name it so."
    giver = context.giver(giver_of(bdev.name))
    if live is None and giver is not None:
        words = noun(giver)
        yield wish.at("name"), f"{bdev.name} is what {words} calls a bdev that it gives. Choose another name."


def _size_of_file(bdev: Bdev, live: Bdev | None, wish: Wish, context: Context) -> Found:
    """``live`` is the bdev as it is now on the same file."""
    size, can = bdev.size or 0, context.can
    if live is not None and live.size == size:
        return
    if str(bdev.path).startswith("/dev/"):
        yield wish.at("size"), f"{bdev.path} is a device and has its own size. Leave size out."
    elif live is None:
        if not can.makes_files:
            yield wish.at("size"), f"{can.engine} cannot make files. Make {bdev.path} first and leave size out."
    elif size < (live.size or 0):
        has = show_size(live.size or 0)
        why = f"bdev {bdev.name} has {has} and is not made smaller, because that cuts off data"
        yield wish.at("size"), f"{why}. Delete it and its file and create it again, or choose at least {has}."
    elif not can.grows_files:
        yield wish.at("size"), f"{can.engine} cannot grow files. Grow {bdev.path} first and leave size out."


def _details(bdev: Bdev, live: Bdev | None, wish: Wish, context: Context) -> Found:
    """What the options of a type mean among each other."""
    for name, most in (("read", "read_p99"), ("write", "write_p99")) if bdev.latency is not None else ():
        if getattr(bdev.latency, most) < getattr(bdev.latency, name):
            yield f"{wish.at('latency')}.{most}", f"the slowest one in a hundred is not faster than {name} on average."
    if bdev.level == RAID1 and bdev.strip_size is not None:
        yield wish.at("strip_size"), "a mirror has no strips. Leave it out."
    if bdev.cluster is not None and bdev.ceph_user is not None:
        yield wish.at("ceph_user"), f"cluster {bdev.cluster} has its own user. Leave one of the two out."
    if bdev.type == SPLIT and bdev.size is not None and "size" in wish.given:
        yield from _size_of_parts(bdev, live, bdev.size, wish, context)


def _size_of_parts(split: Bdev, live: Bdev | None, size: int, wish: Wish, context: Context) -> Found:
    if size % MIB and (live is None or live.size != size):
        yield wish.at("size"), f"{show_size(size)} are no whole MiB, in which engines count the parts of a split."
    [base] = split.base_bdevs if split.base_bdevs and len(split.base_bdevs) == 1 else ("",)
    whole = _settled(base, context)
    if whole is not None and whole.size is not None and size * (split.count or 1) > whole.size:
        why = f"{split.count} parts of {show_size(size)} are more than the {show_size(whole.size)} of {base}"
        yield wish.at("size"), f"{why}. Leave it out for parts as large as possible."


def _bases(bdev: Bdev, wish: Wish, context: Context) -> Found:
    """What a bdev is made of has to be there, in the right number, and not be made of the bdev."""
    if bdev.base_bdevs is None:
        return
    if "base_bdevs" not in wish.given:
        yield from _lost_bases(bdev, context)
        return
    path = wish.at("base_bdevs")
    for index, base in enumerate(bdev.base_bdevs):
        if not context.has_bdev(base):
            yield dangling(context, (BDEV, base), f"{path}[{index}]")
        elif _is_made_of(base, bdev.name, context):
            yield f"{path}[{index}]", f"{base} is made of {bdev.name} itself."
    number = len(bdev.base_bdevs)
    fewest = _FEWEST_DISKS.get(bdev.level or "", 1)
    if bdev.type != RAID and number > 1:
        yield path, f"a bdev of type {bdev.type} is made of one bdev, not of {number}."
    elif number < fewest:
        yield path, f"{bdev.level} needs at least {fewest} bdevs."
    disks = (_settled(base, context) for base in bdev.base_bdevs)
    blocks = {disk.block_size for disk in disks if disk is not None and disk.block_size is not None}
    if len(blocks) > 1:
        yield path, f"bdevs with blocks of {' and of '.join(map(str, sorted(blocks)))} bytes make no {bdev.type}."


def _new_base(live: Bdev, wish: Wish, context: Context) -> Found:
    """Whether a mirror can be rebuilt, before it gives anything up for that."""
    mirror = live.exchange(wish.given["base_bdevs"], wish.given.get("level"))
    if mirror is None or not mirror.come or not context.can.exchanges_bases:
        return
    path, new = wish.at("base_bdevs"), ", ".join(mirror.come)
    if live.rebuilding is not None:
        why = f"{live.rebuilding} of {live.name} is being rebuilt, and nothing else of the mirror changes meanwhile"
        remedy = f"Run this again when that is done, or take {live.rebuilding} out by {REMOVE_BASE}."
        yield path, f"{why}. {remedy}"
    elif len(mirror.come) > 1:
        why = f"a mirror is rebuilt for one bdev at a time, and {new} are new in {live.name}"
        remedy = f"Exchange one, or add one to an empty place by {ADD_BASE}, and run this again when it is rebuilt."
        yield path, f"{why}. {remedy}"
    else:
        disk = _settled(new, context)
        if disk is not None and disk.readonly:
            yield path, f"{new} is read-only, so {live.name} cannot be rebuilt on it."
        elif disk is not None and disk.size is not None and disk.size < (live.size or 0):
            has, needs = show_size(disk.size), show_size(live.size or 0)
            yield path, f"{new} has {has}, and {live.name} needs {needs} of each of its bdevs."


def _settled(name: str, context: Context) -> Bdev | None:
    """The bdev, if its size and its blocks are its own: those of what is made of other bdevs may change with these."""
    each = context.goal.objects.get((BDEV, name))
    if not isinstance(each, Bdev) or each.base_bdevs or each.type == PART or giver_of(name) in context.goal.coming:
        return None
    return each


def _is_made_of(name: str, part: str, context: Context) -> bool:
    """Whether ``part`` is in ``name``, however deep."""
    seen: set[Ref] = set()
    waiting: list[Ref] = [(BDEV, name)]
    while waiting:
        ref = waiting.pop()
        if ref == (BDEV, part):
            return True
        if ref not in seen:
            seen.add(ref)
            each = context.goal.objects.get(ref)
            waiting += each.needs() if isinstance(each, Bdev) else [(BDEV, giver_of(str(ref[1])) or "")]
    return False


def _lost_bases(bdev: Bdev, context: Context) -> Found:
    """A bdev that nobody declares, or whose base bdevs nobody declares, keeps those: they cannot be removed."""
    for base in bdev.base_bdevs or ():
        ref = (BDEV, base)
        if ref in context.goal.doomed:
            why = f"{label(ref)} cannot be removed: {label(bdev.ref)} is made of it"
            yield context.goal.path(ref, "name"), f"{why}. Remove that in the same run, or declare what it is made of."


def removal(wish: Wish, context: Context) -> Found:
    live = context.current.get(wish.ref)
    if not isinstance(live, Bdev):
        return
    if not live.managed:
        yield wish.at("name"), f"bdev {live.name} is a {live.type}, which openlun.iscsi can serve but not remove."
    elif wish.remove_file and live.type != "aio":
        yield wish.at("remove_file"), f"bdev {live.name} is of type {live.type} and has no file that can go with it."
    elif wish.remove_file and not context.can.removes_files:
        remedy = f"Leave it out and remove {live.path} yourself."
        yield wish.at("remove_file"), f"{context.can.engine} cannot remove files. {remedy}"


def shared(context: Context) -> Found:
    """What only one bdev can have: a UUID, a file, a device, and the bdevs it is made of."""
    bdevs = [each for each in context.goal.objects.values() if isinstance(each, Bdev)]
    yield from _taken_twice(context, "uuid", ((bdev, bdev.uuid) for bdev in bdevs))
    yield from _taken_twice(context, "path", ((bdev, bdev.path) for bdev in bdevs))
    yield from _taken_twice(context, "address", ((bdev, bdev.address) for bdev in bdevs))
    bases = [(bdev, base) for bdev in bdevs for base in bdev.base_bdevs or ()]
    yield from _taken_twice(context, "base_bdevs", bases)
    if bases:
        yield from _served_too(context, {base: bdev for bdev, base in bases})


def _taken_twice(context: Context, option: str, values: Iterable[tuple[Bdev, str | None]]) -> Found:
    owners: dict[str, Bdev] = {}
    for bdev, value in values:
        owner = owners.setdefault(value, bdev) if value is not None else bdev
        if owner is bdev:
            continue
        # The problem belongs to whichever of the two is declared.
        blamed, other = (bdev, owner) if bdev.ref in context.goal.wishes else (owner, bdev)
        if blamed.ref in context.goal.wishes:
            yield context.goal.path(blamed.ref, option), f"{value} belongs to {label(other.ref)} already."


def _served_too(context: Context, made_of: Mapping[str, Bdev]) -> Found:
    """Whoever wrote to a bdev and to what is made of it would destroy both."""
    for node in (each for each in context.goal.objects.values() if isinstance(each, TargetNode)):
        for index, lun in enumerate(node.luns):
            bdev = made_of.get(lun.bdev)
            if bdev is None:
                continue
            why = f"{label(bdev.ref)} is made of {lun.bdev}, so {label(node.ref)} cannot serve that by itself"
            wish = context.goal.wishes.get(node.ref)
            if wish is not None and "luns" in wish.given:
                yield f"{wish.at('luns')}[{index}].bdev", f"{why}. Serve {bdev.name}, or another bdev."
            elif bdev.ref in context.goal.wishes:
                yield context.goal.path(bdev.ref, "base_bdevs"), f"{why}. Choose another bdev."
