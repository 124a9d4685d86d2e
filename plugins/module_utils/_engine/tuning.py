# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's options: kept and saved, so that its clients and configurations work. Only those of raids mean something here,
the others are for parts that this engine does not have.
"""

from __future__ import annotations

from typing import Any, Final

from .bdev import rebuild
from .errors import Invalid

IMPLEMENTATIONS: Final = ("ssl", "posix", "uring")
"""SPDK's ways of using sockets; only some of its builds have the last one."""
_DEFAULT_IMPLEMENTATION: Final = "posix"
_LEAST: Final = {"small_pool_count": 64, "large_pool_count": 8, "small_bufsize": 4096, "large_bufsize": 8192}
_BDEV: Final = {
    "bdev_io_pool_size": 65535,
    "bdev_io_cache_size": 256,
    "bdev_auto_examine": True,
    "iobuf_small_cache_size": 128,
    "iobuf_large_cache_size": 16,
}
_IOBUF: Final = {
    "small_pool_count": 8192,
    "large_pool_count": 1024,
    "small_bufsize": 8192,
    "large_bufsize": 135168,
    "enable_numa": False,
}
_SOCK: Final = {
    "recv_buf_size": 2097152,
    "send_buf_size": 2097152,
    "enable_recv_pipe": True,
    "enable_quickack": False,
    "enable_placement_id": 0,
    "enable_zerocopy_send_server": True,
    "enable_zerocopy_send_client": False,
    "zerocopy_threshold": 0,
    "tls_version": 0,
    "enable_ktls": False,
}
_SSL: Final = {**_SOCK, "recv_buf_size": 4096, "send_buf_size": 4096}

Options = dict[str, Any]
Calls = list[tuple[str, Options]]


class Tuning:
    """Begins with SPDK's defaults."""

    def __init__(self) -> None:
        self.bdev: Options = dict(_BDEV)
        self.iobuf: Options = dict(_IOBUF)
        self.raid: dict[str, int] = dict(rebuild.DEFAULTS)
        """This is what rebuilds go by."""
        self.sock_default = _DEFAULT_IMPLEMENTATION
        self._sock: dict[str, Options] = {"ssl": dict(_SSL), "posix": dict(_SOCK)}

    def set_iobuf(self, options: Options) -> None:
        """Raises Invalid for what is below SPDK's least values; nothing is changed then."""
        for name, least in _LEAST.items():
            if options.get(name, least) < least:
                raise Invalid(f"iobuf_set_options: {name} {options[name]} is below {least}")
        self.iobuf.update(options)

    def sock(self, implementation: str) -> Options:
        """The options of a way of using sockets. Raises Invalid when SPDK has none of that name."""
        if implementation not in IMPLEMENTATIONS:
            known = ", ".join(IMPLEMENTATIONS)
            raise Invalid(f"socket implementation {implementation!r} does not exist. There are: {known}")
        return self._sock.get(implementation, dict(_SOCK))

    def set_sock(self, implementation: str, options: Options) -> None:
        """Raises Invalid as :meth:`sock` does."""
        self._sock[implementation] = {**self.sock(implementation), **options}

    def set_sock_default(self, implementation: str) -> None:
        """Raises Invalid as :meth:`sock` does."""
        self.sock(implementation)
        self.sock_default = implementation

    def raid_config(self) -> Calls:
        """The call that sets the options of rebuilds again, where they are not SPDK's defaults."""
        return [] if self.raid == rebuild.DEFAULTS else [("bdev_raid_set_options", dict(self.raid))]

    def sock_config(self) -> Calls:
        """The calls that set all of this again, as SPDK saves them."""
        return [
            ("sock_set_default_impl", {"impl_name": self.sock_default}),
            *(("sock_impl_set_options", {"impl_name": name, **each}) for name, each in self._sock.items()),
        ]
