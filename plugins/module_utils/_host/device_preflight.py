# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether bdevs of type nvme get what they need: their device from the kernel, and hugepages. Looks only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import (
    KERNEL,
    chosen,
    parse_address,
    parse_wish,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci import PciDevices, Request
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import Device
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_wishes import Wish

NVME = "nvme"


def driven_bdevs(bdevs: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that shall be there and that an engine drives itself."""
    return [bdev for bdev in bdevs if bdev.get("type") == NVME and bdev.get("state", "present") == "present"]


def device_problems(pci: PciDevices, request: Request, bdevs: Iterable[Mapping[str, Any]], pages: int) -> Iterator[str]:
    """What speaks against the devices that are declared, and what bdevs lack; ``pages`` are there or declared."""
    driven = driven_bdevs(bdevs)
    try:
        devices = pci.devices()
        declared, _missing = chosen(map(parse_wish, request.devices), devices)
    except HostError as error:
        yield str(error)
        return
    try:
        pci.plan(request, devices)
    except HostError as error:
        yield from error.details.get("problems", [str(error)])
    for bdev in driven:
        yield from _bdev_problem(bdev, devices, declared)
    if driven and not pages:
        names = ", ".join(str(bdev.get("name")) for bdev in driven)
        yield (
            f"bdev {names}: a driver in user space needs hugepages, and this host has none. "
            'Set iscsi_target_hugepages, such as {"2M": 256}.'
        )


def _bdev_problem(
    bdev: Mapping[str, Any], devices: Mapping[str, Device], declared: Mapping[str, Wish]
) -> Iterator[str]:
    try:
        address = parse_address(str(bdev.get("address") or ""))
    except HostError:
        return  # the module that makes the bdev says what is wrong
    device = devices.get(address)
    if not address:
        return
    name = f"bdev {bdev.get('name')}"
    if device is None:
        has = ", ".join(str(each) for each in devices.values() if each.is_storage) or "none"
        yield f"{name}: this host has no PCI device {address}. Its storage controllers are: {has}."
    elif address in declared and declared[address].driver == KERNEL:
        yield f"{name}: iscsi_target_pci_devices gives its device {device} back to the kernel. Choose one of both."
    elif address not in declared and not device.in_user_space:
        yield (
            f"{name}: its device {device} has {device.driver or 'no'} as its driver. Declare it in "
            "iscsi_target_pci_devices, to take it from the kernel."
        )
