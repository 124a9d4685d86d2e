# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands of a host."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run

MISSING = 127
"""The status of a command that is not installed, as in a shell."""


def runner(module: Any) -> Run:
    """Runs commands for a module of Ansible: gives status, output and errors, also where the command is missing."""

    def run(words: list[str]) -> tuple[int, str, str]:
        program = module.get_bin_path(words[0])
        if program is None:
            return MISSING, "", f"{words[0]} is not installed"
        status, output, errors = module.run_command([program, *words[1:]])
        return status, output, errors

    return run
