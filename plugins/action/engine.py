# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Builds the engine archive on the controller and sends it to the hosts that lack it."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible_collections.openlun.iscsi.plugins.plugin_utils._archive import Archive, ArchiveError, build, write

_MODULE = "openlun.iscsi.engine"
_WITHOUT_ARCHIVE = ("stopped", "absent")


class ActionModule(ActionBase):  # type: ignore[misc]
    """The module says whether the host needs the archive; most runs therefore are one round trip."""

    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if self._task.args.get("state") in _WITHOUT_ARCHIVE:
            return {**result, **self._module(None, task_vars)}
        archive = _built()
        first = self._module(archive, task_vars)
        if first.pop("_needs_archive", False):
            first = self._complete(archive, first, task_vars)
        return {**result, **first}

    def _complete(self, archive: Archive, first: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        """Send the archive and let the module go on; one result for all of it."""
        sent = self._send(archive, first["archive"], task_vars)
        if sent.get("failed"):
            return {
                "failed": True,
                "changed": bool(first["actions"]),
                "msg": f"engine archive {first['archive']}: not sent: {sent.get('msg', 'no reason given')}",
            }
        second = self._module(archive, task_vars)
        second["changed"] = True
        if second.get("failed"):
            return second
        had = first["version"] is not None
        installation = {
            "action": "replace" if had else "install",
            "object": f"engine archive {archive.version} (sha256 {archive.checksum[:12]})",
            "why": f"it was {first['version']} (sha256 {first['checksum'][:12]})" if had else "it was missing",
        }
        second["actions"] = [*first["actions"], installation, *second["actions"]]
        if "diff" in second:
            second["diff"]["before"] = first["diff"]["before"]
        return second

    def _module(self, archive: Archive | None, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        known = {"version": archive.version, "checksum": archive.checksum} if archive else None
        arguments = {**self._task.args, "archive": known}
        result: dict[str, Any] = self._execute_module(
            module_name=_MODULE, module_args=arguments, task_vars=task_vars, wrap_async=False
        )
        return result

    def _send(self, archive: Archive, destination: str, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        with tempfile.TemporaryDirectory(dir=constants.DEFAULT_LOCAL_TMP) as directory:
            source = Path(directory, "openlun-iscsi.pyz")
            write(archive, source)
            task = self._task.copy()
            task.args = {"src": str(source), "dest": destination, "mode": "0755"}
            copy = self._shared_loader_obj.action_loader.get(
                "ansible.legacy.copy",
                task=task,
                connection=self._connection,
                play_context=self._play_context,
                loader=self._loader,
                templar=self._templar,
                shared_loader_obj=self._shared_loader_obj,
            )
            result: dict[str, Any] = copy.run(task_vars=task_vars)
            return result


def _built() -> Archive:
    try:
        return build()
    except ArchiveError as error:
        raise AnsibleActionFail(str(error)) from error
