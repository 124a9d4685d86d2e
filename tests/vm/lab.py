# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of the virtual machines."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .hardware import DISK_SIZE, KINDS, SLOTS, Disk, Link
from .image import ROOT, LabError, image
from .machine import Machine, machines


def main(words: list[str] | None = None) -> int:
    options = _parser().parse_args(words)
    try:
        _COMMANDS[options.command](options)
    except LabError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


def _build(options: argparse.Namespace) -> None:
    del options
    sys.stdout.write(f"{image().directory}\n")


def _up(options: argparse.Namespace) -> None:
    machine = Machine(options.name)
    try:
        machine.up(KINDS[options.kind], options.fresh)
        for slot in range(options.disks):
            machine.plug(Disk(slot, f"deadbeef{slot}"))
    except BaseException:
        machine.collect()
        machine.down()
        raise
    sys.stdout.write(f"machine {machine.name}: ssh on port {machine.port}, iSCSI on {machine.portal}\n")


def _ssh(options: argparse.Namespace) -> None:
    command = Machine(options.name).ssh(*options.words)
    os.execvp(command[0], command)


def _put(options: argparse.Namespace) -> None:
    Machine(options.name).put(options.source, options.target)


def _push(options: argparse.Namespace) -> None:
    """The plugins, where `import ansible_collections.openlun.iscsi…` finds them, and the engine's archive."""
    machine = Machine(options.name)
    machine.put(ROOT / "plugins", "/root/ansible_collections/openlun/iscsi/plugins")
    archive = ROOT / "build" / "openlun-iscsi.pyz"
    if archive.exists():
        machine.put(archive, "/root/openlun-iscsi.pyz")


def _plug(options: argparse.Namespace) -> None:
    serial = options.serial or f"deadbeef{options.slot}"
    disk = Disk(options.slot, serial, options.size, options.block_size)
    Machine(options.name).plug(disk)
    sys.stdout.write(f"{disk.address}\n")


def _unplug(options: argparse.Namespace) -> None:
    Machine(options.name).unplug(options.slot)


def _link(options: argparse.Namespace) -> None:
    """Both ends; nothing else is on that network."""
    for number, (name, peer) in enumerate(((options.one, options.other), (options.other, options.one)), 1):
        link = Link(peer, number)
        Machine(name).connect(link)
        sys.stdout.write(f"machine {name}: {' '.join(link.addresses)}\n")


def _reboot(options: argparse.Namespace) -> None:
    machine = Machine(options.name)
    (machine.reset if options.hard else machine.reboot)()


def _inventory(options: argparse.Namespace) -> None:
    hosts = {name: Machine(name).inventory() for name in options.names}
    sys.stdout.write(json.dumps({"all": {"hosts": hosts}}, indent=2) + "\n")


def _collect(options: argparse.Namespace) -> None:
    for machine in [Machine(name) for name in options.names] or machines():
        machine.collect()


def _down(options: argparse.Namespace) -> None:
    for machine in [Machine(name) for name in options.names] or machines():
        machine.down()


def _list(options: argparse.Namespace) -> None:
    del options
    for machine in machines():
        sys.stdout.write(f"{machine.name}\tpid {machine.pid()}\tssh {machine.port}\tiSCSI {machine.portal}\n")


_COMMANDS = {
    "build": _build,
    "up": _up,
    "ssh": _ssh,
    "put": _put,
    "push": _push,
    "plug": _plug,
    "unplug": _unplug,
    "link": _link,
    "reboot": _reboot,
    "inventory": _inventory,
    "collect": _collect,
    "down": _down,
    "list": _list,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="scripts/vm.sh", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("build", help="build the image, when it is not in the cache")
    commands.add_parser("list", help="the machines there are")

    up = commands.add_parser("up", help="start a machine")
    up.add_argument("name")
    up.add_argument("--kind", choices=KINDS, default="uio", help="vfio: with an IOMMU (default: uio, without)")
    up.add_argument("--fresh", action="store_true", help="boot instead of restoring the snapshot")
    up.add_argument("--disks", type=int, default=2, metavar="N", help="NVMe disks to plug in (default: 2)")

    ssh = commands.add_parser("ssh", help="run a command as root in it, or a shell")
    ssh.add_argument("name")
    ssh.add_argument("words", nargs=argparse.REMAINDER)

    put = commands.add_parser("put", help="copy a file, or what is in a directory, into it")
    put.add_argument("name")
    put.add_argument("source", type=Path)
    put.add_argument("target")

    push = commands.add_parser("push", help="copy the collection's plugins and the engine into its /root")
    push.add_argument("name")

    plug = commands.add_parser("plug", help="plug an NVMe disk in; prints its PCI address")
    plug.add_argument("name")
    plug.add_argument("slot", type=int, choices=range(SLOTS))
    plug.add_argument("--serial")
    plug.add_argument("--size", default=DISK_SIZE)
    plug.add_argument("--block-size", type=int, default=512, choices=(512, 4096))

    unplug = commands.add_parser("unplug", help="pull an NVMe disk; plugging it again brings its data back")
    unplug.add_argument("name")
    unplug.add_argument("slot", type=int, choices=range(SLOTS))

    link = commands.add_parser(
        "link", help="a network between two machines: 10.9.0.1 and fd09::1, 10.9.0.2 and fd09::2"
    )
    link.add_argument("one")
    link.add_argument("other")

    reboot = commands.add_parser("reboot", help="boot it again; returns when ssh answers")
    reboot.add_argument("name")
    reboot.add_argument("--hard", action="store_true", help="as a power failure does")

    inventory = commands.add_parser("inventory", help="print machines as an inventory of Ansible")
    inventory.add_argument("names", nargs="+")
    for name, text in (("collect", "save console and journal in build/results/vm"), ("down", "end machines")):
        some = commands.add_parser(name, help=f"{text}: those named, or all")
        some.add_argument("names", nargs="*")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
