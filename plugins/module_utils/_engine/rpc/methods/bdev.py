# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_*: block devices."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ...bdev.aio import AioBdev
from ...bdev.base import Bdev
from ...bdev.histogram import TICK_RATE
from ...bdev.malloc import MallocBdev
from ...bdev.statistics import Statistics, Tally
from ...bdev.virtual import VirtualBdev
from ...errors import EngineError, Invalid, NoDevice, Unsupported
from ...facts import MAX_BDEV_NAME_BYTES
from .. import merging
from ..method import DECODE_FAILED, Calls, Errors, Method, Order, Spread, State, Subject
from ..notifications import REGISTER, RESIZE
from ..schema import UINT32_MAX, UINT64_MAX, array, boolean, choice, integer, optional, required, string

if TYPE_CHECKING:
    from ...service import Engine

Kind = TypeVar("Kind", bound=Bdev)

_LONGEST_WAIT: Final = 86400.0
_EVENT_LOOP_THREAD: Final = 2
"""As thread_get_stats numbers it."""


def get_bdevs(engine: Engine, name: str | None, timeout: int) -> Any:
    """All devices or one, for which it waits up to ``timeout`` milliseconds."""
    if name is None:
        return _shown(engine, list(engine.bdevs))
    if timeout and name not in engine.bdevs:
        return _appeared(engine, name, timeout)
    return _shown(engine, [engine.bdevs.get(name)])


def _shown(engine: Engine, bdevs: list[Bdev]) -> list[dict[str, Any]]:
    claimed = {base for bdev in engine.bdevs for base in bdev.below()}
    return [bdev.to_rpc(bdev in claimed) for bdev in bdevs]


async def _appeared(engine: Engine, name: str, timeout: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + min(timeout / 1000, _LONGEST_WAIT)
    while name not in engine.bdevs and time.monotonic() < deadline:
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(engine.notifications.next(), deadline - time.monotonic())
    return _shown(engine, [engine.bdevs.get(name)])


def get_iostat(engine: Engine, names: list[str] | None, per_channel: bool, reset_mode: str) -> dict[str, Any]:
    """``per_channel`` is about one device; there is one channel, the event loop's."""
    if per_channel and (names is None or len(names) != 1):
        raise Invalid("per_channel: names has to hold the name of one bdev")
    bdevs = list(engine.bdevs) if names is None else [engine.bdevs.get(name) for name in names]
    answer: dict[str, Any] = {"tick_rate": TICK_RATE, "ticks": time.monotonic_ns()}
    if per_channel:
        answer.update(name=bdevs[0].name, channels=[{"thread_id": _EVENT_LOOP_THREAD, **_iostat(bdevs[0].stats)}])
    else:
        answer["bdevs"] = [{"name": bdev.name, **_iostat(bdev.stats)} for bdev in bdevs]
    for bdev in bdevs:
        bdev.stats.reset(reset_mode)
    return answer


def reset_iostat(engine: Engine, name: str | None, mode: str) -> bool:
    """Of all devices or one."""
    for bdev in engine.bdevs if name is None else [engine.bdevs.get(name)]:
        bdev.stats.reset(mode)
    return True


def _iostat(stats: Statistics) -> dict[str, Any]:
    kinds = (
        ("read", "bytes_read", stats.read),
        ("write", "bytes_written", stats.write),
        ("unmap", "bytes_unmapped", stats.unmap),
        ("copy", "bytes_copied", Tally()),  # what initiators have copied is read and written here
    )
    counters: dict[str, Any] = {}
    for kind, moved, tally in kinds:
        counters.update({moved: tally.bytes, f"num_{kind}_ops": tally.operations})
    for kind, _moved, tally in kinds:
        for rank, ticks in (("", tally.ticks), ("max_", tally.most), ("min_", tally.least)):
            counters[f"{rank}{kind}_latency_ticks"] = ticks
    return {**counters, "io_error": {"failed": stats.errors} if stats.errors else {}}


def set_options(engine: Engine, **options: int | bool | None) -> bool:
    """Kept and saved as SPDK does; nothing in this engine depends on them."""
    engine.tuning.bdev.update((name, value) for name, value in options.items() if value is not None)
    return True


def wait_for_examine(_engine: Engine) -> bool:
    """Nothing here examines bdevs, so that it is always over."""
    return True


def malloc_create(
    engine: Engine,
    name: str | None,
    num_blocks: int,
    block_size: int,
    physical_block_size: int | None,
    uuid: str | None,
    **metadata: int | bool | None,
) -> str:
    if name is None:
        name = engine.bdevs.next_name("Malloc")
        while name in engine.bdevs:
            name = engine.bdevs.next_name("Malloc")
    engine.bdevs.check_free(name)
    refuse_metadata(name, metadata)
    shared = engine.sources.memory(name, num_blocks, block_size) if engine.sources is not None else None
    try:
        bdev = MallocBdev(name, num_blocks, block_size, uuid, physical_block_size, shared)
    except EngineError:
        if shared is not None:
            os.close(shared)
        raise
    return register(engine, bdev)


def refuse_metadata(name: str, options: Mapping[str, int | bool | None]) -> None:
    """Raises Unsupported when a bdev shall have some."""
    for option in _METADATA:
        if options.get(option):
            raise Unsupported(f"bdev {name}: {option} {options[option]}: metadata and DIF are not supported")


_METADATA: Final = ("md_size", "md_interleave", "dif_type", "dif_is_head_of_md", "dif_pi_format")


def malloc_delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, MallocBdev))
    return True


async def aio_create(
    engine: Engine,
    name: str,
    filename: str,
    block_size: int,
    readonly: bool,
    fallocate: bool,
    uuid: str | None,
    nowait: bool,
    size: int | None,
    sparse: bool,
    direct: bool,
) -> str:
    """Ours: ``size`` (bytes; makes or grows the file), ``sparse`` (do not reserve its space), ``direct`` (O_DIRECT)."""
    del nowait  # RWF_NOWAIT is used wherever the kernel takes it
    options = {
        "block_size": block_size,
        "readonly": readonly,
        "fallocate": fallocate,
        "uuid": uuid,
        "size": size,
        "sparse": sparse,
        "direct": direct,
    }
    return await open_store(engine, AioBdev, name, filename, options)


async def open_store(engine: Engine, kind: type[AioBdev], name: str, filename: str, options: Mapping[str, Any]) -> str:
    """Make a bdev of that kind, whose ``open`` takes the options."""
    engine.bdevs.check_free(name)
    opened = engine.sources.descriptor() if engine.sources is not None else None
    given = (name, filename, engine.pool.share().submit)
    opening = functools.partial(kind.open, *given, **options, guard=engine.guard, opened=opened)
    try:
        bdev = await engine.submit(opening)
    finally:
        if opened is not None:
            os.close(opened)
    return register(engine, bdev)


async def aio_delete(engine: Engine, name: str, remove_file: bool) -> bool:
    """``remove_file`` is ours: delete the file too. When that fails the bdev stays."""
    bdev = of_kind(engine, name, AioBdev)
    if remove_file:
        await engine.submit(bdev.remove_file)
    unregister(engine, bdev)
    return True


async def aio_rescan(engine: Engine, name: str) -> bool:
    bdev = of_kind(engine, name, AioBdev)
    before = bdev.num_blocks
    await engine.submit(bdev.rescan)
    await grown(engine, bdev, before)
    return True


async def aio_resize(engine: Engine, name: str, size: int) -> bool:
    """Ours: grow the file to ``size`` bytes."""
    bdev = of_kind(engine, name, AioBdev)
    before = bdev.num_blocks
    await engine.submit(bdev.resize, size)
    await grown(engine, bdev, before)
    return True


def made_again(engine: Engine, params: Mapping[str, Any], result: Any) -> Calls:
    """How a worker makes the bdev of that name that was made here: with the same UUID, and nothing new on the host."""
    call = engine.bdevs.get(result if isinstance(result, str) else params["name"]).config()
    if call is not None:
        yield call


def _deleted_again(_engine: Engine, params: Mapping[str, Any], _result: bool) -> Calls:
    yield "bdev_aio_delete", {"name": params["name"]}


def _grown_again(_engine: Engine, params: Mapping[str, Any], _result: bool) -> Calls:
    yield "bdev_aio_rescan", {"name": params["name"]}


def register(engine: Engine, bdev: Bdev) -> str:
    engine.bdevs.create(bdev)
    engine.notifications.send(REGISTER, bdev.name)
    return bdev.name


def unregister(engine: Engine, bdev: Bdev) -> None:
    engine.remove_bdev(bdev)


def resized(engine: Engine, bdev: Bdev, blocks_before: int) -> None:
    if bdev.num_blocks != blocks_before:
        engine.target.capacity_changed(bdev)
        engine.notifications.send(RESIZE, bdev.name)
        for above in engine.bdevs:
            if isinstance(above, VirtualBdev) and above.base is bdev and above.follows_size:
                before, above.num_blocks = above.num_blocks, bdev.num_blocks
                resized(engine, above, before)


async def grown(engine: Engine, bdev: Bdev, blocks_before: int) -> None:
    """What is made of the device may have to be saved in another way now, so that it stays where it is."""
    if bdev.num_blocks != blocks_before:
        resized(engine, bdev, blocks_before)
        await engine.store.commit()


def of_kind(engine: Engine, name: str, kind: type[Kind]) -> Kind:
    bdev = engine.bdevs.get(name)
    if not isinstance(bdev, kind) or bdev.product_name != kind.product_name:  # uring is aio by another name
        raise NoDevice(f"bdev {name} is of another kind: {bdev.product_name}")
    return bdev


_NAME: Final = string(MAX_BDEV_NAME_BYTES, least=1)
_UINT32: Final = integer(0, UINT32_MAX)
_UINT64: Final = integer(0, UINT64_MAX)
_RESET_MODE: Final = choice("all", "maxmin", "error", "none")
_ONE: Final = {"name": required(string())}
_MADE: Final = Subject("bdev", "name")
_GONE: Final = Subject("bdev", "name", removes=True)

METHODS: Final = (
    Method(
        "bdev_get_bdevs",
        get_bdevs,
        {"name": optional(string()), "timeout": optional(_UINT64, 0)},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        order=Order.DETACHED,
    ),
    Method(
        "bdev_get_iostat",
        get_iostat,
        {
            "names": optional(array(string(), 1024)),
            "per_channel": optional(boolean, False),
            "reset_mode": optional(_RESET_MODE, "none"),
        },
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.GATHERED,
        merge=merging.iostat,
    ),
    Method(
        "bdev_reset_iostat",
        reset_iostat,
        {"name": optional(string()), "mode": optional(_RESET_MODE, "all")},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
    Method(
        "bdev_set_options",
        set_options,
        {
            "bdev_io_pool_size": optional(_UINT32),
            "bdev_io_cache_size": optional(_UINT32),
            "bdev_auto_examine": optional(boolean),
            "iobuf_small_cache_size": optional(_UINT32),
            "iobuf_large_cache_size": optional(_UINT32),
        },
        state=State.STARTUP,
        mutates=True,
    ),
    Method("bdev_wait_for_examine", wait_for_examine),
    Method(
        "bdev_malloc_create",
        malloc_create,
        {
            "name": optional(_NAME),
            "num_blocks": required(_UINT64),
            "block_size": required(_UINT32),
            "physical_block_size": optional(_UINT32),
            "uuid": optional(string()),
            "optimal_io_boundary": optional(_UINT32),
            "md_size": optional(_UINT32),
            "md_interleave": optional(boolean),
            "dif_type": optional(integer(0, 3)),
            "dif_is_head_of_md": optional(boolean),
            "dif_pi_format": optional(integer(0, 2)),
            "numa_id": optional(integer(-1, UINT32_MAX)),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=_MADE,
        followed_by=made_again,
    ),
    Method(
        "bdev_malloc_delete",
        malloc_delete,
        _ONE,
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=_GONE,
    ),
    Method(
        "bdev_aio_create",
        aio_create,
        {
            "name": required(_NAME),
            "filename": required(string()),
            "block_size": optional(_UINT32, 0),
            "readonly": optional(boolean, False),
            "fallocate": optional(boolean, False),
            "uuid": optional(string()),
            "nowait": optional(boolean, False),
            "size": optional(_UINT64),
            "sparse": optional(boolean, False),
            "direct": optional(boolean, False),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=_MADE,
        followed_by=made_again,
    ),
    Method(
        "bdev_aio_delete",
        aio_delete,
        {**_ONE, "remove_file": optional(boolean, False)},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=_GONE,
        followed_by=_deleted_again,
    ),
    Method(
        "bdev_aio_rescan",
        aio_rescan,
        _ONE,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
    Method(
        "bdev_aio_resize",
        aio_resize,
        {**_ONE, "size": required(_UINT64)},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
        followed_by=_grown_again,
    ),
)
