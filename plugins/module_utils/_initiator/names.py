# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The name of this host as an initiator: what targets let in by it. It is kept where iscsid reads it at its start."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from .._host.steps import Step
from .._state.names import check_name
from .errors import InitiatorError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .._host.sysfs import Host
    from .iscsiadm import Iscsiadm, Run

NAME_FILE: Final = "/etc/iscsi/initiatorname.iscsi"
_MACHINE: Final = "/etc/machine-id"
_LINE: Final = re.compile(r"^[ \t]*InitiatorName[ \t]*=[ \t]*(\S*)[ \t]*$", re.MULTILINE)
_MODE: Final = 0o600


def initiator_name(host: Host) -> str | None:
    """The name that open-iscsi uses; None when there is none yet. Raises HostError."""
    found = _LINE.findall(host.read(NAME_FILE))
    return found[-1] or None if found else None


def made_up(host: Host, prefix: str) -> str:
    """A name of this host alone that does not change: from the machine's identity, which is not told by it."""
    identity = host.read(_MACHINE).strip()
    if not identity:
        raise InitiatorError(f"{_MACHINE}: is missing or empty, so no name can be made of it. Give a name.")
    return f"{prefix}:{hashlib.sha256(f'openlun.iscsi initiator {identity}'.encode()).hexdigest()[:12]}"


class InitiatorName:
    """The name of one host."""

    def __init__(self, host: Host, run: Run, iscsiadm: Iscsiadm) -> None:
        self._host = host
        self._run = run
        self._iscsiadm = iscsiadm

    def bring(self, options: Mapping[str, Any], apply: bool) -> dict[str, Any]:
        """The module's result. Raises InitiatorError or HostError."""
        has = initiator_name(self._host)
        wanted = options.get("name") or (has if has and not options["unique"] else None)
        wanted = wanted or made_up(self._host, options["prefix"])
        try:
            check_name(wanted)
        except ValueError as error:
            raise InitiatorError(f"name: {error}") from error
        steps = []
        if has != wanted:
            self._refuse_while_used(has, wanted, options["force"])
            steps.append(Step("edit" if has else "create", f"file {NAME_FILE}", f"{has} → {wanted}", lambda: None))
        if steps and apply:
            self._write(wanted)
            self._restart()
        return {
            "changed": bool(steps),
            "name": wanted,
            "actions": [step.told() for step in steps],
            "diff": {"before": {"name": has}, "after": {"name": wanted}},
        }

    def _refuse_while_used(self, has: str | None, wanted: str, force: bool) -> None:
        """Targets know the sessions by the old name: one that breaks would come back by the new one."""
        if not self._host.exists("/sys/class/iscsi_session"):
            return
        sessions = self._iscsiadm.sessions() if self._host.names("/sys/class/iscsi_session") else []
        if sessions and not force:
            targets = ", ".join(dict.fromkeys(session.target for session in sessions))
            raise InitiatorError(
                f"name: not changed from {has} to {wanted} because this host is logged in to {targets}. Nothing was "
                "changed. Log out first, or set force: true; a session that breaks may not be let in by the new name."
            )

    def _write(self, name: str) -> None:
        text = self._host.read(NAME_FILE)
        if _LINE.search(text):
            text = _LINE.sub(f"InitiatorName={name}", text)
        else:
            text = f"{text.rstrip()}\n" if text.strip() else ""
            text += f"InitiatorName={name}\n"
        self._host.save(NAME_FILE, text, _MODE)

    def _restart(self) -> None:
        """iscsid reads the name at its start only. One that does not run reads it when it is started."""
        if not self._host.exists("/run/systemd/system"):
            return
        code, _output, errors = self._run(["systemctl", "try-restart", "iscsid.service"])
        if code:
            told = errors.strip() or f"status {code}"
            raise InitiatorError(f"iscsid could not be restarted, and uses the old name until it is: {told}.")
