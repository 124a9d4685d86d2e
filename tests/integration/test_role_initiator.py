# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the initiator's role would do on bare hosts: check mode with facts that were recorded on each distribution."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from role_play import MSECRET, SECRET, Place, Played

FACTS = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).resolve().parents[1] / "unit" / "facts").glob("*.json"))
}
VOLUMES = [
    {"name": "v", "hosts": list(FACTS), "chap": "mutual", "size": "1GiB", "filesystem": "xfs", "mount": "/none/v"}
]
_STAND_IN = """\
import json
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({"name": {"type": "list", "elements": "str"}, "state": {}}, supports_check_mode=True)
module.exit_json(changed=True, asked=" ".join(module.params["name"]))
"""

pytestmark = pytest.mark.skipif(shutil.which("iscsiadm") is not None, reason="this host is an initiator already")


@pytest.fixture
def place() -> Iterator[Place]:
    place = Place()
    yield place
    place.remove()


def foretell(place: Place, *flags: str, fails: bool = False, **variables: Any) -> Played:
    """Check mode on all distributions in one play; their package managers only tell what they were asked for."""
    library = place.directory / "library"
    library.mkdir(exist_ok=True)
    for manager in {facts["pkg_mgr"] for facts in FACTS.values()}:
        (library / f"{manager}.py").write_text(_STAND_IN)
    facts = {name: "{{ recorded[inventory_hostname]." + name + " }}" for name in FACTS["el9"]}
    remember = {"ansible.builtin.set_fact": {**facts, "cacheable": True}, "tags": "always"}
    book = place.directory / "recorded.yml"
    plays = [{"hosts": "all", "tasks": [remember]}, {"ansible.builtin.import_playbook": "openlun.iscsi.initiator"}]
    book.write_text(json.dumps(plays))
    given = {
        "recorded": FACTS,
        "iscsi_initiator_hosts": "all",
        "iscsi_initiator_storage": ["debian12"],
        "iscsi_volumes": VOLUMES,
        "iscsi_initiator_name": "iqn.2020-01.com.example:{{ inventory_hostname }}",
        "iscsi_initiator_chap": {"user": "u", "secret": SECRET, "muser": "m", "msecret": MSECRET},
        **variables,
    }
    words = ("--check", "--diff", "-M", str(library), *flags)
    return place.play(*words, book=str(book), hosts=",".join(FACTS), fails=fails, **given)


def test_a_run_is_foretold_for_every_distribution_without_telling_a_secret(place: Place) -> None:
    played = foretell(
        place, "-vvv", iscsi_initiator_multipath=True, iscsi_initiator_sysctl={"net.core.rmem_max": 1048576}
    )
    assert {host: counters["failed"] for host, counters in played.recap.items()} == dict.fromkeys(FACTS, 0)
    asked = dict(re.findall(r'changed: \[(\w+)\] => \{\s*"asked": "([^"]+)"', played.output))
    assert asked == {
        host: "iscsi-initiator-utils device-mapper-multipath xfsprogs"
        if facts["os_family"] == "RedHat"
        else "open-iscsi multipath-tools xfsprogs"
        for host, facts in FACTS.items()
    }
    assert played.output.count(f"session of target iqn.2016-06.io.spdk:v at {place.portal}") >= len(FACTS)
    # What was given on the command line of the test is not what the play tells.
    told = played.output.replace(json.dumps(SECRET), "").replace(json.dumps(MSECRET), "")
    assert SECRET not in told
    assert MSECRET not in told
    assert not Path("/none").exists()


def test_what_cannot_work_is_told_before_anything_is_done(place: Place) -> None:
    played = foretell(place, fails=True, iscsi_initiator_chap={"user": "u"})
    assert "needs secret and muser and msecret for chap mutual" in played.output
    assert played.changed == 0
