# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit of SPDK's target, as text. Directives: systemd.exec(5), systemd.service(5)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from .unit import quoted, unit_file

if TYPE_CHECKING:
    from .spdk import SpdkSettings

_AFTER: Final = "network-online.target local-fs.target remote-fs.target"
_HUGEPAGES: Final = "systemd-sysctl.service systemd-tmpfiles-setup.service dev-hugepages.mount"
"""What reserves hugepages at boot, and where they are mounted."""

_HARDENING: Final = (
    # DPDK talks to devices by /sys and /dev and reads physical addresses from /proc: those stay as they are.
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "full"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("LockPersonality", "yes"),
    ("RestrictNamespaces", "yes"),
    ("RestrictSUIDSGID", "yes"),
)


def spdk_unit_text(settings: SpdkSettings) -> str:
    """The whole unit file."""
    directories = () if settings.layout.home else _system_directories()
    group = settings.group
    service = [
        # iscsi_tgt does not tell systemd when it is ready; whoever starts it asks its socket.
        ("Type", "exec"),
        ("ExecStart", " ".join(quoted(word) for word in settings.command())),
        ("Restart", "on-failure"),
        ("RestartSec", "1"),
        ("TimeoutStopSec", "60"),
        *((("Group", group),) if group is not None else ()),
        # The socket gets what the mask leaves: its group may use it, or root alone.
        ("UMask", "0007" if group is not None else "0077"),
        *directories,
        ("LimitNOFILE", "65536"),
        ("LimitMEMLOCK", "infinity"),
        *_HARDENING,
    ]
    wants = "network-online.target dev-hugepages.mount" if settings.hugepages else "network-online.target"
    unit = [
        ("Description", "SPDK iSCSI target"),
        ("Documentation", "https://spdk.io/doc/iscsi.html"),
        ("Wants", wants),
        ("After", f"{_AFTER} {_HUGEPAGES}" if settings.hugepages else _AFTER),
        ("StartLimitIntervalSec", "60"),
        ("StartLimitBurst", "5"),
    ]
    return unit_file("openlun.iscsi.spdk_engine", unit, service)


def _system_directories() -> tuple[tuple[str, str], ...]:
    return (
        ("RuntimeDirectory", "openlun-iscsi-spdk"),
        ("RuntimeDirectoryMode", "0750"),
        ("StateDirectory", "openlun-iscsi-spdk"),
        ("StateDirectoryMode", "0700"),
    )
