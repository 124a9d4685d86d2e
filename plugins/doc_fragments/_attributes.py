# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every module of the collection promises. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Attributes; a module that extends this states its C(support) for each of them."""

    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Predicts what a run would do, without changing anything.
  diff_mode:
    description: Shows what changes, as the state before and after.
  idempotent:
    description: A second run with the same options changes nothing.
  platform:
    description: Operating systems the module works on.
    support: full
    platforms: linux
"""

    TARGET = r"""
options: {}
attributes:
  action_group:
    description: Takes its connection options from C(module_defaults) of the group C(group/openlun.iscsi.target).
    support: full
    membership:
      - openlun.iscsi.target
"""

    HOST = r"""
options: {}
attributes:
  action_group:
    description: Takes options from C(module_defaults) of the group C(group/openlun.iscsi.host).
    support: full
    membership:
      - openlun.iscsi.host
"""

    INITIATOR = r"""
options: {}
attributes:
  action_group:
    description: Takes options from C(module_defaults) of the group C(group/openlun.iscsi.initiator).
    support: full
    membership:
      - openlun.iscsi.initiator
"""

    INFO = r"""
options: {}
attributes:
  check_mode:
    support: full
    details:
      - Nothing is changed in any mode.
  diff_mode:
    support: N/A
    details:
      - There is nothing to compare.
  idempotent:
    support: full
    details:
      - Nothing is changed in any mode.
"""
