# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""PCI devices and their drivers: which one a device has, and how it gets another one. A program for the boot, too.

This file is copied to the host as it is, so it needs the standard library only. Started as a program it binds the
devices of the file that is named, before anybody has looked at their disks: no udev rule ran, nothing is mounted.

Source: Documentation/ABI/testing/sysfs-bus-pci (``driver_override``, ``drivers_probe``, ``unbind``).
"""

from __future__ import annotations

import configparser
import contextlib
import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, Callable, NamedTuple

DEVICES = "/sys/bus/pci/devices"
DRIVERS = "/sys/bus/pci/drivers"
_BELOW = re.compile(r"/[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]/")
"""In the path of what is behind a bridge, a device of its own."""
_UNKNOWN = ("", "(null)", "(efault)")
"""What the kernel shows of texts that it does not have, or not yet."""
_PATIENCE = 60.0
"""Seconds that the kernel's driver may take to make a disk's acquaintance."""
_DISKS = 5.0
"""Seconds that its namespaces may take after that."""
_PAUSE = 0.1


class Entry(NamedTuple):
    """A device that has been taken from the kernel. ``id`` is vendor:device; unknown texts are empty."""

    driver: str
    id: str
    serial: str = ""
    model: str = ""
    wwids: str = ""


class Refused(Exception):
    """A device cannot be moved: the end of a sentence that begins with it."""


def parse(text: str) -> dict[str, Entry]:
    """Entries by address, from the text of the file. Raises configparser.Error."""
    parser = _parser()
    parser.read_string(text)
    return {
        address: Entry(**{field: parser.get(address, field, fallback="") for field in Entry._fields})
        for address in parser.sections()
    }


def render(entries: dict[str, Entry]) -> str:
    """The text that parse() reads."""
    return "\n".join(
        f"[{address}]\n" + "".join(f"{name} = {value}\n" for name, value in entry._asdict().items() if value)
        for address, entry in sorted(entries.items())
    )


def _parser() -> configparser.ConfigParser:
    return configparser.ConfigParser(
        interpolation=None, delimiters=("=",), comment_prefixes=("#",), default_section="", empty_lines_in_values=False
    )


def tell(path: str, text: str) -> None:
    """Write to a file of the kernel. Raises OSError: the kernel's answer has a meaning."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


class Bus:
    """The PCI devices of a host. ``root`` is where its file tree begins, ``teller`` writes to the kernel."""

    def __init__(self, root: str = "/", teller: Callable[[str, str], Any] = tell) -> None:
        self._root = root
        self._tell = teller

    def path(self, *parts: str) -> str:
        return os.path.join(self._root, "/".join(parts).lstrip("/"))

    def names(self, *parts: str) -> list[str]:
        try:
            return sorted(os.listdir(self.path(*parts)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, *parts: str) -> str:
        """A file of the kernel as one line, with what is printable of it; empty when it says nothing."""
        try:
            with open(self.path(*parts), encoding="utf-8", errors="replace") as file:
                text = "".join(filter(str.isprintable, file.read().strip())).strip()
        except OSError:
            return ""
        return "" if text in _UNKNOWN else text

    def exists(self, address: str) -> bool:
        return os.path.isdir(self.path(DEVICES, address))

    def driver(self, address: str) -> str:
        """Its name; empty when the device has none."""
        return self._link(DEVICES, address, "driver")

    def _link(self, *parts: str) -> str:
        try:
            return os.path.basename(os.readlink(self.path(*parts)))
        except OSError:
            return ""

    def id(self, address: str) -> str:
        return ":".join(self.read(DEVICES, address, name)[2:] for name in ("vendor", "device"))

    def controllers(self, address: str) -> list[str]:
        """The kernel's names of NVMe controllers: nvme0."""
        return self.names(DEVICES, address, "nvme")

    def serial(self, address: str) -> str:
        """Of an NVMe controller, or of the first disk that has one."""
        places = [f"{DEVICES}/{address}/nvme/{name}" for name in self.controllers(address)]
        places += [f"/sys/block/{name}" for name in self.disks(address)]
        return next(filter(None, (self.read(place, "serial") for place in places)), "")

    def disks(self, address: str) -> list[str]:
        """Names of the block devices of a device, without partitions."""
        place = os.path.realpath(self.path(DEVICES, address))
        mine = set(self.controllers(address))
        found = []
        for name in self.names("/sys/block"):
            real = os.path.realpath(self.path("/sys/block", name))
            # Namespaces with several ways to them belong to the subsystem, and a hidden one to each controller.
            subsystem = os.path.dirname(real) if "/nvme-subsystem/" in real else ""
            shared = bool(subsystem) and not mine.isdisjoint(os.listdir(subsystem))
            own = real.startswith(place + "/") and not _BELOW.search(real, len(place))
            if (own or shared) and self.read("/sys/block", name, "hidden") != "1":
                found.append(name)
        return found

    def wait_until_known(self, address: str, seconds: float = _PATIENCE) -> None:
        """Until the kernel's driver has asked the device who it is and which disks it has, or the time is over."""
        deadline = time.monotonic() + seconds
        while self.driver(address) and self._states(address) - {"live", "dead"} and time.monotonic() < deadline:
            time.sleep(_PAUSE)
        # Disks come a moment after that, if there are any.
        deadline = min(deadline, time.monotonic() + _DISKS)
        while self._states(address) == {"live"} and not self.disks(address) and time.monotonic() < deadline:
            time.sleep(_PAUSE)

    def _states(self, address: str) -> set[str]:
        """Of its NVMe controllers; one that nobody says anything of is new."""
        names = self.controllers(address)
        return {self.read(DEVICES, address, "nvme", name, "state") for name in names} or {"new"}

    @contextlib.contextmanager
    def claimed(self, address: str) -> Iterator[None]:
        """Nobody can mount or otherwise claim a disk of the device meanwhile. Raises Refused when somebody has."""
        with contextlib.ExitStack() as stack:
            for name in self.disks(address):
                try:
                    stack.callback(os.close, self.claim(name))
                except OSError as error:
                    why = "is in use" if error.errno == errno.EBUSY else f"cannot be opened ({error.strerror})"
                    raise Refused(f"/dev/{name} {why}") from error
            yield

    def claim(self, name: str) -> int:
        """A descriptor of a disk that is open for nobody else, open(2) O_EXCL. Raises OSError: EBUSY."""
        return os.open(self.path("/dev", name.replace("!", "/")), os.O_RDONLY | os.O_EXCL | os.O_CLOEXEC)

    def move(self, address: str, driver: str) -> None:
        """Unbind a device and have it probed by ``driver``, or by the kernel's own when that is empty. Raises OSError.

        Whether it was bound is to be asked afterwards: a driver may refuse without a word.
        """
        self.override(address, driver)
        self.unbind(address)
        self._tell(self.path("/sys/bus/pci/drivers_probe"), address)

    def unbind(self, address: str) -> None:
        """Leave a device without a driver. Raises OSError."""
        bound = self.driver(address)
        if bound:
            self._tell(self.path(DRIVERS, bound, "unbind"), address)

    def override(self, address: str, driver: str) -> None:
        """Say which driver alone may have a device; all may when it is empty. Raises OSError."""
        self._tell(self.path(DEVICES, address, "driver_override"), driver + "\n")


def take_at_boot(bus: Bus, address: str, entry: Entry) -> None:
    """Bind a device as the entry says, if it is still the same one and its disk free. Raises Refused and OSError."""
    if not bus.exists(address):
        raise Refused("there is no such device")
    if bus.id(address) != entry.id:
        raise Refused(f"another device, {bus.id(address)}, is there instead of {entry.id}")
    if bus.driver(address) == entry.driver:
        return
    _modprobe(entry.driver)
    if not bus.driver(address):
        _modprobe(bus.read(DEVICES, address, "modalias"))
    if bus.driver(address) == "nvme":  # it knows the serial number; without it nobody does
        bus.wait_until_known(address)
    serial = bus.serial(address)
    if serial and entry.serial and serial != entry.serial:
        raise Refused(f"another disk, serial {serial}, is there instead of serial {entry.serial}")
    with bus.claimed(address):
        bus.move(address, entry.driver)
    if bus.driver(address) != entry.driver:
        bus.move(address, "")
        raise Refused(f"the kernel did not do it; it has {bus.driver(address) or 'no driver'} now")


def _modprobe(module: str) -> None:
    subprocess.run(["modprobe", "--quiet", "--", module], stdin=subprocess.DEVNULL, check=False)


def main(words: Iterable[str], bus: Bus | None = None) -> int:
    """Bind the devices of the named files; a sentence for each one that is not."""
    bus = bus or Bus()
    status = 0
    for file in words:
        with open(file, encoding="utf-8") as record:
            entries = parse(record.read())
        for address, entry in entries.items():
            try:
                take_at_boot(bus, address, entry)
            except (Refused, OSError) as error:
                sys.stderr.write(f"{address} (serial {entry.serial}): not bound to {entry.driver} because {error}.\n")
                status = 1
    return status


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
