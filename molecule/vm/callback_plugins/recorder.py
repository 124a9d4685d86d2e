# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Writes down what every task of a play said it did, one line of JSON a task: for comparing check mode with the run."""

from __future__ import annotations

DOCUMENTATION = r"""
name: recorder
type: aggregate
short_description: Writes down what every task said it did
description:
  - One file a run, in the order of the runs, named after the number of the run and C(check) or C(apply).
options:
  directory:
    description: Where the files go. Nothing is written when it is missing.
    type: path
    env:
      - name: VM_RECORDS
"""

import json
from pathlib import Path
from typing import Any, ClassVar

from ansible import context
from ansible.plugins.callback import CallbackBase


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ansible's name for it."""

    CALLBACK_VERSION: ClassVar = 2.0
    CALLBACK_TYPE: ClassVar = "aggregate"
    CALLBACK_NAME: ClassVar = "recorder"
    CALLBACK_NEEDS_ENABLED: ClassVar = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        directory = Path(self.get_option("directory") or "")
        self._file: Path | None = None
        if directory.is_dir() and Path(playbook._file_name).name == "converge.yml":
            mode = "check" if context.CLIARGS["check"] else "apply"
            self._file = directory / f"{len(list(directory.iterdir()))}-{mode}"
            self._file.touch()

    def v2_runner_on_ok(self, result: Any) -> None:
        if self._file is not None:
            said = {name: result.result[name] for name in ("changed", "actions") if name in result.result}
            with self._file.open("a") as file:
                file.write(json.dumps({"task": result.task.get_name(), **said}) + "\n")
