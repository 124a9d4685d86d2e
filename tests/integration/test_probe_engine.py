# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The probe against the engine, judged by what the engine and its files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.chap import Credentials
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.errors import InitiatorError
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.login import Who
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.probe import Address, Request, probe
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.scsi import Capacity, LogicalUnit
from ansible_collections.openlun.iscsi.plugins.module_utils._initiator.session import Session
from engine_process import Engine, Launch, Target, free_port
from module_process import run_module

NAME = "iqn.2026-01.io.github.openlun:probe"


def request(port: int, target: str | None = None, *, write_test: bool = False) -> Request:
    return Request(Address("127.0.0.1", port), NAME, target, write_test)


def test_it_finds_every_target_and_lun(engine: Engine, tmp_path: Path) -> None:
    engine.initiator_group()
    port = engine.portal_group()
    engine.node("a", engine.malloc("M0", 8))
    engine.aio("file", tmp_path / "file.img", size=1 << 20, block_size=4096)
    engine.node("b", engine.malloc("M1", 16), "file")
    found = probe(request(port))
    sizes = {
        target["name"]: [(lun["lun"], lun["size"], lun["block_size"]) for lun in target["luns"]] for target in found
    }
    assert sizes == {
        "iqn.2016-06.io.spdk:a": [(0, 8 << 20, 512)],
        "iqn.2016-06.io.spdk:b": [(0, 16 << 20, 512), (1, 1 << 20, 4096)],
    }
    assert {portal for target in found for portal in target["portals"]} == {f"127.0.0.1:{port},1"}


def test_a_read_only_look_writes_nothing_and_a_write_test_restores(engine: Engine, tmp_path: Path) -> None:
    engine.initiator_group()
    port = engine.portal_group()
    path = tmp_path / "disk.img"
    content = bytes(range(256)) * 4096
    path.write_bytes(content)
    name = engine.node("a", engine.aio("file", path, block_size=512))
    assert not probe(request(port))[0]["luns"][0]["verified"]
    assert engine.rpc("bdev_get_iostat")["bdevs"][0]["num_write_ops"] == 0
    assert probe(request(port, name, write_test=True))[0]["luns"][0]["verified"]
    assert engine.rpc("bdev_get_iostat")["bdevs"][0]["bytes_written"] == 2 * 65536
    assert path.read_bytes() == content


def test_what_it_writes_is_what_the_file_holds(engine: Engine, tmp_path: Path) -> None:
    engine.initiator_group()
    port = engine.portal_group()
    path = tmp_path / "disk.img"
    name = engine.node("a", engine.aio("file", path, size=1 << 20))
    data = bytes(range(256)) * 1024  # more than one burst and one command
    with Session("127.0.0.1", port, Who(NAME, name), 10) as session:
        unit = LogicalUnit(session, bytes(8))
        unit.settle()
        assert unit.capacity() == Capacity(2048, 512)
        unit.write(3, data, 512)
        assert unit.read(3, len(data) // 512, 512) == data
    assert path.read_bytes()[3 * 512 :][: len(data)] == data


def test_a_write_protected_disk_is_left_out(engine: Engine, tmp_path: Path) -> None:
    engine.initiator_group()
    port = engine.portal_group()
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    engine.node("a", engine.aio("file", path, readonly=True))
    assert not probe(request(port, write_test=True))[0]["luns"][0]["verified"]


def test_a_target_that_is_not_offered_is_named_with_those_that_are(target: Target) -> None:
    with pytest.raises(InitiatorError, match=rf"target iqn\.x: .* It offers: {target.name}\."):
        probe(request(target.port, "iqn.x"))


def test_an_initiator_that_may_not_come_in_is_told(target: Target) -> None:
    with pytest.raises(InitiatorError, match="does not exist there"):
        Session("127.0.0.1", target.port, Who(NAME, "iqn.2016-06.io.spdk:nobody"), 10)


def test_a_portal_where_nobody_listens_is_named() -> None:
    port = free_port()
    with pytest.raises(InitiatorError, match=rf"portal 127\.0\.0\.1:{port}: cannot connect \(Connection refused\)"):
        probe(request(port))


def test_discovery_answers_of_more_than_one_pdu_are_put_together(launch: Launch) -> None:
    engine = launch()
    engine.initiator_group()
    port = engine.portal_group()
    bdev = engine.malloc("M0", 8)
    names = [engine.node(f"{number:03}{'x' * 180}", bdev) for number in range(60)]
    with Session("127.0.0.1", port, Who(NAME, None), 10) as session:
        answer = session.text({"SendTargets": "All"})
    assert [value for key, value in answer if key == "TargetName"] == names


ALICE = {"user": "alice", "secret": "wonderland-0001", "muser": "queen", "msecret": "of-hearts-00002"}


@pytest.fixture
def guarded(engine: Engine) -> int:
    """A node and a discovery that want CHAP; gives the port."""
    engine.initiator_group()
    port = engine.portal_group()
    engine.rpc("iscsi_create_auth_group", tag=7, secrets=[ALICE])
    engine.rpc("iscsi_set_discovery_auth", require_chap=True, chap_group=7)
    name = engine.node("a", engine.malloc("M0", 8))
    engine.rpc("iscsi_target_node_set_auth", name=name, require_chap=True, chap_group=7)
    return port


@pytest.mark.parametrize("mutual", [{}, {"msecret": ALICE["msecret"]}, {**ALICE}])
def test_it_proves_itself_and_has_the_target_prove_itself(guarded: int, mutual: dict[str, str]) -> None:
    credentials = Credentials(**{"user": ALICE["user"], "secret": ALICE["secret"], **mutual})
    (found,) = probe(request(guarded)._replace(credentials=credentials))
    assert found["luns"][0]["size"] == 8 << 20


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"secret": "another-secret-1"}, "wrong user or secret of CHAP"),
        ({"user": "mad"}, "wrong user or secret of CHAP"),
        ({"msecret": "another-secret-2"}, "the target does not prove to be queen"),
        ({"muser": "king"}, "the target does not prove to be king"),
    ],
)
def test_a_proof_that_fails_is_told_without_the_secrets(guarded: int, wrong: dict[str, str], why: str) -> None:
    with pytest.raises(InitiatorError, match=why) as failure:
        probe(request(guarded)._replace(credentials=Credentials(**{**ALICE, **wrong})))
    assert not [secret for secret in (*ALICE.values(), *wrong.values()) if len(secret) > 8 and secret in str(failure)]


def test_without_credentials_it_says_what_is_missing(guarded: int) -> None:
    with pytest.raises(InitiatorError, match="only one side wants CHAP"):
        probe(request(guarded))


def test_the_module_shows_no_secret(guarded: int) -> None:
    secrets = {name: ALICE[name] for name in ("secret", "msecret")}
    options: dict[str, Any] = {"portal": f"127.0.0.1:{guarded}", **ALICE}
    result = run_module("probe", **options)
    assert result["targets"][0]["luns"][0]["size"] == 8 << 20
    failed = run_module("probe", fails=True, **{**options, "msecret": "another-secret-2"})
    assert "does not prove to be queen" in failed["msg"]
    assert not [name for name, secret in secrets.items() if secret in str(result) + str(failed)]
    assert "required together" in run_module("probe", portal=options["portal"], fails=True, user="alice")["msg"]


def test_credentials_do_no_harm_where_nobody_asks(target: Target) -> None:
    credentials = Credentials(ALICE["user"], ALICE["secret"])
    assert probe(request(target.port)._replace(credentials=credentials))
