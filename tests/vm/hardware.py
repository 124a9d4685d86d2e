# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine is made of, and QEMU's words for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

    from .image import Image

SLOTS: Final = 8
DISK_SIZE: Final = "384M"
"""mkfs.xfs wants 300 MB."""
_ARGUMENTS: Final = (
    "root=/dev/vda rw console=ttyS0 net.ifnames=0 quiet mitigations=off "
    "selinux=0 apparmor=0 audit=0 nowatchdog tsc=reliable"
)


class Kind(NamedTuple):
    """What a machine is made of; a snapshot belongs to one kind."""

    name: str
    memory: int  # MiB
    machine: str
    devices: tuple[str, ...] = ()
    arguments: str = ""


KINDS: Final = {
    kind.name: kind
    for kind in (
        # A DMA engine with addresses of its own, so NVMe goes through uio.
        Kind("uio", 1280, "q35"),
        # An IOMMU in front of every device, so NVMe goes through vfio.
        Kind("vfio", 4096, "q35,kernel-irqchip=split", ("intel-iommu",), "intel_iommu=on"),
    )
}


class Disk(NamedTuple):
    """An NVMe controller with one namespace, in a slot that is also its PCI bus less one."""

    slot: int
    serial: str
    size: str = DISK_SIZE
    block_size: int = 512

    @property
    def address(self) -> str:
        return f"0000:{self.slot + 1:02x}:00.0"

    @property
    def node(self) -> str:
        """QEMU's name of what it holds."""
        return f"disk{self.slot}"

    @property
    def device(self) -> str:
        """QEMU's name of the controller."""
        return f"nvme{self.slot}"

    def file(self, directory: Path) -> Path:
        return directory / f"{self.device}.raw"

    def backend(self, directory: Path) -> dict[str, Any]:
        """Arguments of QEMU's blockdev-add."""
        return {
            "driver": "raw",
            "node-name": self.node,
            "file": {"driver": "file", "filename": str(self.file(directory)), "discard": "unmap"},
            "discard": "unmap",
            "cache": {"direct": False, "no-flush": True},
        }

    def controller(self) -> dict[str, Any]:
        """Arguments of QEMU's device_add."""
        return {
            "driver": "nvme",
            "id": self.device,
            "bus": f"slot{self.slot}",
            "drive": self.node,
            "serial": self.serial,
            "logical_block_size": self.block_size,
            "physical_block_size": self.block_size,
        }


class Link(NamedTuple):
    """A network card whose other end is in another machine. ``number`` is this end's, and its host number."""

    peer: str
    number: int

    @property
    def addresses(self) -> tuple[str, str]:
        return f"10.9.0.{self.number}/24", f"fd09::{self.number}/64"

    def backend(self, directory: Path) -> dict[str, Any]:
        """Arguments of QEMU's netdev_add. Whole paths: QEMU leaves its directory when it is up."""
        places = (directory / "link", directory.with_name(self.peer) / "link")
        local, remote = ({"type": "unix", "path": str(place)} for place in places)
        return {"type": "dgram", "id": "link", "local": local, "remote": remote}

    def card(self) -> dict[str, Any]:
        """Arguments of QEMU's device_add; it takes the last slot."""
        mac = f"52:54:00:09:00:{self.number:02x}"
        bus = f"slot{SLOTS - 1}"
        return {"driver": "virtio-net-pci", "id": "linkcard", "bus": bus, "netdev": "link", "mac": mac, "romfile": ""}


class Ports(NamedTuple):
    """Of this host, which lead to the machine's."""

    ssh: int
    iscsi: int


class Built(NamedTuple):
    """What one machine has; it is kept beside its disks."""

    kind: str
    ports: Ports
    disks: tuple[Disk, ...] = ()
    link: Link | None = None

    @classmethod
    def parse(cls, text: str) -> Built:
        kind, ports, disks, link = json.loads(text)
        return cls(kind, Ports(*ports), tuple(Disk(*disk) for disk in disks), link and Link(*link))


def command_line(name: str, directory: Path, base: Image, built: Built) -> list[str]:
    """Starts QEMU, to be run in the machine's directory. It ends when the guest resets itself."""
    kind = KINDS[built.kind]
    forwards = (f"hostfwd=tcp:127.0.0.1:{port}-:{inside}" for port, inside in zip(built.ports, (22, 3260)))
    options = [
        *(("-name", f"openlun-{name}"), ("-nodefaults",), ("-no-user-config",), ("-no-reboot",), ("-display", "none")),
        *(("-machine", kind.machine), ("-accel", "tcg,thread=multi"), ("-cpu", "max"), ("-smp", "2")),
        *(("-m", f"{kind.memory}M"), ("-kernel", str(base.kernel)), ("-initrd", str(base.initrd))),
        ("-append", f"{_ARGUMENTS} {kind.arguments}".strip()),
        *(
            ("-serial", "file:console"),
            ("-qmp", "unix:monitor,server=on,wait=off"),
            ("-pidfile", "pid"),
            ("-daemonize",),
        ),
        *(("-device", device) for device in kind.devices),
        ("-device", "virtio-rng-pci"),
        ("-drive", "if=none,id=root,file=root.qcow2,format=qcow2,cache=unsafe,discard=unmap"),
        ("-device", "virtio-blk-pci,drive=root"),
        ("-netdev", f"user,id=net,restrict=on,ipv6=off,{','.join(forwards)}"),
        ("-device", "virtio-net-pci,netdev=net,romfile="),
        *(("-device", f"pcie-root-port,id=slot{n},chassis={n + 1},slot={n + 1}") for n in range(SLOTS)),
        *(("-blockdev", json.dumps(disk.backend(directory))) for disk in built.disks),
        *(("-device", json.dumps(disk.controller())) for disk in built.disks),
        *((("-netdev", json.dumps(built.link.backend(directory))),) if built.link else ()),
        *((("-device", json.dumps(built.link.card())),) if built.link else ()),
    ]
    return ["qemu-system-x86_64", *(word for option in options for word in option)]
