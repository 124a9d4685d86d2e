# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""open-iscsi by its command line. Every call names target, portal and interface, and none carries a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Final

from . import exit_codes
from .errors import InitiatorError
from .nodes import DEFAULT_INTERFACE, Node
from .records import parse
from .session_text import Session, parse_sessions

if TYPE_CHECKING:
    from collections.abc import Collection

Run = Callable[["list[str]"], "tuple[int, str, str]"]
"""Runs a command to its end: status, output, errors."""

PROGRAM: Final = "iscsiadm"
_INSTALL: Final = "Install open-iscsi, or iscsi-initiator-utils on EL and Fedora; the role iscsi_initiator does that."


class Failed(InitiatorError):
    """iscsiadm failed; ``code`` is its exit status."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
        self.reason = exit_codes.meaning(code).name


class Iscsiadm:
    """The command. All methods raise Failed, or InitiatorError when it is not installed."""

    def __init__(self, run: Run, lenient: bool = False) -> None:
        """``lenient``: where it is not installed yet there is nothing, which is what check mode wants to know."""
        self._run = run
        self._lenient = lenient

    def sessions(self) -> list[Session]:
        return parse_sessions(self._call("sessions", "-m", "session", "-P", "3", fine=[exit_codes.NOTHING_FOUND]))

    def version(self) -> str:
        return self._call("version", "--version").strip().rpartition(" ")[2]

    def show(self, node: Node) -> dict[str, str]:
        """Everything that open-iscsi reads from the record, secrets too, and names without a value."""
        return parse(self._of(node, "-S", "-o", "show"))

    def create(self, node: Node) -> None:
        """A record with what iscsid.conf says."""
        self._of(node, "-o", "new")

    def delete(self, node: Node) -> None:
        self._of(node, "-o", "delete", fine=[exit_codes.NOTHING_FOUND])

    def login(self, node: Node) -> None:
        self._of(node, "--login", fine=[exit_codes.SESSION_EXISTS])

    def logout(self, session: Session) -> None:
        """By the number of the session, so that one without a record can be ended, too."""
        fine = [exit_codes.NOTHING_FOUND, exit_codes.NO_SUCH_SESSION]
        self._call(str(session.node), "-m", "session", "-r", str(session.sid), "--logout", fine=fine)

    def rescan(self, session: Session) -> None:
        """Take up LUNs that are new."""
        self._call(str(session.node), "-m", "session", "-r", str(session.sid), "--rescan")

    def interfaces(self) -> list[str]:
        lines = self._call("interfaces", "-m", "iface", fine=[exit_codes.NOTHING_FOUND]).splitlines()
        return [line.split()[0] for line in lines if line.strip()]

    def interface(self, name: str) -> dict[str, str]:
        return parse(self._call(f"interface {name}", "-m", "iface", "-I", name, "-o", "show"))

    def create_interface(self, name: str) -> None:
        self._call(f"interface {name}", "-m", "iface", "-I", name, "-o", "new")

    def set_interface(self, name: str, key: str, value: str) -> None:
        words = ("-m", "iface", "-I", name, "-o", "update", "-n", key, "-v", value)
        self._call(f"interface {name}: {key}", *words)

    def _of(self, node: Node, *words: str, fine: Collection[int] = ()) -> str:
        named = ("-m", "node", "-T", node.target, "-p", node.place, "-I", node.interface or DEFAULT_INTERFACE)
        return self._call(str(node), *named, *words, fine=fine)

    def _call(self, subject: str, *words: str, fine: Collection[int] = ()) -> str:
        try:
            code, output, errors = self._run([PROGRAM, *words])
        except OSError as error:
            if self._lenient:
                return ""
            raise InitiatorError(f"{PROGRAM}: {error.strerror or error}. {_INSTALL}") from error
        if code and code not in fine:
            raise Failed(exit_codes.sentence(subject, code, errors), code)
        return "" if code else output


def runner(module: Any) -> Run:
    """A module's ``run_command`` that lets a missing program be told apart from one that fails."""

    def run(words: list[str]) -> tuple[int, str, str]:
        program = module.get_bin_path(words[0], opt_dirs=["/sbin", "/usr/sbin", "/usr/local/sbin"])
        if program is None:
            raise FileNotFoundError(2, "not installed")
        code, output, errors = module.run_command([program, *words[1:]], environ_update={"LC_ALL": "C", "LANG": "C"})
        return int(code), str(output), str(errors)

    return run
