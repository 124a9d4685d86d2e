# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The systemd unit of the engine, as text. Directives: systemd.exec(5), systemd.service(5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from .settings import Settings

Directives = Sequence["tuple[str, str]"]

_HARDENING: Final = (
    # The engine opens disks and files wherever an administrator put them, so /home, /srv and /dev stay visible;
    # which of them it may use is decided by their ownership.
    ("NoNewPrivileges", "yes"),
    ("ProtectSystem", "full"),
    ("ProtectKernelTunables", "yes"),
    ("ProtectKernelModules", "yes"),
    ("ProtectKernelLogs", "yes"),
    ("ProtectControlGroups", "yes"),
    ("ProtectHostname", "yes"),
    ("ProtectProc", "invisible"),
    ("LockPersonality", "yes"),
    ("RestrictAddressFamilies", "AF_UNIX AF_INET AF_INET6 AF_NETLINK"),
    ("RestrictNamespaces", "yes"),
    ("RestrictRealtime", "yes"),
    ("RestrictSUIDSGID", "yes"),
    ("SystemCallArchitectures", "native"),
    # iSCSI's own port is 860 (RFC 7143 §5.2): the one privilege that is needed.
    ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
    ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
)

_NOT_WITH_DEVICES: Final = frozenset(
    # A driver in user space configures its device in /sys, and finds the physical addresses of its memory in /proc.
    ("ProtectKernelTunables", "ProtectKernelModules", "ProtectProc", "CapabilityBoundingSet", "AmbientCapabilities")
)


def unit_text(settings: Settings) -> str:
    """The whole unit file."""
    user = settings.user
    hardening = [each for each in _HARDENING if not (settings.privileged and each[0] in _NOT_WITH_DEVICES)]
    service = [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", " ".join(quoted(word) for word in settings.command())),
        # The log level, and the certificates and credentials of the management over HTTP, are read again.
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("Restart", "on-failure"),
        ("RestartSec", "1"),
        # The main process tells its workers to stop, when their initiators have been asked to log out.
        ("KillMode", "mixed"),
        ("TimeoutStopSec", str(60 + (settings.drain_seconds or 0))),
        ("WatchdogSec", "60"),
        # root is named, too: then systemd gives it the state directory, and takes that back for another user.
        ("User", user),
        ("Group", user),
        *((("SupplementaryGroups", " ".join(settings.groups)),) if settings.groups else ()),
        ("UMask", "0077"),
        *(() if settings.layout.home else _system_directories()),
        ("LimitNOFILE", "65536"),
        *((("LimitMEMLOCK", "infinity"),) if settings.privileged else ()),
        *hardening,
    ]
    unit = [
        ("Description", "openlun.iscsi target engine"),
        ("Documentation", "https://github.com/openlun/iscsi"),
        ("Wants", "network-online.target"),
        ("After", "network-online.target local-fs.target remote-fs.target"),
        # A target that fails again and again is left stopped for people to look at.
        ("StartLimitIntervalSec", "60"),
        ("StartLimitBurst", "5"),
    ]
    return unit_file("openlun.iscsi.engine", unit, service)


def unit_file(module: str, unit: Directives, service: Directives) -> str:
    """A unit that starts at boot, written by ``module``."""
    sections = (("Unit", unit), ("Service", service), ("Install", [("WantedBy", "multi-user.target")]))
    text = "\n".join(f"[{name}]\n" + "".join(f"{key}={value}\n" for key, value in pairs) for name, pairs in sections)
    return f"# Managed by Ansible, module {module}: changes are lost at its next run.\n{text}"


def _system_directories() -> tuple[tuple[str, str], ...]:
    return (
        ("RuntimeDirectory", "openlun-iscsi"),
        ("RuntimeDirectoryMode", "0750"),
        ("StateDirectory", "openlun-iscsi"),
        ("StateDirectoryMode", "0700"),
    )


def quoted(word: str) -> str:
    """A word of ExecStart, systemd.service(5) "COMMAND LINES": % and $ are expanded, blanks separate."""
    word = word.replace("%", "%%").replace("$", "$$")
    if word and not any(character in word for character in " \t\"'\\;"):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
