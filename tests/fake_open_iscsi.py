# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A host with open-iscsi in a directory: iscsiadm as it behaves, the kernel's files, the links of udev."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._host.sysfs import Host
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator import records
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.nodes import Node, by_path, parse_place
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.session_plan import Offer
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.session_text import Session
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.sessions import Sessions
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.waiting import Patience

NEW = (Path(__file__).parent / "unit" / "open_iscsi" / "debian12" / "node-record.txt").read_text()
NAMES = (Path(__file__).parent / "unit" / "open_iscsi" / "debian12" / "node-show.txt").read_text()


@dataclass
class Live:
    """A session that the kernel has, with its disks by LUN."""

    sid: int
    node: Node
    disks: dict[int, str]
    state: str = "LOGGED_IN"


@dataclass
class FakeOpenIscsi:
    """``luns`` are the bytes of each LUN of each target; ``refuses`` exit codes of logins, by portal."""

    root: Path
    luns: dict[str, dict[int, int]] = field(default_factory=dict)
    refuses: dict[str, int] = field(default_factory=dict)
    clamps: dict[str, str] = field(default_factory=dict)
    sessions: list[Live] = field(default_factory=list)
    interfaces: dict[str, dict[str, str]] = field(default_factory=lambda: {"default": {}, "iser": {}})
    commands: list[list[str]] = field(default_factory=list)
    slow: int = 0
    """So often the links of udev are looked for in vain."""

    def __post_init__(self) -> None:
        self.host = Host(str(self.root))
        self._sid = 0
        self.place = "/etc/iscsi"
        for directory in ("dev/disk/by-path", "proc/self/ns", "etc/iscsi", "sys/block", "sys/class"):
            (self.root / directory).mkdir(parents=True, exist_ok=True)
        (self.root / "sys/class/block").symlink_to("../block")
        (self.root / "proc/self/ns/mnt").symlink_to("mnt:[self]")

    # What the modules do with it

    def bring(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        given = {"state": "present", "wait": 3, "rescan": True, **options}
        sessions = Sessions(self.host, self.run, self.ask, lambda _node: 1, lambda _node: None)
        clock = iter(range(1000))
        iscsiadm = sessions.patience._iscsiadm
        sessions.patience = Patience(self.host, iscsiadm, self.run, lambda: next(clock), lambda _seconds: None)
        return sessions.bring(given, apply=not check)

    def ask(self, session: Session) -> Offer:
        luns = self.luns[session.target]
        return Offer(frozenset(luns), {unit.disk: luns[unit.lun] for unit in session.disks if unit.lun in luns})

    def changing(self) -> list[list[str]]:
        """The commands that changed something."""
        acts = {"new", "delete", "update", "--login", "--logout", "--rescan"}
        return [command for command in self.commands if acts & set(command)]

    def record(self, portal: str, target: str) -> dict[str, str]:
        node = Node(target, parse_place(portal)[0])
        found = records.Records(self.host).find(node)
        return {} if found is None else dict(found.values)

    def mount(self, disk: str, at: str, pid: str = "self") -> None:
        """As the process sees it: each has a mount namespace of its own."""
        number = (self.root / f"sys/block/{disk}/dev").read_text().strip()
        space = self.root / f"proc/{pid}/ns/mnt"
        space.parent.mkdir(parents=True, exist_ok=True)
        if not space.is_symlink():
            space.symlink_to(f"mnt:[{pid}]")
        (self.root / f"proc/{pid}/mountinfo").write_text(f"36 35 {number} / {at} rw,noatime - ext4 /dev/{disk} rw\n")

    # iscsiadm

    def run(self, words: list[str]) -> tuple[int, str, str]:
        self.commands.append(words)
        if words[0] != "iscsiadm":
            if words[0] == "udevadm":
                self._settle()
            return 0, "", ""
        options = dict(zip(words, [*words[1:], ""]))
        if "--version" in options:
            return 0, "iscsiadm version 2.1.8\n", ""
        answer: tuple[int, str, str] = getattr(self, f"_{options['-m']}")(options)
        return answer

    def _session(self, options: dict[str, str]) -> tuple[int, str, str]:
        own = [each for each in self.sessions if options.get("-r") in (None, str(each.sid))]
        if not own:
            return 21, "", "iscsiadm: No active sessions.\n"
        if "--logout" in options:
            self.sessions.remove(own[0])
        elif "--rescan" in options:
            self._scan(own[0])
        return 0, "".join(map(self._printed, own)), ""

    def _node(self, options: dict[str, str]) -> tuple[int, str, str]:
        portal, tag = parse_place(options["-p"])
        node = Node(options["-T"], portal, options["-I"], tag)
        path = self.root / self._path(node).lstrip("/")
        if options.get("-o") == "new":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(records.edit(NEW, _identity(node)))
            return 0, "", ""
        if not path.exists():
            return 21, "", "iscsiadm: No records found\n"
        if options.get("-o") == "delete":
            if any(each.node.key == node.key for each in self.sessions):
                return 15, "", "iscsiadm: a session is using it\n"
            path.unlink()
            return 0, "", ""
        values = records.parse(path.read_text())
        if options.get("-o") == "show":
            known = dict.fromkeys(records.parse(NAMES), "")
            text = "".join(
                f"{name} = {self.clamps.get(name, value) or '<empty>'}\n" for name, value in {**known, **values}.items()
            )
            return 0, text, ""
        return self._login(node)

    def _login(self, node: Node) -> tuple[int, str, str]:
        code = self.refuses.get(str(node.portal), 0)
        if code:
            return code, "", f"iscsiadm: initiator reported error ({code} - it failed)\n"
        self._sid += 1
        self.sessions.append(Live(self._sid, node, {}))
        self._scan(self.sessions[-1])
        return 0, "", ""

    def _iface(self, options: dict[str, str]) -> tuple[int, str, str]:
        name = options.get("-I")
        if name is None:
            return 0, "".join(f"{each} tcp,<empty>,<empty>,<empty>,<empty>\n" for each in self.interfaces), ""
        if options["-o"] == "new":
            self.interfaces[name] = {}
        elif options["-o"] == "update":
            self.interfaces[name][options["-n"]] = options["-v"]
        return 0, "".join(f"{key} = {value}\n" for key, value in self.interfaces[name].items()), ""

    # The kernel

    def _scan(self, session: Live) -> None:
        for lun, size in self.luns.get(session.node.target, {}).items():
            if lun in session.disks:
                continue
            minor = sum(len(each.disks) for each in self.sessions) + 16 * session.sid
            disk = session.disks[lun] = f"sd{'abcdefghij'[session.sid]}{'abcdefghij'[lun]}"
            directory = self.root / f"sys/block/{disk}"
            (directory / "device").mkdir(parents=True, exist_ok=True)
            (directory / "dev").write_text(f"8:{minor}\n")
            (directory / "size").write_text(f"{size // 512}\n")
            for name in ("rescan", "delete"):
                (directory / "device" / name).write_text("")

    def _settle(self) -> None:
        """udev makes its links, and the kernel has done what was written to its files."""
        self.slow -= 1
        if self.slow >= 0:
            return
        for link in (self.root / "dev/disk/by-path").iterdir():
            link.unlink()
        for session in self.sessions:
            for lun, disk in session.disks.items():
                link = self.root / by_path(session.node, lun).lstrip("/")
                if not link.is_symlink():
                    link.symlink_to(f"../../{disk}")

    def kernel_acts(self) -> None:
        for session in self.sessions:
            for lun, disk in list(session.disks.items()):
                directory = self.root / f"sys/block/{disk}"
                if (directory / "device/delete").read_text():
                    del session.disks[lun]
                elif (directory / "device/rescan").read_text():
                    (directory / "size").write_text(f"{self.luns[session.node.target][lun] // 512}\n")

    def _path(self, node: Node) -> str:
        host = node.portal.host.strip("[]")
        directory = f"{self.place}/nodes/{node.target}/{host},{node.portal.port}"
        return directory if node.tag is None else f"{directory},{node.tag}/{node.interface}"

    def _printed(self, session: Live) -> str:
        node = session.node
        lines = [f"Target: {node.target} (non-flash)"]
        lines += [f"\t{kind} Portal: {node.portal},{node.tag or 1}" for kind in ("Current", "Persistent")]
        lines += ["\t\tInterface:", f"\t\tIface Name: {node.interface}", f"\t\tSID: {session.sid}"]
        lines += [f"\t\tiSCSI Session State: {session.state}"]
        for lun, disk in session.disks.items():
            lines += [f"\t\tscsi6 Channel 00 Id 0 Lun: {lun}", f"\t\t\tAttached scsi disk {disk}\t\tState: running"]
        return "\n".join(lines) + "\n"


def _identity(node: Node) -> dict[str, str]:
    return {
        records.NAME: node.target,
        records.ADDRESS: node.portal.host.strip("[]"),
        records.PORT: str(node.portal.port),
        records.TAG: "-1" if node.tag is None else str(node.tag),
        records.INTERFACE: node.interface,
        records.DISCOVERED_AT: "",
        records.DISCOVERED_PORT: "0",
    }
