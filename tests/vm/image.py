# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The disk image of the virtual machines: Debian 12 with everything a test needs, for the guests have no network.

The image lies in the cache under a name made of its contents' description: it is built again exactly when that changes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / "build" / "cache" / "vm"
KEY: Final = CACHE / "key"

SUITE: Final = "bookworm"
SIZE: Final = "4G"
PACKAGES: Final = (
    # the system
    *("linux-image-amd64", "initramfs-tools", "zstd", "systemd-sysv", "udev", "dbus", "kmod", "openssh-server"),
    *("iproute2", "procps", "psmisc", "sudo", "python3", "python3-apt"),
    # disks, and what makes them be in use
    *("nvme-cli", "pciutils", "sg3-utils", "e2fsprogs", "xfsprogs", "btrfs-progs", "dosfstools"),
    *("fdisk", "gdisk", "parted", "lvm2", "mdadm", "cryptsetup-bin", "bcache-tools"),
    # initiators
    *("open-iscsi", "multipath-tools", "libiscsi-bin"),
)
INITRD_MODULES: Final = ("virtio_pci", "virtio_blk", "ext4", "crc32c")
FILES: Final = {
    "etc/hostname": "vm\n",
    "etc/hosts": "127.0.0.1 localhost vm\n::1 localhost\n",
    "etc/fstab": "/dev/vda / ext4 defaults 0 1\n",
    "etc/systemd/network/eth0.network": "[Match]\nName=eth0\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n"
    "LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    # Under emulation a service may take minutes to start.
    "etc/systemd/system.conf.d/slow.conf": "[Manager]\nDefaultTimeoutStartSec=600\nDefaultDeviceTimeoutSec=600\n",
    "etc/systemd/journald.conf.d/keep.conf": "[Journal]\nStorage=persistent\nSystemMaxUse=32M\n",
    "etc/ssh/sshd_config.d/lab.conf": "UseDNS no\nLoginGraceTime 600\nMaxStartups 100\n",
}
# Nothing in the background may disturb what a test looks at.
MASKED: Final = (
    *(
        "apt-daily.timer",
        "apt-daily-upgrade.timer",
        "dpkg-db-backup.timer",
        "e2scrub_all.timer",
        "e2scrub_reap.service",
    ),
    *("fstrim.timer", "multipathd.service", "mdcheck_start.timer", "mdcheck_continue.timer", "mdmonitor-oneshot.timer"),
    *("systemd-timesyncd.service", "systemd-networkd-wait-online.service", "systemd-firstboot.service"),
)
ENABLED: Final = ("systemd-networkd.service",)


class LabError(Exception):
    """The lab cannot do what was asked: one sentence, ready to be shown."""


class Image(NamedTuple):
    """Files that start a machine: a disk, a kernel, an initial RAM disk."""

    directory: Path

    @property
    def disk(self) -> Path:
        return self.directory / "root.qcow2"

    @property
    def kernel(self) -> Path:
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        return self.directory / "initrd.img"


def digest() -> str:
    """What the image is made of, in 16 digits."""
    key = ensure_key().with_suffix(".pub").read_text()
    described = (SUITE, SIZE, PACKAGES, INITRD_MODULES, FILES, MASKED, ENABLED, _EARLY, _LATE, key)
    return hashlib.sha256(repr(described).encode()).hexdigest()[:16]


def image() -> Image:
    """The image, built when it is not there: about two minutes. Raises LabError."""
    with locked("image"):
        made = Image(CACHE / f"image-{digest()}")
        if not made.directory.is_dir():
            for old in CACHE.glob("image-*"):
                shutil.rmtree(old)
            _build(made.directory)
    return made


def ensure_key() -> Path:
    """The private key of every machine's root user."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with locked("key"):
        if not KEY.exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "vm", "-f", KEY], check=True)
    return KEY


@contextlib.contextmanager
def locked(name: str) -> Iterator[None]:
    """One process at a time, for what several machines share."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(directory: Path) -> None:
    unfinished = directory.with_name(f"unfinished-{directory.name}")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    log = CACHE / "image.log"
    if os.geteuid() != 0:
        raise LabError("The virtual machines' image can only be built by root. Run the same command with sudo.")
    sys.stderr.write(f"Building the virtual machines' image (once; its output goes to {log.relative_to(ROOT)})\n")
    system, raw = unfinished / "system", unfinished / "root.raw"
    commands: tuple[list[str], ...] = (
        _bootstrap(unfinished, system),
        ["mke2fs", "-q", "-t", "ext4", "-L", "root", "-d", str(system), str(raw), SIZE],
        ["qemu-img", "convert", "-O", "qcow2", str(raw), str(unfinished / "root.qcow2")],
        ["rm", "-rf", "--one-file-system", str(system), str(raw)],
    )
    with log.open("w") as output:
        for command in commands:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(),
                check=False,
            )
            if done.returncode:
                raise LabError(f"{command[0]} failed with status {done.returncode}. Its output: {log}.")
    unfinished.rename(directory)


def _environment() -> dict[str, str]:
    return {**os.environ, "PATH": f"{os.environ['PATH']}:/usr/sbin:/sbin", "LC_ALL": "C.UTF-8"}


def _bootstrap(place: Path, system: Path) -> list[str]:
    """The command. Its hooks run with the new system's root directory as $1."""
    early = place / "early.sh"
    late = place / "late.sh"
    early.write_text(_EARLY.format(modules="\\n".join(INITRD_MODULES)))
    files = "".join(_written(path, text) for path, text in FILES.items())
    late.write_text(
        _LATE.format(
            files=files,
            key=ensure_key().with_suffix(".pub").read_text().strip(),
            enabled=" ".join(ENABLED),
            masked=" ".join(MASKED),
            place=shlex.quote(str(place)),
        )
    )
    for script in (early, late):
        script.chmod(0o755)
    return [
        "mmdebstrap",
        "--variant=minbase",
        "--format=directory",
        f"--include={','.join(PACKAGES)}",
        "--dpkgopt=force-confold",
        '--dpkgopt=path-exclude="/usr/share/doc/*"',
        '--dpkgopt=path-exclude="/usr/share/man/*"',
        '--dpkgopt=path-exclude="/usr/share/locale/*"',
        f"--essential-hook={early}",
        f"--customize-hook={late}",
        SUITE,
        str(system),
    ]


def _written(path: str, text: str) -> str:
    return f"install -D -m 644 /dev/stdin \"$1/{path}\" <<'END'\n{text}END\n"


_EARLY: Final = """\
#!/bin/sh
# Debian's virtio and ext4 are modules, so there is an initrd, and it holds nothing else.
set -e
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/modules"
printf '{modules}\\n' >"$1/etc/initramfs-tools/modules"
"""
_LATE: Final = """\
#!/bin/sh
set -e
{files}
install -d -m 700 "$1/root/.ssh"
echo '{key}' >"$1/root/.ssh/authorized_keys"
chroot "$1" systemctl enable {enabled}
chroot "$1" systemctl mask {masked}
rm -rf "$1"/var/cache/apt/archives/*.deb "$1"/var/cache/apt/*.bin "$1"/var/lib/apt/lists/*
cp "$(ls "$1"/boot/vmlinuz-* | tail -n 1)" {place}/vmlinuz
cp "$(ls "$1"/boot/initrd.img-* | tail -n 1)" {place}/initrd.img
"""
