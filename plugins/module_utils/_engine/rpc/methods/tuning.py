# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iobuf_set_options and sock_*: what SPDK's clients set at start, kept for them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ..method import INVALID_PARAMS, Errors, Method, Refusal, State, worded
from ..schema import UINT32_MAX, UINT64_MAX, boolean, integer, optional, required, string

if TYPE_CHECKING:
    from ...service import Engine


def set_iobuf_options(engine: Engine, **options: int | bool | None) -> bool:
    engine.tuning.set_iobuf(_given(options))
    return True


def get_sock_options(engine: Engine, impl_name: str) -> dict[str, Any]:
    with worded("Invalid parameters"):
        return engine.tuning.sock(impl_name)


def set_sock_options(engine: Engine, impl_name: str, **options: int | bool | None) -> bool:
    with worded("Invalid parameters"):
        engine.tuning.set_sock(impl_name, _given(options))
    return True


def get_sock_default(engine: Engine) -> dict[str, str]:
    return {"impl_name": engine.tuning.sock_default}


def set_sock_default(engine: Engine, impl_name: str) -> bool:
    with worded("Invalid parameters"):
        engine.tuning.set_sock_default(impl_name)
    return True


def _given(options: dict[str, int | bool | None]) -> dict[str, int | bool]:
    return {name: value for name, value in options.items() if value is not None}


_UINT32: Final = integer(0, UINT32_MAX)
_UINT64: Final = integer(0, UINT64_MAX)
_IMPLEMENTATION: Final = {"impl_name": required(string())}

METHODS: Final = (
    Method(
        "iobuf_set_options",
        set_iobuf_options,
        {
            "small_pool_count": optional(_UINT64),
            "large_pool_count": optional(_UINT64),
            "small_bufsize": optional(_UINT32),
            "large_bufsize": optional(_UINT32),
            "enable_numa": optional(boolean),
        },
        state=State.STARTUP,
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=Refusal(INVALID_PARAMS, "spdk_json_decode_object failed"),
    ),
    Method("sock_impl_get_options", get_sock_options, _IMPLEMENTATION, state=State.BOTH),
    Method(
        "sock_impl_set_options",
        set_sock_options,
        {
            **_IMPLEMENTATION,
            "recv_buf_size": optional(_UINT32),
            "send_buf_size": optional(_UINT32),
            "enable_recv_pipe": optional(boolean),
            "enable_quickack": optional(boolean),
            "enable_placement_id": optional(_UINT32),
            "enable_zerocopy_send_server": optional(boolean),
            "enable_zerocopy_send_client": optional(boolean),
            "zerocopy_threshold": optional(_UINT32),
            "tls_version": optional(_UINT32),
            "enable_ktls": optional(boolean),
        },
        state=State.STARTUP,
        mutates=True,
    ),
    Method("sock_set_default_impl", set_sock_default, _IMPLEMENTATION, state=State.STARTUP, mutates=True),
    Method("sock_get_default_impl", get_sock_default, state=State.BOTH),
)
