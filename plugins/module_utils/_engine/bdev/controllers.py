# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVMe controllers that are attached, by name. The driver is loaded with the first of them."""

from __future__ import annotations

import errno
import logging
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable, NamedTuple

from ..errors import EngineError, Exists, NoDevice
from .base import BdevRegistry, Submit

if TYPE_CHECKING:
    from ..nvme.controller import Controller, Times
    from ..sigbus import BusGuard
    from .nvme import NvmeBdev

_LOG = logging.getLogger(__name__)


class NameTaken(Exists):
    """A controller of this name exists."""

    errno = errno.EALREADY


class Attached(NamedTuple):
    """A controller, the bdevs it gives, and the options it was attached with, as RPC parameters."""

    controller: Controller
    bdevs: list[NvmeBdev]
    options: Mapping[str, Any]

    def config(self) -> tuple[str, dict[str, Any]]:
        where = {"name": self.controller.name, "trtype": "PCIe", "traddr": self.controller.address}
        return "bdev_nvme_attach_controller", {**where, **self.options}

    def to_rpc(self) -> dict[str, Any]:
        """As bdev_nvme_get_controllers shows it."""
        controller = self.controller
        return {
            "name": controller.name,
            "ctrlrs": [
                {
                    "state": controller.state.value,
                    "trid": {"trtype": "PCIe", "traddr": controller.address},
                    "cntlid": controller.info.controller_id,
                    "host": {"nqn": "", "addr": "", "svcid": ""},
                    "numa_id": controller.numa_node,
                }
            ],
        }


class NvmeControllers:
    """``submit`` runs what blocks in a pool; ``make`` makes a controller of a name and an address, not yet started."""

    def __init__(self, submit: Submit, guard: BusGuard, make: Callable[[str, str], Controller] | None = None) -> None:
        self.options: dict[str, Any] = {}
        """As bdev_nvme_set_options gave them; empty when it was never called."""
        self.hotplug: dict[str, Any] = {}
        self._submit = submit
        self._make = make or self._make_of_hardware
        self._attached: dict[str, Attached] = {}
        self._coming: dict[str, str] = {}
        """Addresses by name of those that are being attached or detached."""
        self._guard = guard

    def __iter__(self) -> Iterator[Attached]:
        return iter(list(self._attached.values()))

    def get(self, name: str) -> Attached:
        """Raises NoDevice."""
        found = self._attached.get(name)
        if found is None:
            names = ", ".join(self._attached)
            known = f"Known controllers: {names}." if names else "There are no controllers."
            raise NoDevice(f"NVMe controller {name} does not exist. {known}")
        return found

    async def attach(self, name: str, address: str, options: Mapping[str, Any], bdevs: BdevRegistry) -> list[NvmeBdev]:
        """Take a controller over; gives the new bdevs, which are not registered yet. Raises EngineError."""
        from ..nvme.pci import full_address

        address = full_address(address)
        self._check_free(name, address)
        self._coming[name] = address
        try:
            controller = self._make(name, address)
            await controller.start()
            try:
                attached = Attached(controller, self._bdevs_of(controller, bdevs), options)
            except EngineError:
                await controller.close()
                raise
            self._attached[name] = attached
        finally:
            del self._coming[name]
        return attached.bdevs

    def _make_of_hardware(self, name: str, address: str) -> Controller:
        from ..nvme.controller import Controller
        from ..nvme.device import open_device
        from ..nvme.pci import PciFunction

        numa_node = PciFunction(address).numa_node
        return Controller(
            name, address, lambda: open_device(address, self._guard), self._submit, self._times(), numa_node
        )

    def _times(self) -> Times:
        """SPDK's 0, which is no limit there, is our default: a device that hangs must not hang its initiators."""
        from ..nvme.controller import Times

        given = {
            name: self.options.get(option, 0) / 1e6
            for name, option in (("io", "timeout_us"), ("admin", "timeout_admin_us"))
        }
        return Times(**{name: seconds for name, seconds in given.items() if seconds})

    def _check_free(self, name: str, address: str) -> None:
        for taken, at in [
            *((each, self.get(each).controller.address) for each in self._attached),
            *self._coming.items(),
        ]:
            if taken == name:
                raise NameTaken(f"there is one of that name already, at {at}")
            if at == address:
                raise Exists(f"NVMe controller {name}: {address} is attached already, as {taken}")

    def _bdevs_of(self, controller: Controller, bdevs: BdevRegistry) -> list[NvmeBdev]:
        from .nvme import NvmeBdev

        made = [NvmeBdev(controller, info) for info in controller.namespaces.values()]
        for bdev in made:
            for taken in (bdev.name, bdev.uuid):
                bdevs.check_free(taken)
        if not made:
            _LOG.warning("NVMe controller %s (%s) has no namespace to serve", controller.name, controller.address)
        return made

    async def detach(self, name: str) -> None:
        """Stop a controller and give it back; nobody uses its bdevs any more. Raises NoDevice."""
        attached = self.get(name)
        del self._attached[name]
        self._coming[name] = attached.controller.address
        try:
            await attached.controller.close()
        finally:
            del self._coming[name]

    def config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The calls that make all this again, in SPDK's order."""
        if self.options:
            yield "bdev_nvme_set_options", dict(self.options)
        for attached in self._attached.values():
            yield attached.config()
        if self.hotplug:
            yield "bdev_nvme_set_hotplug", dict(self.hotplug)

    async def close(self) -> None:
        """Give all controllers back."""
        for name in list(self._attached):
            await self.detach(name)
