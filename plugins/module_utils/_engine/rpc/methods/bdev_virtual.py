# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_null_*, bdev_passthru_*, bdev_split_*, bdev_delay_* and bdev_error_*."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable, Final

from ...bdev.base import HINTS
from ...bdev.delay import LATENCIES, DelayBdev
from ...bdev.error import ERROR_TYPES, IO_TYPES, NO_SPACE, NVME, ErrorBdev, Injection
from ...bdev.null import NullBdev
from ...bdev.virtual import PassthruBdev, SplitBdev
from ...errors import Exists, Invalid, NoDevice
from ...facts import MAX_BDEV_NAME_BYTES
from ..method import DECODE_FAILED, Calls, Errors, Method, RpcError, Spread, Subject
from ..schema import UINT32_MAX, UINT64_MAX, Table, boolean, choice, integer, optional, required, string
from .bdev import made_again, of_kind, refuse_metadata, register, resized, unregister

if TYPE_CHECKING:
    from ...service import Engine

_MIB: Final = 1024 * 1024
_LATENCY_TYPES: Final = dict(zip(("avg_read", "p99_read", "avg_write", "p99_write"), LATENCIES))


def null_create(
    engine: Engine,
    name: str,
    num_blocks: int,
    block_size: int,
    physical_block_size: int | None,
    uuid: str | None,
    **options: int | bool | None,
) -> str:
    engine.bdevs.check_free(name)
    refuse_metadata(name, options)
    bdev = NullBdev(name, num_blocks, block_size, uuid, physical_block_size)
    bdev.hints = {hint: int(options[hint] or 0) for hint in HINTS if options[hint]}
    return register(engine, bdev)


def null_delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, NullBdev))
    return True


def null_resize(engine: Engine, name: str, new_size: int) -> bool:
    """``new_size`` in MiB."""
    bdev = of_kind(engine, name, NullBdev)
    before = bdev.num_blocks
    bdev.resize(new_size * _MIB)
    resized(engine, bdev, before)
    return True


def passthru_create(engine: Engine, base_bdev_name: str, name: str, uuid: str | None) -> str:
    engine.bdevs.check_free(name)
    return register(engine, PassthruBdev(name, engine.bdevs.get(base_bdev_name), uuid))


def passthru_delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, PassthruBdev))
    return True


def split_create(
    engine: Engine, base_bdev: str, split_count: int, split_size_mb: int, split_blocks: int | None
) -> list[str]:
    """Equal parts of a device; of ``split_size_mb`` MiB each, or as large as they can be.

    Ours: ``split_blocks`` is as large as they could be before the device grew.
    """
    base = engine.bdevs.get(base_bdev)
    if not split_count:
        raise Invalid(f"bdev {base.name}: it cannot be split into 0 parts")
    if _parts(engine, base.name):
        raise Exists(f"bdev {base.name} is split already. Delete that split first.")
    largest = base.num_blocks // split_count if split_blocks is None else split_blocks
    blocks = split_size_mb * _MIB // base.block_size if split_size_mb else largest
    possible = min(split_count, base.num_blocks // blocks) if blocks else 0
    if not possible:
        raise Invalid(f"bdev {base.name}: {base.size} bytes are too few for parts of {split_size_mb} MiB")
    parts = [SplitBdev(base, index, blocks, possible, split_size_mb) for index in range(possible)]
    for part in parts:
        engine.bdevs.check_free(part.name)
    return [register(engine, part) for part in parts]


def split_delete(engine: Engine, base_bdev: str) -> bool:
    parts = _parts(engine, engine.bdevs.get(base_bdev).name)
    if not parts:
        raise NoDevice(f"bdev {base_bdev} is not split")
    for part in parts:
        unregister(engine, part)
    return True


def _parts(engine: Engine, base: str) -> list[SplitBdev]:
    return [bdev for bdev in engine.bdevs if isinstance(bdev, SplitBdev) and bdev.base.name == base]


def delay_create(engine: Engine, name: str, base_bdev_name: str, uuid: str | None, **latencies: int) -> str:
    """Latencies in microseconds."""
    engine.bdevs.check_free(name)
    return register(engine, DelayBdev(name, engine.bdevs.get(base_bdev_name), uuid, latencies))


def delay_delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, DelayBdev))
    return True


def delay_update_latency(engine: Engine, delay_bdev_name: str, latency_type: str, latency_us: int) -> bool:
    of_kind(engine, delay_bdev_name, DelayBdev).latencies[_LATENCY_TYPES[latency_type]] = latency_us
    return True


def error_create(engine: Engine, base_name: str, uuid: str | None) -> bool:
    engine.bdevs.check_free(f"EE_{base_name}")
    register(engine, ErrorBdev(engine.bdevs.get(base_name), uuid))
    return True


def _error_made_again(engine: Engine, params: Mapping[str, Any], _result: bool) -> Calls:
    return made_again(engine, params, f"EE_{engine.bdevs.get(params['base_name']).name}")


def error_delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, ErrorBdev))
    return True


def error_inject(
    engine: Engine,
    name: str,
    io_type: str,
    error_type: str,
    num: int,
    queue_depth: int,
    **details: int,
) -> bool:
    """``clear`` as ``io_type`` ends all of it. ``queue_depth`` is SPDK's and means nothing here."""
    del queue_depth
    bdev = of_kind(engine, name, ErrorBdev)
    if (error_type == NVME) is not bool(details["nvme_sct"] or details["nvme_sc"]):
        why = f"error_type {NVME} has them, and no other has"
        raise RpcError(
            -errno.EINVAL, f"nvme_sct or nvme_sc should be specified for NVMe error injection: bdev {name}: {why}"
        )
    if io_type == "clear":
        bdev.clear()
    else:
        bdev.inject(io_type, Injection(error_type, **details), num)
    return True


def error_resume_pending(engine: Engine, name: str) -> bool:
    of_kind(engine, name, ErrorBdev).resume()
    return True


_NAME: Final = required(string(MAX_BDEV_NAME_BYTES, least=1))
_OTHER: Final = required(string())
_UINT32: Final = integer(0, UINT32_MAX)
_UINT64: Final = integer(0, UINT64_MAX)
_ONE: Final[Table] = {"name": _OTHER}
_UUID: Final[Table] = {"uuid": optional(string())}
_LATENCY: Final = required(integer(0, UINT32_MAX))


def _making(name: str, handler: Callable[..., Any], params: Table) -> Method:
    return Method(
        name,
        handler,
        params,
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name"),
        followed_by=made_again,
    )


def _deleting(name: str, handler: Callable[..., Any]) -> Method:
    gone = Subject("bdev", "name", removes=True)
    return Method(name, handler, _ONE, mutates=True, errors=Errors.AS_ERRNO, refusal=DECODE_FAILED, subject=gone)


METHODS: Final = (
    _making(
        "bdev_null_create",
        null_create,
        {
            "name": _NAME,
            "num_blocks": required(_UINT64),
            "block_size": required(_UINT32),
            "physical_block_size": optional(_UINT32),
            **_UUID,
            "md_size": optional(_UINT32),
            "dif_type": optional(integer(0, 3)),
            "dif_is_head_of_md": optional(boolean),
            "dif_pi_format": optional(integer(0, 2)),
            **dict.fromkeys(HINTS, optional(_UINT32)),
        },
    ),
    _deleting("bdev_null_delete", null_delete),
    Method(
        "bdev_null_resize",
        null_resize,
        {**_ONE, "new_size": required(_UINT64)},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
    _making("bdev_passthru_create", passthru_create, {"base_bdev_name": _OTHER, "name": _NAME, **_UUID}),
    _deleting("bdev_passthru_delete", passthru_delete),
    Method(
        "bdev_split_create",
        split_create,
        {
            "base_bdev": _OTHER,
            "split_count": required(integer(0, 1024)),
            "split_size_mb": optional(_UINT64, 0),
            "split_blocks": optional(_UINT64),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("split bdev", "base_bdev"),
    ),
    Method(
        "bdev_split_delete",
        split_delete,
        {"base_bdev": _OTHER},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("split bdev", "base_bdev", removes=True),
    ),
    _making(
        "bdev_delay_create",
        delay_create,
        {"name": _NAME, "base_bdev_name": _OTHER, **_UUID, **dict.fromkeys(LATENCIES, _LATENCY)},
    ),
    _deleting("bdev_delay_delete", delay_delete),
    Method(
        "bdev_delay_update_latency",
        delay_update_latency,
        {"delay_bdev_name": _OTHER, "latency_type": required(choice(*_LATENCY_TYPES)), "latency_us": _LATENCY},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
    Method(
        "bdev_error_create",
        error_create,
        {"base_name": _OTHER, **_UUID},
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("error bdev", "base_name"),
        followed_by=_error_made_again,
    ),
    _deleting("bdev_error_delete", error_delete),
    Method(
        "bdev_error_inject_error",
        error_inject,
        {
            "name": _OTHER,
            "io_type": required(choice(*IO_TYPES)),
            "error_type": required(choice(*ERROR_TYPES, NO_SPACE)),
            "num": optional(_UINT32, 1),
            "queue_depth": optional(_UINT64, 0),
            "corrupt_offset": optional(_UINT64, 0),
            "corrupt_value": optional(integer(0, 255), 0xFF),
            **dict.fromkeys(("nvme_sct", "nvme_sc"), optional(_UINT32, 0)),
        },
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
    Method(
        "bdev_error_resume_pending",
        error_resume_pending,
        _ONE,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
)
