# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where hugepages are mounted: made, changed in place, made again, taken away; and never what belongs to others."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError
from ansible_collections.openlun.iscsi.plugins.module_utils._host.mount_units import unit_path
from ansible_collections.openlun.iscsi.plugins.module_utils._host.reservation import Reservation
from fake_hugepages import FakeKernel, FakeMounts, bring, request

UNIT = "/etc/systemd/system/srv-huge.mount"
LINK = "/etc/systemd/system/local-fs.target.wants/srv-huge.mount"


@pytest.fixture
def host(tmp_path: Path) -> FakeKernel:
    return FakeKernel(tmp_path)


def mount(**options: Any) -> dict[str, Any]:
    return {"path": "/srv/huge", "mode": "0770", "group": str(os.getegid()), **options}


def table(host: FakeKernel) -> list[str]:
    return [line.split()[-1] for line in host.get("/proc/self/mountinfo").splitlines() if "hugetlbfs" in line]


# Names as systemd-escape --path --suffix=mount makes them.
@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/huge", "srv-huge.mount"),
        ("/dev/huge-pages", r"dev-huge\x2dpages.mount"),
        ("/.a/.b/é f", r"\x2ea-.b-\xc3\xa9\x20f.mount"),
    ],
)
def test_a_unit_has_the_name_that_systemd_wants(path: str, name: str) -> None:
    assert unit_path(path) == f"/etc/systemd/system/{name}"


def test_a_mount_is_made_and_comes_back_at_boot(host: FakeKernel) -> None:
    bring(host, mount=mount(size="8M"))
    options = f"pagesize=2M,mode=0770,gid={os.getegid()},size=8388608"
    assert table(host) == [f"rw,{options}"]
    assert f"What=openlun-iscsi\nWhere=/srv/huge\nType=hugetlbfs\nOptions={options}\n" in host.get(UNIT)
    assert str(Path(host.path(LINK)).readlink()) == UNIT
    assert not bring(host, mount=mount(size="8M"))["changed"]


def test_a_mount_that_is_not_to_persist_has_no_unit(host: FakeKernel) -> None:
    bring(host, mount=mount())
    result = bring(host, mount=mount(), persistent=False)
    assert [step["action"] for step in result["actions"]] == ["disable", "remove"]
    assert len(table(host)) == 1


def test_the_mode_changes_in_place(host: FakeKernel) -> None:
    bring(host, mount=mount())
    before = table(host)
    result = bring(host, mount=mount(mode="1750"))
    assert result["actions"][0]["why"] == "mode 0770 → 1750"
    assert stat.S_IMODE(Path(host.path("/srv/huge")).stat().st_mode) == 0o1750
    assert table(host) == before


def test_another_limit_makes_it_again(host: FakeKernel) -> None:
    bring(host, mount=mount(size="8M"))
    result = bring(host, mount=mount(size="4M"))
    assert result["actions"][0]["why"] == "size 8M instead of 4M"
    assert [line.rpartition(",")[2] for line in table(host)] == ["size=4194304"]


def test_a_group_that_is_not_declared_stays(host: FakeKernel) -> None:
    bring(host, mount=mount())
    result = bring(host, mount=mount(group=None, mode="0700"))
    assert f"gid={os.getegid()}" in host.get(UNIT)
    assert result["mounts"][0]["gid"] == os.getegid()


def test_what_has_files_in_it_is_not_unmounted(host: FakeKernel) -> None:
    bring(host, mount=mount(size="8M"))
    host.put("/srv/huge/data", "")
    for options in ({"mount": mount(size="4M")}, {"absent": True}):
        with pytest.raises(HostError, match="is not empty, it has data"):
            bring(host, **options)
    assert len(table(host)) == 1


def test_a_directory_with_files_is_not_hidden(host: FakeKernel) -> None:
    host.put("/srv/huge/data", "")
    with pytest.raises(HostError, match="Mounting would hide that"):
        bring(host, mount=mount())


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("tmpfs none rw", "is a mount of tmpfs"),
        ("hugetlbfs hugetlbfs rw,pagesize=1024M", "mounted by somebody else, with pages of 1G instead of 2M"),
    ],
)
def test_a_mount_of_somebody_else_is_not_touched(host: FakeKernel, row: str, says: str) -> None:
    host.put("/proc/self/mountinfo", f"9 1 0:9 / /srv/huge rw - {row}\n")
    with pytest.raises(HostError, match=says):
        bring(host, mount=mount())
    assert not bring(host, check=True, absent=True)["changed"]


def test_a_mount_that_cannot_go_stays_declared(host: FakeKernel) -> None:
    bring(host, mount=mount())
    mounts = FakeMounts(host)
    mounts.busy = True
    with pytest.raises(HostError, match="cannot be unmounted: target is busy"):
        Reservation(host, mounts).bring(request(absent=True), apply=True)
    assert host.exists(UNIT)


def test_absent_takes_the_mount_and_its_directory(host: FakeKernel) -> None:
    bring(host, mount=mount())
    bring(host, absent=True)
    assert table(host) == []
    assert not any(host.exists(path) for path in (UNIT, LINK, "/srv/huge"))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"path": "huge"}, "no place for a mount"),
        ({"path": "/"}, "no place for a mount"),
        ({"mode": 770}, "mode 770 is not one"),
        ({"mode": "rwx"}, "mode 'rwx' is not one"),
        ({"mode": "4755"}, "mode '4755' is not one"),
        ({"page_size": "4M"}, "no pages of 4M, but 2M, 1G"),
        ({"size": "3M"}, "size 3M is no multiple"),
        ({"group": "no-such-group"}, "no group no-such-group"),
    ],
)
def test_a_mount_that_makes_no_sense_is_named(host: FakeKernel, options: dict[str, Any], says: str) -> None:
    with pytest.raises(HostError) as error:
        bring(host, mount=mount(**options))
    assert says in str(error.value)


@pytest.mark.parametrize("mode", ["0750", "750", 0o750])
def test_a_mode_can_be_written_in_three_ways(host: FakeKernel, mode: Any) -> None:
    assert bring(host, mount=mount(mode=mode))["mounts"][0]["mode"] == "0750"


def test_a_running_systemd_hears_of_the_unit(host: FakeKernel) -> None:
    Path(host.path("/run/systemd/system")).mkdir(parents=True)
    assert bring(host, check=True, mount=mount())["actions"][-1]["action"] == "reload"
