# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A block device on a namespace of an NVMe controller that we drive (SPDK's bdev_nvme)."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from ..nvme.controller import Controller
from ..nvme.identify import NamespaceInfo
from ..nvme.namespace import Namespace
from .base import Bdev, Buffer


class NvmeBdev(Bdev):
    """``NVMe1n1`` for namespace 1 of controller ``NVMe1``; it comes and goes with that."""

    product_name = "NVMe disk"
    consumes_inline = True
    unmaps_to_zeroes = False

    def __init__(self, controller: Controller, info: NamespaceInfo) -> None:
        super().__init__(f"{controller.name}n{info.nsid}", info.block_size, info.num_blocks, info.uuid)
        self.controller = controller
        self.unmaps = controller.info.unmaps
        self._namespace = Namespace(controller, info)

    @property
    def missing(self) -> bool:
        return self.controller.missing

    def read(self, offset: int, length: int) -> Awaitable[Buffer]:
        return self._namespace.read(offset, length)

    def write(self, offset: int, data: Buffer) -> Awaitable[Any]:
        return self._namespace.write(offset, data)

    def write_through(self, offset: int, data: Buffer) -> Awaitable[Any]:
        return self._namespace.write(offset, data, fua=True)

    def flush(self) -> Awaitable[Any] | None:
        return self._namespace.flush()

    def write_zeroes(self, offset: int, length: int) -> Awaitable[Any] | None:
        if self.controller.info.writes_zeroes:
            return self._namespace.write_zeroes(offset, length)
        return super().write_zeroes(offset, length)

    def unmap(self, offset: int, length: int) -> Awaitable[Any]:
        """Only where ``unmaps``."""
        return self._namespace.deallocate(offset, length)

    def compare(self, offset: int, data: Buffer) -> Awaitable[bool]:
        """Only when ``compare`` is among the io_types."""
        return self._namespace.compare(offset, data)

    def close(self) -> None:
        """The controller has what there is to give back."""

    def io_types(self) -> set[str]:
        info = self.controller.info
        native = {"compare": info.compares, "abort": True}
        return super().io_types() | {name for name, does in native.items() if does}

    def config(self) -> None:
        """The call that attaches the controller makes it."""

    def driver_specific(self) -> dict[str, Any]:
        info = self.controller.info
        return {
            "nvme": [
                {
                    "pci_address": self.controller.address,
                    "trid": {"trtype": "PCIe", "traddr": self.controller.address},
                    "ctrlr_data": {
                        "cntlid": info.controller_id,
                        "vendor_id": f"0x{info.vendor_id:04x}",
                        "model_number": info.model,
                        "serial_number": info.serial,
                        "firmware_revision": info.firmware,
                        "subnqn": info.subsystem,
                        "multi_ctrlr": False,
                        "ana_reporting": False,
                    },
                    "vs": {"nvme_version": info.nvme_version},
                    "ns_data": {"id": self._namespace.info.nsid, "can_share": self._namespace.info.shared},
                }
            ],
            "mp_policy": "active_passive",
        }
