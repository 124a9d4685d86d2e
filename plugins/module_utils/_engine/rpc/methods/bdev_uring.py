# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_uring_*: files and kernel block devices, as bdev_aio_* has them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ...bdev.uring import UringBdev
from ...facts import MAX_BDEV_NAME_BYTES
from ..method import DECODE_FAILED, Errors, Method, Spread, Subject
from ..schema import UINT32_MAX, integer, optional, required, string
from .bdev import grown, made_again, of_kind, open_store, unregister

if TYPE_CHECKING:
    from ...service import Engine


async def create(engine: Engine, name: str, filename: str, block_size: int, uuid: str | None) -> str:
    return await open_store(engine, UringBdev, name, filename, {"block_size": block_size, "uuid": uuid})


async def rescan(engine: Engine, name: str) -> bool:
    bdev = of_kind(engine, name, UringBdev)
    before = bdev.num_blocks
    await engine.submit(bdev.rescan)
    await grown(engine, bdev, before)
    return True


def delete(engine: Engine, name: str) -> bool:
    unregister(engine, of_kind(engine, name, UringBdev))
    return True


_ONE: Final = {"name": required(string())}

METHODS: Final = (
    Method(
        "bdev_uring_create",
        create,
        {
            "name": required(string(MAX_BDEV_NAME_BYTES, least=1)),
            "filename": required(string()),
            "block_size": optional(integer(0, UINT32_MAX), 0),
            "uuid": optional(string()),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name"),
        followed_by=made_again,
    ),
    Method(
        "bdev_uring_rescan",
        rescan,
        _ONE,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        spread=Spread.EVERYWHERE,
    ),
    Method(
        "bdev_uring_delete",
        delete,
        _ONE,
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject("bdev", "name", removes=True),
    ),
)
