# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the results and failures of the initiator's modules are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable

from .._host.errors import HostError
from .._host.sysfs import Host
from .errors import InitiatorError
from .iscsiadm import Failed, Run, runner
from .sessions import Incomplete

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule


def run(module: AnsibleModule, do: Callable[[Host, Run], dict[str, Any]]) -> None:
    """Call it, and make its result or its failure the module's."""
    try:
        result = do(Host(), runner(module))
    except Incomplete as incomplete:
        told = dict(incomplete.result)
        _warn(module, told)
        module.fail_json(msg=str(incomplete), problems=incomplete.problems, **told)
    except Failed as failed:
        module.fail_json(msg=str(failed), reason=failed.reason, iscsiadm=failed.code)
    except HostError as error:
        module.fail_json(msg=str(error), **error.details)
    except InitiatorError as error:
        module.fail_json(msg=str(error))
    else:
        _warn(module, result)
        module.exit_json(**result)


def _warn(module: AnsibleModule, result: dict[str, Any]) -> None:
    for warning in result.pop("warnings", []):
        module.warn(warning)
