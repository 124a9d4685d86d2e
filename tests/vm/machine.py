# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One virtual machine: a directory below build/vm with its disks, its sockets and its console's log."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .hardware import Built, Disk, Kind, Link, Ports, command_line
from .image import KEY, ROOT, Image, LabError, image, locked
from .qmp import Qmp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PLACE: Final = ROOT / "build" / "vm"
RESULTS: Final = ROOT / "build" / "results" / "vm"
BOOT_SECONDS: Final = 600
_LONGEST_SOCKET: Final = 85
"""Bytes of a directory for sockets; with their names they end at 107."""


class Machine:
    """A machine by its name. Methods raise LabError."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.directory = PLACE / name

    # Its life

    def up(self, kind: Kind, fresh: bool = False) -> None:
        """Start it and return when ssh answers: restored from a snapshot, or with ``fresh`` booted."""
        if self.pid():
            raise LabError(f"machine {self.name}: runs already. Take it down first: scripts/vm.sh down {self.name}")
        base = image()
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self._remember(Built(kind.name, _free_ports()))
        if fresh:
            self._boot(base)
        else:
            self._restore(base, _snapshot(base, kind))

    def down(self) -> None:
        """End it and remove what it had."""
        pid = self.pid()
        if pid:
            os.kill(pid, signal.SIGKILL)
            _until(lambda: self.pid() is None, f"machine {self.name}: QEMU (pid {pid}) does not end", 60)
        shutil.rmtree(self.directory, ignore_errors=True)

    def reboot(self) -> None:
        """Boot it again, in order, and return when it is done booting."""
        self._boot_again(lambda: self.run("systemctl reboot --no-block"))

    def reset(self) -> None:
        """What a power failure does: nothing is written back, nobody is told."""
        with self.monitor() as monitor:
            self._boot_again(lambda: monitor.ask("system_reset"))

    def _boot_again(self, end: Callable[[], object]) -> None:
        # A restored machine that resets itself boots several times slower than a new process.
        pid = self.pid()
        end()
        _until(lambda: self.pid() is None, f"machine {self.name}: QEMU (pid {pid}) does not end", BOOT_SECONDS)
        (self.directory / "console").rename(self.directory / "console.before")
        self._start(image())
        self._wait_for_boot()

    def pid(self) -> int | None:
        """QEMU's, or None when it does not run."""
        try:
            pid = int((self.directory / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if f"openlun-{self.name}".encode() in command else None

    # Its disks

    def plug(self, disk: Disk) -> None:
        """Put a disk into its slot; its contents stay in the machine's directory until the machine goes."""
        file = disk.file(self.directory)
        if not file.exists():
            subprocess.run(["qemu-img", "create", "-q", "-f", "raw", file, disk.size], check=True)
        with self.monitor() as monitor:
            monitor.ask("blockdev-add", disk.backend(self.directory))
            monitor.ask("device_add", disk.controller())
        known = self._known()
        self._remember(known._replace(disks=(*known.disks, disk)))
        self._wait_for(f"test -e /sys/bus/pci/devices/{disk.address}/class", f"disk {disk.serial} does not appear")

    def unplug(self, slot: int) -> None:
        """Pull a disk. What it holds stays, and plugging it again brings it back."""
        known = self._known()
        disks = {disk.slot: disk for disk in known.disks}
        disk = disks.pop(slot, None)
        if disk is None:
            raise LabError(f"machine {self.name}: no disk is in slot {slot}")
        with self.monitor() as monitor:
            monitor.ask("device_del", {"id": disk.device})
            monitor.wait("DEVICE_DELETED", device=disk.device)
            monitor.ask("blockdev-del", {"node-name": disk.node})
        self._remember(known._replace(disks=tuple(disks.values())))

    # Its other network

    def connect(self, link: Link) -> None:
        """Plug a network card in whose other end is in another machine, and give it its addresses."""
        if len(str(self.directory)) > _LONGEST_SOCKET:
            raise LabError(
                f"machine {self.name}: {self.directory} is too long for a socket. Use a checkout nearer to /."
            )
        with self.monitor() as monitor:
            monitor.ask("netdev_add", link.backend(self.directory))
            monitor.ask("device_add", link.card())
        self._remember(self._known()._replace(link=link))
        # Written into the machine, so that it is there after a reboot, and the image stays as it is.
        addresses = "".join(f"Address={address}\n" for address in link.addresses)
        text = f"[Match]\nName=eth1\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n{addresses}"
        self.run(f"cat >/etc/systemd/network/eth1.network <<'END'\n{text}END\nnetworkctl reload")
        address = link.addresses[0].partition("/")[0]
        self._wait_for(f"ip address show dev eth1 | grep -qF {address}/", f"no link with {link.peer}")

    def monitor(self) -> Qmp:
        return Qmp(self.directory / "monitor")

    # Talking with it

    @property
    def port(self) -> int:
        """Of this host, where its sshd is."""
        return self._known().ports.ssh

    @property
    def portal(self) -> str:
        """Of this host, where its port 3260 is."""
        return f"127.0.0.1:{self._known().ports.iscsi}"

    def ssh_options(self) -> list[str]:
        options = {
            "IdentityFile": KEY,
            "IdentitiesOnly": "yes",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "GlobalKnownHostsFile": "/dev/null",
            "LogLevel": "ERROR",
            "ConnectTimeout": 400,
            "ServerAliveInterval": 60,
            "ServerAliveCountMax": 10,
            "ControlMaster": "auto",
            "ControlPersist": 60,
            "ControlPath": _control_path(self.directory),
        }
        return [word for name, value in options.items() for word in ("-o", f"{name}={value}")]

    def ssh(self, *words: str) -> list[str]:
        """The command line that runs words in it, as root."""
        return ["ssh", "-F", "none", *self.ssh_options(), "-p", str(self.port), "root@127.0.0.1", *words]

    def run(self, script: str, check: bool = True, timeout: float = 600) -> str:
        """What a script of bash printed in it. Raises LabError for a status other than 0."""
        command = self.ssh("bash", "-euo", "pipefail", "-s")
        done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=timeout, check=False)
        if check and done.returncode:
            raise LabError(
                f"machine {self.name}: status {done.returncode} of: {script}\n{done.stdout}{done.stderr}".strip()
            )
        return done.stdout

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a directory's content into it."""
        if source.is_dir():
            command, into = ["tar", "-C", str(source), "-c", "."], f"mkdir -p {target!r} && tar -x -C {target!r}"
        else:
            command, into = ["cat", str(source)], f"cat >{shlex.quote(target)}"
        with subprocess.Popen(command, stdout=subprocess.PIPE) as sender:
            done = subprocess.run(self.ssh(into), stdin=sender.stdout, check=False)
        if done.returncode or sender.returncode:
            raise LabError(f"machine {self.name}: {source} was not copied to {target}")

    def inventory(self) -> dict[str, Any]:
        """The machine as a host of Ansible's inventory."""
        return {
            "ansible_host": "127.0.0.1",
            "ansible_port": self.port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(KEY),
            "ansible_ssh_common_args": " ".join(map(shlex.quote, ["-F", "none", *self.ssh_options()])),
            "ansible_python_interpreter": "/usr/bin/python3",
            "ansible_timeout": 400,
        }

    def collect(self) -> None:
        """Leave the console's log and the journal in build/results/vm, for those who look for a reason."""
        RESULTS.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(OSError):
            shutil.copy(self.directory / "console", RESULTS / f"{self.name}.console")
        with contextlib.suppress(LabError, subprocess.TimeoutExpired, OSError):
            (RESULTS / f"{self.name}.journal").write_text(self.run("journalctl --no-pager", timeout=120))

    # How it starts

    def _boot(self, base: Image) -> None:
        self._qemu_img("create", "-f", "qcow2", *_above(base))
        self._start(base)
        self._wait_for_boot()

    def _restore(self, base: Image, snapshot: Path) -> None:
        command = ["cp", "--sparse=always", "--reflink=auto", str(snapshot), str(self.directory / "root.qcow2")]
        subprocess.run(command, check=True)
        # The snapshot names the image where it was when the snapshot was made: a checkout may have moved since.
        self._qemu_img("rebase", "-u", "-f", "qcow2", *_above(base))
        self._start(base, "-loadvm", "up")
        self._wait_for_ssh(lambda: self.run(f"date --set=@{time.time():.0f}") != "")

    def _qemu_img(self, verb: str, *options: str) -> None:
        """Do something with its disk. Raises LabError."""
        command = ["qemu-img", verb, "-q", *options, str(self.directory / "root.qcow2")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise LabError(f"machine {self.name}: qemu-img {verb} failed: {done.stderr.strip()}")

    def _start(self, base: Image, *more: str) -> None:
        command = command_line(self.name, self.directory, base, self._known())
        done = subprocess.run(
            [*command, *more], cwd=self.directory, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise LabError(f"machine {self.name}: QEMU does not start: {done.stderr.strip()}")

    def _wait_for_ssh(self, ready: Callable[[], bool]) -> None:
        def answers() -> bool:
            with contextlib.suppress(LabError, subprocess.TimeoutExpired):
                return ready()
            return False

        _until(
            answers,
            f"machine {self.name}: does not answer; its console is {self.directory}/console",
            BOOT_SECONDS,
            self,
        )

    def _wait_for_boot(self) -> None:
        # A shared connection would wait for the system that is gone.
        subprocess.run(["ssh", "-O", "exit", *self.ssh()[1:]], capture_output=True, check=False)
        self._wait_for_ssh(lambda: self.run("systemctl is-system-running --wait", check=False).strip() != "")

    def _wait_for(self, script: str, complaint: str) -> None:
        _until(
            lambda: bool(self.run(f"{{ {script}; }} && echo yes", check=False)),
            f"machine {self.name}: {complaint}",
            120,
        )

    def _known(self) -> Built:
        try:
            return Built.parse((self.directory / "built").read_text())
        except FileNotFoundError:
            raise LabError(f"machine {self.name}: there is none. Start it: scripts/vm.sh up {self.name}") from None

    def _remember(self, built: Built) -> None:
        (self.directory / "built").write_text(json.dumps(built))


def machines() -> Sequence[Machine]:
    """All that have a directory."""
    return [Machine(path.name) for path in sorted(PLACE.glob("*")) if (path / "built").exists()]


def _above(base: Image) -> Sequence[str]:
    """Options of qemu-img for a disk that holds what differs from the image."""
    return "-F", "qcow2", "-b", str(base.disk)


def _snapshot(base: Image, kind: Kind) -> Path:
    """A disk with the state of a machine of this kind, just booted. Made when it is not there."""
    file = base.directory / f"{kind.name}.qcow2"
    with locked(f"snapshot-{kind.name}"):
        if not file.exists():
            machine = Machine(f"snapshot-{kind.name}")
            try:
                machine.up(kind, fresh=True)
                machine.run("systemctl is-system-running --wait || true; sync; rm -f /var/log/journal/*/*@*")
                with machine.monitor() as monitor:
                    monitor.human("savevm up")
                    monitor.ask("quit")
                _until(lambda: machine.pid() is None, f"machine {machine.name}: QEMU does not quit", 60)
                (machine.directory / "root.qcow2").rename(file)
            finally:
                machine.down()
    return file


def _until(condition: Callable[[], bool], complaint: str, seconds: float, machine: Machine | None = None) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if machine is not None and machine.pid() is None:
            raise LabError(f"machine {machine.name}: QEMU has ended; its console was {machine.directory}/console")
        if time.monotonic() > deadline:
            raise LabError(f"{complaint} (waited {seconds} s)")
        time.sleep(0.5)


def _free_ports() -> Ports:
    with socket.socket() as one, socket.socket() as another:
        for each in (one, another):
            each.bind(("127.0.0.1", 0))
        return Ports(one.getsockname()[1], another.getsockname()[1])


def _control_path(directory: Path) -> str:
    """ssh makes a socket there, so it must be short: in the machine's directory where that is."""
    path = str(directory / "ssh")
    return path if len(path) < _LONGEST_SOCKET else "none"
