# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the initiator's role would do on bare hosts: check mode with facts that were recorded on each distribution."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from distributions import FACTS, foretell
from role_play import MSECRET, SECRET, Place, Played

VOLUMES = [
    {"name": "v", "hosts": list(FACTS), "chap": "mutual", "size": "1GiB", "filesystem": "xfs", "mount": "/none/v"}
]

pytestmark = pytest.mark.skipif(shutil.which("iscsiadm") is not None, reason="this host is an initiator already")


def foretold(place: Place, *flags: str, fails: bool = False, **variables: Any) -> Played:
    given = {
        "iscsi_initiator_hosts": "all",
        "iscsi_initiator_storage": ["debian12"],
        "iscsi_volumes": VOLUMES,
        "iscsi_initiator_name": "iqn.2020-01.com.example:{{ inventory_hostname }}",
        "iscsi_initiator_chap": {"user": "u", "secret": SECRET, "muser": "m", "msecret": MSECRET},
        **variables,
    }
    return foretell(place, "openlun.iscsi.initiator", *flags, fails=fails, **given)


def test_a_run_is_foretold_for_every_distribution_without_telling_a_secret(place: Place) -> None:
    played = foretold(
        place,
        "-vvv",
        iscsi_initiator_multipath=True,
        iscsi_initiator_sysctl={"net.core.rmem_max": 1048576},
        iscsi_initiator_settings={"discovery.sendtargets.auth.password": MSECRET},
    )
    assert {host: counters["failed"] for host, counters in played.recap.items()} == dict.fromkeys(FACTS, 0)
    asked = dict(re.findall(r'changed: \[(\w+)\] => \{\s*"asked": "([^"]+)"', played.output))
    packages = {
        "RedHat": "iscsi-initiator-utils device-mapper-multipath xfsprogs",
        "Debian": "open-iscsi multipath-tools xfsprogs",
    }
    assert asked == {
        host: f"{facts['pkg_mgr']} present {packages[facts['os_family']]}" for host, facts in FACTS.items()
    }
    assert played.output.count(f"session of target iqn.2016-06.io.spdk:v at {place.portal}") >= len(FACTS)
    # What was given on the command line of the test is not what the play tells.
    told = played.output.replace(json.dumps(SECRET), "").replace(json.dumps(MSECRET), "")
    assert SECRET not in told
    assert MSECRET not in told
    assert not Path("/none").exists()


def test_what_cannot_work_is_told_before_anything_is_done(place: Place) -> None:
    played = foretold(place, fails=True, iscsi_initiator_chap={"user": "u"})
    assert "needs secret and muser and msecret for chap mutual" in played.output
    assert played.changed == 0
