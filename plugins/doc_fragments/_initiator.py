# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the modules of the initiator share in their documentation. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Return values of sessions."""

    DOCUMENTATION = r"""
options: {}
requirements:
  - open-iscsi on the host (iscsi-initiator-utils on EL and Fedora)
"""

    CHAP = r"""
options:
  chap:
    description:
      - What this host proves itself with, and what it asks the target to prove. An empty dictionary is no CHAP.
      - A value that is omitted keeps what there is, where there is something to keep.
    type: dict
    suboptions:
      user:
        description: Name of this host's secret, as the target knows it.
        type: str
      secret:
        description: The secret itself.
        type: str
      muser:
        description: For mutual CHAP, the name that the target proves itself with.
        type: str
      msecret:
        description: The secret of the target.
        type: str
"""
