# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The option chap."""

from __future__ import annotations

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.chap import Credentials
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.proofs import parse_chap


def test_proofs_come_in_pairs() -> None:
    assert parse_chap(None) is parse_chap({}) is parse_chap({"user": None, "secret": None}) is None
    assert parse_chap({"user": "db1", "secret": "x", "muser": None}) == Credentials("db1", "x")
    for given in ({"user": "db1"}, {"user": "db1", "secret": "x", "muser": "m"}, {"muser": "m", "msecret": "y"}):
        with pytest.raises(InitiatorError, match="chap: "):
            parse_chap(given)
