# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form: names and tags are stable, hosts get in, and mistakes are told with their path."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import plan
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import read
from ansible_collections.openlun.iscsi.plugins.module_utils._state.volumes import BadVolumes, expand, tags
from fake_engine import FakeEngine
from hypothesis import given
from hypothesis import strategies as st

DB1 = {
    "initiator": "iqn.2020-01.test:db1",
    "addresses": ["10.0.0.5", "fd00::5"],
    "user": "db1",
    "secret": "first secret",
}
HOSTS: dict[str, dict[str, Any]] = {
    "db1": DB1,
    "db2": {"initiator": "iqn.2020-01.test:db2", "addresses": ["10.0.0.6"], "user": "db2", "secret": "second secret"},
    "anywhere": {"initiator": "iqn.2020-01.test:mobile"},
}
PGDATA = {"name": "pgdata", "size": "20GiB", "hosts": ["db1", "db2"], "chap": True, "filesystem": "ext4"}
NAMES = st.from_regex(r"[a-z0-9]{1,8}", fullmatch=True)

volumes = st.lists(
    st.fixed_dictionaries(
        {
            "name": NAMES,
            "size": st.sampled_from(["1GiB", "2GiB"]),
            "hosts": st.lists(st.sampled_from(["db1", "db2"]), min_size=1, unique=True),
            "chap": st.booleans(),
        }
    ),
    max_size=6,
    unique_by=lambda volume: volume["name"],
)


def problems(*declared: dict[str, Any], **hosts: Any) -> list[str]:
    with pytest.raises(BadVolumes) as bad:
        expand(declared, {**HOSTS, **hosts})
    return bad.value.problems


def parts(expanded: dict[str, list[dict[str, Any]]]) -> set[str]:
    return {f"{kind} {each}" for kind, entries in expanded.items() for each in entries}


def test_a_volume_becomes_a_disk_that_its_hosts_reach() -> None:
    expanded = expand([PGDATA], HOSTS, portal_group=7, directory="/data")
    [group] = expanded["initiator_groups"]
    tag = group["tag"]
    assert expanded == {
        "bdevs": [{"name": "pgdata", "type": "aio", "path": "/data/pgdata.img", "size": "20GiB"}],
        "auth_groups": [
            {
                "tag": tag,
                "secrets": [{"user": "db1", "secret": "first secret"}, {"user": "db2", "secret": "second secret"}],
            }
        ],
        "initiator_groups": [
            {
                "tag": tag,
                "initiators": ["iqn.2020-01.test:db1", "iqn.2020-01.test:db2"],
                "netmasks": ["10.0.0.5", "[fd00::5]", "10.0.0.6"],
            }
        ],
        "target_nodes": [
            {
                "name": "pgdata",
                "luns": [{"id": 0, "bdev": "pgdata"}],
                "maps": [{"portal_group": 7, "initiator_group": tag}],
                "chap": "required",
                "auth_group": tag,
            }
        ],
    }


def test_a_tag_stays_the_same_from_release_to_release() -> None:
    assert tags(["pgdata"]) == {"pgdata": 927301450}


def test_a_device_has_its_own_size() -> None:
    [bdev] = expand([{"name": "raw", "path": "/dev/sdb", "hosts": ["db1"]}], HOSTS)["bdevs"]
    assert bdev == {"name": "raw", "type": "aio", "path": "/dev/sdb"}


def test_a_host_without_addresses_may_come_from_anywhere() -> None:
    [group] = expand([{**PGDATA, "chap": False, "hosts": ["db1", "anywhere"]}], HOSTS)["initiator_groups"]
    assert group["netmasks"] == ["ANY"]


@given(volumes, st.randoms())
def test_neither_order_nor_other_volumes_change_what_is_generated(declared: list[dict[str, Any]], random: Any) -> None:
    whole = parts(expand(declared, HOSTS))
    shuffled = random.sample(declared, len(declared))
    assert parts(expand(shuffled, HOSTS)) == whole
    assert parts(expand(shuffled[1:], HOSTS)) <= whole


@given(volumes)
def test_what_is_generated_can_be_applied_and_changes_nothing_again(declared: list[dict[str, Any]]) -> None:
    engine = FakeEngine()
    portals = {"portal_groups": [{"tag": 1, "portals": ["10.0.0.1:3260"]}]}
    for changes in (True, False):
        snapshot = read(engine)
        wanted = declare(entries_of({**expand(declared, HOSTS), **portals}), snapshot.can.node_base)
        operations = plan(snapshot.state, wanted, snapshot.can)
        assert bool(operations) == changes
        execute(operations, engine)


@given(st.lists(NAMES, max_size=8), st.randoms())
def test_names_that_collide_get_different_tags_in_any_order(names: list[str], random: Any) -> None:
    few = tags(names, taken=[65536], most=10)
    assert len(set(few.values())) == len(few)
    assert 65536 not in few.values()
    assert tags(random.sample(names, len(names)), taken=[65536], most=10) == few


def test_every_mistake_is_told_with_its_path() -> None:
    bad = {"name": "A/b", "size": "big", "hosts": ["db1", "db9"], "chap": "maybe"}
    told = problems(PGDATA, bad, {**PGDATA, "hosts": []}, {"name": "x", "hosts": ["db1"]})
    assert told == [
        "iscsi_volumes[1].name: 'A/b' is no name for a volume. Use small letters, digits, '-' and '.'.",
        "iscsi_volumes[2].name: volume pgdata is declared in iscsi_volumes[0] already.",
        "iscsi_volumes[1].hosts[1]: no host named db9. Known hosts: anywhere, db1, db2.",
        "iscsi_volumes[1].chap: 'maybe' is none of true, false, none, auto, required, mutual.",
        "iscsi_volumes[1].size: 'big' is not a size. Write bytes or a number with KiB, MiB, GiB or TiB, such as 10GiB.",
        "iscsi_volumes[2].hosts: name at least one host, in a list.",
        "iscsi_volumes[3].size: volume x needs a size, or the path of a device.",
    ]


def test_what_is_wrong_with_a_host_is_told_once() -> None:
    told = problems(PGDATA, {**PGDATA, "name": "two"}, db1={**DB1, "initiator": "db1", "addresses": ["here"]})
    assert [each.partition(": ")[0] for each in told] == ["hosts.db1.initiator", "hosts.db1.addresses[0]"]


def test_chap_needs_what_the_hosts_prove_themselves_with() -> None:
    assert problems({**PGDATA, "chap": "mutual", "hosts": ["db1"]}) == [
        "iscsi_volumes[0].chap: host db1 needs muser and msecret for chap mutual."
    ]
    [told] = problems(PGDATA, db2={**HOSTS["db2"], "user": "db1"})
    assert "host db2 has the user db1 of another host" in told
    assert "secret'" not in told
    assert "second secret" not in told
