# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The short form: names and tags are stable, hosts get in, and mistakes are told with their path."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.openlun.iscsi.plugins.filter.volume_hosts import volume_hosts
from ansible_collections.openlun.iscsi.plugins.module_utils._state.declaration import declare, entries_of
from ansible_collections.openlun.iscsi.plugins.module_utils._state.executor import execute
from ansible_collections.openlun.iscsi.plugins.module_utils._state.planner import plan
from ansible_collections.openlun.iscsi.plugins.module_utils._state.reader import read
from ansible_collections.openlun.iscsi.plugins.module_utils._state.volumes import BadVolumes, expand, tag_of
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
    assert tag_of("pgdata") == 927301450


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


def test_a_tag_that_somebody_has_is_refused_and_nobody_gets_another() -> None:
    with pytest.raises(BadVolumes) as bad:
        expand([PGDATA], HOSTS, taken=[tag_of("pgdata")])
    assert bad.value.problems == [
        "iscsi_volumes[0].tag: 927301450 is the tag of a declared group, too. Give volume pgdata another one with tag."
    ]
    [told] = problems({**PGDATA, "name": "first", "tag": 927301450}, PGDATA)
    assert told.startswith("iscsi_volumes[1].tag: 927301450 is the tag of volume first, too.")
    expanded = expand([{**PGDATA, "tag": 7}], HOSTS, taken=[tag_of("pgdata")])
    assert [group["tag"] for group in expanded["initiator_groups"] + expanded["auth_groups"]] == [7, 7]


def test_a_volume_can_be_a_disk_that_is_declared_elsewhere() -> None:
    expanded = expand([{"name": "fast", "bdev": "NVMe1n1", "hosts": ["db1"], "queue_depth": 32}], HOSTS)
    assert expanded["bdevs"] == []
    [node] = expanded["target_nodes"]
    assert (node["luns"], node["queue_depth"]) == ([{"id": 0, "bdev": "NVMe1n1"}], 32)
    [told] = problems({"name": "fast", "bdev": "NVMe1n1", "size": "1GiB", "hosts": ["db1"]})
    assert told == "iscsi_volumes[0].size: bdev NVMe1n1 has its own. Leave one of the two out."


def test_a_volume_that_goes_takes_all_of_it_along_and_asks_nothing_of_its_hosts() -> None:
    engine = FakeEngine()
    portals = {"portal_groups": [{"tag": 1, "portals": ["10.0.0.1:3260"]}]}
    for declared in (PGDATA, {**PGDATA, "state": "absent", "hosts": ["forgotten"]}):
        snapshot = read(engine)
        wanted = declare(entries_of({**expand([declared], HOSTS), **portals}), snapshot.can.node_base)
        execute(plan(snapshot.state, wanted, snapshot.can, force=True), engine)
    left = {ref for ref in read(engine).state.objects if ref[0] in ("bdev", "auth_group", "initiator_group")}
    assert left == set()


def test_every_mistake_is_told_with_its_path() -> None:
    bad = {"name": "A/b", "size": "big", "hosts": ["db1", "db9"], "chap": "maybe", "secrte": "hidden", "state": "gone"}
    told = problems(PGDATA, bad, {**PGDATA, "hosts": []}, {"name": "x", "hosts": ["db1"]}, {**PGDATA, "tag": "z"})
    options = (
        "alias, bdev, block_size, chap, filesystem, hosts, mount, mount_options, name, path, queue_depth, readonly, "
        "size, sparse, state, tag"
    )
    assert told == [
        f"iscsi_volumes[1].secrte: a volume has no such option. It has {options}.",
        "iscsi_volumes[1].state: 'gone' is neither present nor absent.",
        "iscsi_volumes[1].name: 'A/b' is no name for a volume. Use small letters, digits, '-' and '.'.",
        "iscsi_volumes[2].name: volume pgdata is declared in iscsi_volumes[0] already.",
        "iscsi_volumes[4].name: volume pgdata is declared in iscsi_volumes[0] already.",
        "iscsi_volumes[1].hosts[1]: no host named db9. Known hosts: anywhere, db1, db2.",
        "iscsi_volumes[1].chap: not one of true, false, none, auto, required, mutual.",
        "iscsi_volumes[1].size: 'big' is not a size. Write bytes or a number with KiB, MiB, GiB or TiB, such as 10GiB.",
        "iscsi_volumes[2].hosts: name at least one host, in a list.",
        "iscsi_volumes[3].size: volume x needs a size, the path of a device, or a bdev.",
    ]
    assert problems({**PGDATA, "tag": "z"}) == ["iscsi_volumes[0].tag: not a number from 1 to 2147483647."]


def test_what_is_not_known_of_a_host_is_not_guessed() -> None:
    host = {"initiator": "", "addresses": [], "secert": "hidden"}
    told = problems({**PGDATA, "hosts": ["db1"]}, db1=host)
    assert [each.partition(": ")[0] for each in told] == [
        "iscsi_volumes[0].chap",
        "hosts.db1.secert",
        "hosts.db1.initiator",
        "hosts.db1.addresses",
    ]
    assert "hidden" not in " ".join(told)


def test_hosts_are_what_the_inventory_knows_of_them() -> None:
    facts = {
        "iscsi_iqn": "iqn.2020-01.test:by-facts",
        "all_ipv4_addresses": ["10.0.0.7", "10.0.0.6", "169.254.0.9"],
        "all_ipv6_addresses": ["fe80::1", "fd00::5"],
    }
    proofs = {"user": "db1", "secret": "hidden"}
    hostvars: dict[str, Any] = {
        "told": {
            "iscsi_initiator_name": "iqn.2020-01.test:told",
            "iscsi_initiator_addresses": ["ANY"],
            "iscsi_initiator_chap": proofs,
            "ansible_facts": facts,
        },
        "seen": {"ansible_facts": facts},
        "unknown": {},
    }
    volume = {"name": "a", "hosts": ["told", "seen", "unknown", "elsewhere"]}
    assert volume_hosts(hostvars, [volume, "nonsense", {"hosts": "told"}]) == {
        "told": {"initiator": "iqn.2020-01.test:told", "addresses": ["ANY"], **proofs},
        "seen": {"initiator": "iqn.2020-01.test:by-facts", "addresses": ["10.0.0.6", "10.0.0.7", "fd00::5"]},
        "unknown": {"initiator": "", "addresses": []},
    }


def test_what_is_wrong_with_a_host_is_told_once() -> None:
    told = problems(PGDATA, {**PGDATA, "name": "two"}, db1={**DB1, "initiator": "db1", "addresses": ["here"]})
    assert [each.partition(": ")[0] for each in told] == ["hosts.db1.initiator", "hosts.db1.addresses[0]"]


def test_chap_needs_what_the_hosts_prove_themselves_with() -> None:
    [told] = problems({**PGDATA, "chap": "mutual", "hosts": ["db1"]})
    assert told.startswith("iscsi_volumes[0].chap: host db1 needs muser and msecret for chap mutual.")
    [told] = problems(PGDATA, db2={**HOSTS["db2"], "user": "db1"})
    assert "host db2 has the user db1 of another host" in told
    assert "secret'" not in told
    assert "second secret" not in told


def test_the_example_is_one() -> None:
    inventory = yaml.safe_load((Path(__file__).resolve().parents[2] / "docs/examples/volumes.yml").read_text())["all"]
    hosts = {name: found for group in inventory["children"].values() for name, found in group["hosts"].items()}
    declared = inventory["vars"]["iscsi_volumes"]
    expanded = expand(declared, volume_hosts(hosts, declared))
    assert [node["name"] for node in expanded["target_nodes"]] == ["pgdata", "scratch"]
