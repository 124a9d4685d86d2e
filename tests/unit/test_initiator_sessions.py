# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sessions with a target: what is planned, done, waited for, refused, and told. Each of the known defects of other
modules for open-iscsi has a test here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator import records
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.info import gather
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.sessions import Incomplete
from fake_open_iscsi import FakeOpenIscsi

DISK0 = "iqn.2016-06.io.spdk:disk0"
V4, V6 = "10.0.0.1:3260", "[fd00::1]:3260"
SECRET, MSECRET = "not-for-your-eyes", "nor-for-theirs"
CHAP = {"user": "db1", "secret": SECRET, "muser": "storage1", "msecret": MSECRET}


@pytest.fixture
def host(tmp_path: Path) -> FakeOpenIscsi:
    return FakeOpenIscsi(tmp_path, luns={DISK0: {0: 1 << 20}})


def acts(result: dict[str, Any]) -> list[str]:
    return [each["action"] for each in result["actions"]]


def test_a_target_is_logged_in_and_a_second_run_changes_nothing(host: FakeOpenIscsi) -> None:
    result = host.bring(target=DISK0, portals=[V4], startup="automatic")
    assert acts(result) == ["create", "login"]
    assert result["sessions"][0]["luns"][0]["by_path"] == [f"/dev/disk/by-path/ip-{V4}-iscsi-{DISK0}-lun-0"]
    assert host.record(V4, DISK0)["node.startup"] == "automatic"
    host.commands.clear()
    again = host.bring(target=DISK0, portals=[V4], startup="automatic")
    assert (again["changed"], again["diff"], host.changing()) == (False, {"before": {}, "after": {}}, [])


def test_check_mode_tells_what_a_run_does_and_does_nothing(host: FakeOpenIscsi) -> None:
    options: dict[str, Any] = {"target": DISK0, "portals": [V4, V6], "chap": CHAP, "startup": "automatic"}
    told = host.bring(check=True, **options)
    assert host.changing() == []
    done = host.bring(**options)
    assert (told["actions"], told["diff"]) == (done["actions"], done["diff"])


def test_a_login_names_the_portal_that_was_given_and_no_other(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4, V6])
    host.sessions.clear()
    host.commands.clear()
    host.bring(target=DISK0, portals=[V6])
    (login,) = [command for command in host.commands if "--login" in command]
    words = ["-m", "node", "-T", DISK0, "-p", f"{V6},1", "-I", "default", "--login"]
    assert login == ["iscsiadm", *words]


def test_ipv6_portals_have_records_sessions_and_links(host: FakeOpenIscsi) -> None:
    result = host.bring(target=DISK0, portals=["[fd00:0:0::1]"])
    assert result["sessions"][0]["portal"] == V6
    assert result["sessions"][0]["luns"][0]["by_path"] == [f"/dev/disk/by-path/ip-fd00::1:3260-iscsi-{DISK0}-lun-0"]
    assert not host.bring(target=DISK0, portals=[V6])["changed"]


def test_no_records_and_no_sessions_are_no_error(host: FakeOpenIscsi) -> None:
    assert not host.bring(target=DISK0, state="absent")["changed"]


def test_a_host_without_open_iscsi_has_nothing_to_leave_and_cannot_log_in(host: FakeOpenIscsi) -> None:
    def run(words: list[str]) -> tuple[int, str, str]:
        raise FileNotFoundError(2, "not installed", words[0])

    host.run = run  # type: ignore[method-assign]
    assert not host.bring(target=DISK0, state="absent")["changed"]
    assert acts(host.bring(target=DISK0, portals=[V4], check=True)) == ["create", "login"]
    assert gather(host.host, run, None)["sessions"] == []
    with pytest.raises(InitiatorError, match="Install open-iscsi"):
        host.bring(target=DISK0, portals=[V4])


def test_secrets_are_on_no_command_line_in_no_result_and_only_root_can_read_them(host: FakeOpenIscsi) -> None:
    result = host.bring(target=DISK0, portals=[V4], chap=CHAP)
    (path,) = (host.root / "etc/iscsi/nodes" / DISK0).rglob("default")
    assert f"node.session.auth.password = {SECRET}\n" in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    told = json.dumps([result, host.commands])
    assert SECRET not in told
    assert MSECRET not in told


def test_another_secret_is_a_change_that_shows_neither(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4], chap=CHAP)
    assert not host.bring(target=DISK0, portals=[V4], chap=CHAP)["changed"]
    result = host.bring(target=DISK0, portals=[V4], chap={**CHAP, "secret": "a-new-secret-now"})
    (after,) = result["diff"]["after"].values()
    assert after["record"]["node.session.auth.password"] == "******** (another one)"
    assert after["record"]["node.session.auth.password_in"] == "********"
    assert "a-new-secret-now" not in json.dumps(result)
    assert host.record(V4, DISK0)["node.session.auth.password"] == "a-new-secret-now"


def test_an_empty_chap_removes_secrets_and_an_omitted_one_keeps_them(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4], chap=CHAP)
    assert not host.bring(target=DISK0, portals=[V4])["changed"]
    host.bring(target=DISK0, portals=[V4], chap={})
    kept = host.record(V4, DISK0)
    assert kept["node.session.auth.authmethod"] == "None"
    assert "node.session.auth.password" not in kept


@pytest.mark.parametrize(
    ("chap", "says"),
    [
        ({"user": "db1"}, "user and secret belong together"),
        ({"muser": "m", "msecret": MSECRET}, "mutual CHAP needs user and secret"),
        ({"user": "db1", "secret": f"{SECRET}\n"}, "secret has more than one line"),
        ({"user": "db1", "secret": f" {SECRET}"}, "secret begins or ends with a blank"),
    ],
)
def test_proofs_that_cannot_be_kept_are_refused_without_telling_them(
    host: FakeOpenIscsi, chap: dict[str, str], says: str
) -> None:
    with pytest.raises(InitiatorError) as error:
        host.bring(target=DISK0, portals=[V4], chap=chap)
    assert says in str(error.value)
    assert SECRET not in str(error.value)


def test_settings_that_are_not_named_stay(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4], startup="automatic", replacement_timeout=5)
    host.bring(target=DISK0, portals=[V4], header_digest="crc32c", params={"node.session.iscsi.InitialR2T": True})
    kept = host.record(V4, DISK0)
    assert (kept["node.startup"], kept["node.session.timeo.replacement_timeout"]) == ("automatic", "5")
    assert (kept["node.conn[0].iscsi.HeaderDigest"], kept["node.session.iscsi.InitialR2T"]) == ("CRC32C", "Yes")


def test_what_counts_from_the_next_login_is_a_warning_or_a_new_login(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    (warning,) = host.bring(target=DISK0, portals=[V4], header_digest="crc32c")["warnings"]
    assert "relogin: true" in warning
    result = host.bring(target=DISK0, portals=[V4], data_digest="crc32c", relogin=True)
    assert acts(result) == ["edit", "logout", "login"]
    assert acts(host.bring(target=DISK0, portals=[V4], startup="automatic")) == ["edit"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_setting_that_open_iscsi_does_not_know_is_refused_and_nothing_stays(
    host: FakeOpenIscsi, exists: bool
) -> None:
    if exists:
        host.bring(target=DISK0, portals=[V4])
    before = host.record(V4, DISK0)
    with pytest.raises(InitiatorError, match=r"no setting node\.nonsense"):
        host.bring(target=DISK0, portals=[V4], params={"node.nonsense": 1})
    assert host.record(V4, DISK0) == before


def test_a_value_that_open_iscsi_drops_in_silence_is_an_error_and_the_record_as_before(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    before = host.record(V4, DISK0)
    host.clamps["node.session.cmds_max"] = "2048"
    with pytest.raises(Incomplete, match=r"does not take the value of node\.session\.cmds_max '4096', and reads"):
        host.bring(target=DISK0, portals=[V4], cmds_max=4096)
    assert host.record(V4, DISK0) == before


@pytest.mark.parametrize(
    "name",
    [
        *("node.session.auth.password", "node.startup", "node.name", "discovery.x", "x\ny"),
        *("node.x\nnode.session.auth.password", "node.session.auth.password = y #", "node.x y"),
    ],
)
def test_params_do_not_set_what_has_an_option_or_is_none(host: FakeOpenIscsi, name: str) -> None:
    with pytest.raises(InitiatorError, match="params: "):
        host.bring(target=DISK0, portals=[V4], params={name: "x"})


def test_nothing_is_scanned_while_the_target_offers_nothing_new(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    host.commands.clear()
    assert not host.bring(target=DISK0)["changed"]
    assert not any("--rescan" in command for command in host.commands)


def test_a_new_lun_appears_without_a_logout(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    host.luns[DISK0][3] = 1 << 21
    told = host.bring(target=DISK0, check=True)
    assert not any("--rescan" in command for command in host.commands)
    result = host.bring(target=DISK0, luns=[0, 3])
    assert (
        told["actions"]
        == result["actions"]
        == [{"action": "rescan", "object": f"session of target {DISK0} at {V4}", "why": "LUN 3 is new"}]
    )
    assert [unit["lun"] for unit in result["sessions"][0]["luns"]] == [0, 3]


def test_a_grown_lun_is_read_again_and_one_that_did_not_grow_is_not(host: FakeOpenIscsi) -> None:
    host.luns[DISK0][1] = 1 << 20
    host.bring(target=DISK0, portals=[V4])
    host.luns[DISK0][1] = 1 << 21
    result = host.bring(target=DISK0)
    assert [(each["action"], each["why"]) for each in result["actions"]] == [("resize", "1048576 → 2097152 bytes")]
    host.kernel_acts()
    assert not host.bring(target=DISK0)["changed"]


def test_the_disk_of_a_lun_that_is_gone_goes_unless_it_is_used(host: FakeOpenIscsi) -> None:
    host.luns[DISK0][1] = 1 << 20
    disk = host.bring(target=DISK0, portals=[V4])["sessions"][0]["luns"][1]["device"].rpartition("/")[2]
    del host.luns[DISK0][1]
    host.mount(disk, "/srv")
    kept = host.bring(target=DISK0)
    assert kept["actions"] == []
    assert f"LUN 1 is gone, but /dev/{disk} is mounted at /srv" in kept["warnings"][0]
    (host.root / "proc/self/mountinfo").write_text("")
    assert acts(host.bring(target=DISK0)) == ["remove"]


def test_a_disk_that_is_mounted_is_not_logged_out_unless_forced(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4, V6])
    host.mount("sdba", "/var/lib/my\\040data")
    host.commands.clear()
    with pytest.raises(InitiatorError) as error:
        host.bring(target=DISK0, state="absent")
    assert "/dev/sdba is mounted at /var/lib/my data. Nothing was changed." in str(error.value)
    assert host.changing() == []
    result = host.bring(target=DISK0, state="absent", force=True)
    assert acts(result) == ["logout", "logout", "delete", "delete"]
    assert "although /dev/sdba is mounted" in result["actions"][0]["why"]
    assert (host.sessions, list(records.Records(host.host).all())) == ([], [])


def test_a_disk_that_only_a_container_has_mounted_is_in_use(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    host.mount("sdba", "/data", pid="900")
    with pytest.raises(InitiatorError, match=r"/dev/sdba is mounted at /data\. Nothing was changed"):
        host.bring(target=DISK0, state="absent")


@pytest.mark.parametrize(("program", "counts"), [("qemu-system-x86", True), ("multipathd", False)])
def test_a_disk_that_a_program_has_open_is_in_use_unless_it_only_looks(
    host: FakeOpenIscsi, program: str, counts: bool
) -> None:
    host.bring(target=DISK0, portals=[V4])
    process = host.root / "proc/900"
    (process / "fd").mkdir(parents=True)
    (process / "fd/7").symlink_to("/dev/sdba")
    (process / "comm").write_text(f"{program}\n")
    (process / "cmdline").write_text(f"{program}\0-x\0")
    if not counts:
        assert acts(host.bring(target=DISK0, state="absent")) == ["logout", "delete"]
        return
    with pytest.raises(InitiatorError, match=rf"/dev/sdba is open in process 900 of \w+ \({program} -x\)"):
        host.bring(target=DISK0, state="absent")


def test_a_disk_below_a_volume_group_is_in_use(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    holder = host.root / "sys/block/dm-3/dm"
    holder.mkdir(parents=True)
    (holder / "name").write_text("vg-data\n")
    (holder / "uuid").write_text("LVM-abc\n")
    (host.root / "sys/block/sdba/holders/dm-3").mkdir(parents=True)
    with pytest.raises(InitiatorError, match="/dev/sdba is an LVM physical volume of vg, and its"):
        host.bring(target=DISK0, state="absent")


def test_one_of_two_paths_of_a_mounted_map_may_go_and_the_last_may_not(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4, V6])
    dm = host.root / "sys/block/dm-0"
    (dm / "dm").mkdir(parents=True)
    (dm / "dm/uuid").write_text("mpath-3600\n")
    (dm / "dm/name").write_text("mpatha\n")
    (dm / "dev").write_text("253:0\n")
    for disk in ("sdba", "sdca"):
        (dm / "slaves" / disk).mkdir(parents=True)
        (host.root / f"sys/block/{disk}/holders/dm-0").mkdir(parents=True)
    host.mount("dm-0", "/srv")
    assert acts(host.bring(target=DISK0, portals=[V4], state="absent", check=True)) == ["logout", "delete"]
    with pytest.raises(InitiatorError, match="/dev/mapper/mpatha is mounted at /srv"):
        host.bring(target=DISK0, state="absent")


def test_a_portal_can_be_forgotten_while_the_other_stays(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4, V6])
    host.bring(target=DISK0, portals=[V4], state="absent")
    assert [str(each.node.portal) for each in host.sessions] == [V6]
    assert host.record(V4, DISK0) == {}
    assert host.record(V6, DISK0) != {}


def test_a_portal_that_is_not_declared_any_more_goes_when_the_others_are_all(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    assert acts(host.bring(target=DISK0, portals=[V6])) == ["create", "login"]
    assert acts(host.bring(target=DISK0, portals=[V6], exclusive=True)) == ["logout", "delete"]
    assert not host.bring(target=DISK0, portals=[V6], exclusive=True)["changed"]


def test_a_record_without_a_session_is_kept_or_deleted(host: FakeOpenIscsi) -> None:
    host.bring(target=DISK0, portals=[V4])
    assert acts(host.bring(target=DISK0, state="recorded")) == ["logout"]
    assert acts(host.bring(target=DISK0, state="absent")) == ["delete"]


def test_the_disk_is_waited_for_until_udev_has_named_it(host: FakeOpenIscsi) -> None:
    host.slow = 2
    result = host.bring(target=DISK0, portals=[V4], wait=30)
    assert result["sessions"][0]["luns"][0]["by_path"]


@pytest.mark.parametrize(
    ("luns", "options", "says"),
    [
        ({}, {}, "shows no disk after 3 s"),
        ({0: 512}, {"luns": [0, 7]}, "LUN 7 did not appear in 3 s. It has 0."),
    ],
)
def test_a_disk_that_never_appears_is_named(
    host: FakeOpenIscsi, luns: dict[int, int], options: dict[str, Any], says: str
) -> None:
    host.luns[DISK0] = luns
    with pytest.raises(Incomplete) as error:
        host.bring(target=DISK0, portals=[V4], **options)
    assert f"target {DISK0} at {V4}: " in str(error.value)
    assert says in str(error.value)


def test_a_target_that_may_have_no_luns_is_not_waited_for(host: FakeOpenIscsi) -> None:
    host.luns[DISK0] = {}
    assert acts(host.bring(target=DISK0, portals=[V4], luns=[])) == ["create", "login"]
    assert not host.bring(target=DISK0, luns=[])["changed"]


@pytest.mark.parametrize(
    ("code", "says"), [(24, "refuses the user or the secret"), (19, "initiator groups"), (8, "does not answer")]
)
def test_a_portal_that_fails_does_not_stop_the_others_and_a_second_run_ends_well(
    host: FakeOpenIscsi, code: int, says: str
) -> None:
    host.refuses[V4] = code
    with pytest.raises(Incomplete) as error:
        host.bring(target=DISK0, portals=[V4, V6])
    assert f"target {DISK0} at {V4}: " in str(error.value)
    assert says in str(error.value)
    assert acts(error.value.result) == ["create", "create", "login"]
    assert [str(each.node.portal) for each in host.sessions] == [V6]
    host.refuses.clear()
    assert acts(host.bring(target=DISK0, portals=[V4, V6])) == ["login"]


def test_an_interface_is_made_bound_and_used(host: FakeOpenIscsi) -> None:
    options: dict[str, Any] = {"interface": "storage", "binding": {"net_ifacename": "eth1"}}
    result = host.bring(target=DISK0, portals=[V4], **options)
    assert acts(result) == ["create", "create", "login"]
    assert host.interfaces["storage"] == {"iface.net_ifacename": "eth1"}
    assert result["sessions"][0]["interface"] == "storage"
    assert not host.bring(target=DISK0, portals=[V4], **options)["changed"]


def test_an_interface_that_nobody_knows_is_refused(host: FakeOpenIscsi) -> None:
    with pytest.raises(InitiatorError, match="open-iscsi has no interface storage"):
        host.bring(target=DISK0, portals=[V4], interface="storage")


def test_without_portals_and_records_the_next_step_is_told(host: FakeOpenIscsi) -> None:
    with pytest.raises(InitiatorError, match="Give portals, or discover it first"):
        host.bring(target=DISK0)


@pytest.mark.parametrize("place", ["/etc/iscsi", "/var/lib/iscsi"])
def test_records_are_found_where_the_distribution_keeps_them(host: FakeOpenIscsi, place: str) -> None:
    host.place = place
    host.bring(target=DISK0, portals=[V4], startup="automatic")
    assert not host.bring(target=DISK0, startup="automatic")["changed"]
    assert (host.root / place.lstrip("/") / "nodes" / DISK0 / "10.0.0.1,3260,1" / "default").exists()
