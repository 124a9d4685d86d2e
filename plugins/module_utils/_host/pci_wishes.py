# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices as they are declared: by address, serial number, model, WWID or class, with the driver they get."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_devices import USER_DRIVERS, Device

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Entry

KERNEL: Final = "kernel"
AUTO: Final = "auto"
DRIVERS: Final = (AUTO, *USER_DRIVERS, KERNEL)
SELECTORS: Final = ("address", "serial", "model", "wwid", "class")

_ADDRESS: Final = re.compile(r"(?:([0-9a-f]{4,8}):)?([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])")
_CLASS: Final = re.compile(r"(?:0x)?([0-9a-f]{2}|[0-9a-f]{4}|[0-9a-f]{6})")
_CLASSES: Final = {"nvme": "0108", "sata": "0106", "sas": "0107", "storage": "01"}
"""Names for codes of classes, of which the first digits may be left out behind."""


class Selector(NamedTuple):
    """Which devices are meant, by everything that is given; ``kind`` are the first digits of their class."""

    address: str = ""
    serial: str = ""
    model: str = ""
    wwid: str = ""
    kind: str = ""

    def __str__(self) -> str:
        names = ("address", "serial", "model", "WWID", "class")
        return " and ".join(f"{name} {value}" for name, value in zip(names, self) if value)

    def matches(self, device: Device) -> bool:
        return (
            self.address in ("", device.address)
            and self.serial in ("", device.serial)
            and self.model in ("", device.model)
            and (not self.wwid or self.wwid in device.wwids)
            and f"{device.kind:06x}".startswith(self.kind)
        )

    def remembered(self, known: Mapping[str, Entry]) -> list[str]:
        """Addresses of what is remembered and meant, also when it is not there any more."""
        return [
            address
            for address, entry in known.items()
            if self.address in ("", address)
            and self.serial in ("", entry.serial)
            and self.model in ("", entry.model)
            and (not self.wwid or self.wwid in entry.wwids.split())
            and not self.kind
        ]


class Wish(NamedTuple):
    """A declaration. ``wipe_ok_serial`` is the serial number of the disk whose content may be given up."""

    selector: Selector
    driver: str
    wipe_ok_serial: str = ""


def parse_wish(option: Mapping[str, Any]) -> Wish:
    """An element of the option ``devices``. Raises HostError."""
    given = {name: str(option[name]).strip() for name in SELECTORS if option.get(name)}
    if not given:
        raise HostError(f"devices: an element names no device. Give it one of {', '.join(SELECTORS)}.")
    selector = Selector(
        parse_address(given.get("address", "")),
        given.get("serial", ""),
        given.get("model", ""),
        given.get("wwid", ""),
        _kind(given.get("class", "")),
    )
    driver = option.get("driver") or AUTO
    if driver not in DRIVERS:
        raise HostError(f"devices: {selector}: there is no driver {driver}. Choose of {', '.join(DRIVERS)}.")
    return Wish(selector, driver, str(option.get("wipe_ok_serial") or "").strip())


def parse_address(text: str) -> str:
    """An address in full; empty for an empty text. Raises HostError."""
    match = _ADDRESS.fullmatch(text.lower())
    if text and not match:
        raise HostError(f"devices: {text!r} is no PCI address. Write it as lspci -D does, such as 0000:03:00.0.")
    return f"{match[1] or '0000'}:{match[2]}" if match else ""


def _kind(text: str) -> str:
    match = _CLASS.fullmatch(_CLASSES.get(text.lower(), text.lower()))
    if text and not match:
        raise HostError(
            f"devices: {text!r} is no class of PCI devices. Write its code, such as 0108, or one of "
            f"{', '.join(_CLASSES)}."
        )
    return match[1] if match else ""


def chosen(wishes: Iterable[Wish], devices: Mapping[str, Device]) -> tuple[dict[str, Wish], list[Wish]]:
    """The declaration of each device by its address, and those that match none. Raises HostError when two differ."""
    found: dict[str, Wish] = {}
    missing = []
    for wish in wishes:
        matching = [device for device in devices.values() if wish.selector.matches(device)]
        if wish.selector.serial and len(matching) > 1:
            names = ", ".join(map(str, matching))
            raise HostError(f"devices: {wish.selector} is not unique, but that of {names}. Name the address, too.")
        if not matching:
            missing.append(wish)
        for device in matching:
            other = found.setdefault(device.address, wish)
            if other.driver != wish.driver:
                raise HostError(
                    f"{device}: is declared twice, with driver {other.driver} by {other.selector} and with driver "
                    f"{wish.driver} by {wish.selector}. Leave one of them out."
                )
            found[device.address] = other._replace(wipe_ok_serial=other.wipe_ok_serial or wish.wipe_ok_serial)
    return found, missing
