# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What remembers the devices that were taken from the kernel, and takes them again at boot.

One file has them all, and a unit of systemd runs a program before udev starts, when nobody has looked at a disk yet.
Rules of udev would come too late for a kernel whose initial RAM disk has the driver of NVMe. They would also not know
the serial number, without which another disk at the same address would be taken.
"""

from __future__ import annotations

import configparser
import hashlib
import inspect
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._host import pci_bus, unit_links
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.pci_bus import Entry, parse, render

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.owned_files import OwnedFiles
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.steps import Step
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host

RECORD: Final = "/etc/openlun-iscsi-pci.conf"
UNTIL_BOOT: Final = "/run/openlun-iscsi-pci.conf"
PROGRAM: Final = "/usr/lib/openlun-iscsi-pci.py"
"""In /usr, which is there before any file system is mounted."""
UNIT: Final = f"{unit_links.DIRECTORY}/openlun-iscsi-pci.service"
_TARGET: Final = "sysinit.target"
_PYTHON: Final = "/usr/bin/python3"


class Record(NamedTuple):
    """Devices by address: those for every boot, and those until the next one."""

    lasting: Mapping[str, Entry]
    passing: Mapping[str, Entry]

    @property
    def all(self) -> dict[str, Entry]:
        return {**self.passing, **self.lasting}

    def without(self, addresses: set[str]) -> Record:
        return Record(*({at: entry for at, entry in part.items() if at not in addresses} for part in self))

    def having(self, entries: Mapping[str, Entry], persistent: bool) -> Record:
        """With these instead of what it has about the same addresses and the same disks."""
        serials = {entry.serial for entry in entries.values() if entry.serial}
        moved = {address for address, entry in self.all.items() if entry.serial in serials}
        rest = self.without(moved | set(entries))
        if persistent:
            return rest._replace(lasting={**rest.lasting, **entries})
        return rest._replace(passing={**rest.passing, **entries})


class BootFiles:
    """The files of one host."""

    def __init__(self, host: Host, files: OwnedFiles, run: Run) -> None:
        self._host = host
        self._files = files
        self._run = run

    def record(self) -> Record:
        """Raises HostError when a file is not ours or makes no sense."""
        return Record(*(self._read(path) for path in (RECORD, UNTIL_BOOT)))

    def _read(self, path: str) -> dict[str, Entry]:
        try:
            return parse(self._files.text(path) or "")
        except configparser.Error as error:
            reason = " ".join(str(error).split())
            raise HostError(f"{path}: cannot be understood ({reason}). Correct it, or move it away.") from error

    def wanted(self, record: Record) -> dict[str, str | None]:
        """Path to text below the marker, None for a file that is not to be there."""
        boots = bool(record.lasting)
        return {
            RECORD: render(dict(record.lasting)) or None,
            UNTIL_BOOT: render(dict(record.passing)) or None,
            PROGRAM: inspect.getsource(pci_bus) if boots else None,
            UNIT: _unit_text(self._python()) if boots else None,
        }

    def bring(self, record: Record) -> Iterator[Step]:
        """Steps to files that say this. Raises HostError."""
        wanted = self.wanted(record)
        if wanted[UNIT] is None:
            yield from unit_links.unlink(self._host, UNIT, _TARGET)
        steps = list(self._files.bring(wanted))
        yield from steps
        if wanted[UNIT] is not None:
            yield from unit_links.link(self._host, UNIT, _TARGET)
        if any(step.object == f"file {UNIT}" for step in steps):
            if wanted[UNIT] is None:  # a unit that was started at boot would be remembered without its file
                yield from unit_links.stop(self._host, self._run, UNIT)
            yield from unit_links.reload(self._host, self._run)

    def texts(self) -> dict[str, str | None]:
        """What they say now, for a diff."""
        return self.shown(self._files.texts((RECORD, UNTIL_BOOT, PROGRAM, UNIT)))

    def shown(self, texts: Mapping[str, str | None]) -> dict[str, str | None]:
        """The program by its digest: nobody wants to read it in a diff."""
        program = texts[PROGRAM]
        digest = program and f"SHA-256 {hashlib.sha256(program.encode()).hexdigest()}"
        return {**texts, PROGRAM: digest}

    def _python(self) -> str:
        """The system's Python rather than the one of a virtual environment, which may not be there at boot."""
        return _PYTHON if os.path.exists(self._host.path(_PYTHON)) else sys.executable


def _unit_text(python: str) -> str:
    return f"""\
[Unit]
Description=Take PCI devices of openlun.iscsi from the kernel
DefaultDependencies=no
After=systemd-journald.socket systemd-udevd-kernel.socket
Before=systemd-udevd.service systemd-udev-trigger.service {_TARGET}

[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=300
ExecStart={python} -I {PROGRAM} {RECORD}

[Install]
WantedBy={_TARGET}
"""
