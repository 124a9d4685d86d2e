# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an engine that neither makes, grows nor removes them, kept by the client on its host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import Call, CallError
from ansible_collections.openlun.iscsi.plugins.module_utils._state.host_files import HostFiles

KIB = 1024


class Spdk:
    """What HostFiles needs of SPDK: bdevs with the files they serve. It refuses what it is told to."""

    def __init__(self, *methods: str) -> None:
        self.methods = methods
        self.files: dict[str, str] = {}
        self.sent: list[Call] = []
        self.refuses = ""

    def call(self, method: str, params: dict[str, Any] | None = None) -> Any:
        if method == "rpc_get_methods":
            return self.methods
        name = (params or {})["name"]
        if name not in self.files:
            raise CallError(-19, "No such device", method)
        return [{"name": name, "driver_specific": {"aio": {"filename": self.files[name]}}}]

    def call_batch(self, calls: Sequence[Call]) -> list[Any]:
        self.sent += calls
        return [CallError(-22, "no", call.method) if call.method == self.refuses else True for call in calls]


@pytest.fixture
def spdk() -> Spdk:
    return Spdk("bdev_aio_create", "bdev_aio_rescan", "bdev_aio_delete")


@pytest.fixture
def client(spdk: Spdk) -> HostFiles:
    client = HostFiles(spdk)
    client.call("rpc_get_methods")
    return client


def create(path: Path, **options: Any) -> Call:
    return Call("bdev_aio_create", {"name": "disk", "filename": str(path), **options})


def test_a_file_is_made_before_the_engine_is_told_of_it(spdk: Spdk, client: HostFiles, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    others = Call("bdev_malloc_create", {"name": "M"})
    assert client.call_batch([others, create(path, size=64 * KIB), others]) == [True, True, True]
    assert spdk.sent == [others, create(path), others]
    assert path.stat().st_size == 64 * KIB
    assert path.stat().st_mode & 0o077 == 0
    assert path.stat().st_blocks * 512 >= 64 * KIB


def test_a_sparse_file_takes_no_space(client: HostFiles, tmp_path: Path) -> None:
    client.call_batch([create(tmp_path / "disk", size=1 << 30, sparse=True)])
    assert (tmp_path / "disk").stat().st_size == 1 << 30
    assert (tmp_path / "disk").stat().st_blocks == 0


def test_a_file_that_the_engine_does_not_take_is_taken_back(spdk: Spdk, client: HostFiles, tmp_path: Path) -> None:
    spdk.refuses = "bdev_aio_create"
    older = tmp_path / "older"
    older.write_bytes(b"data")
    for path in (tmp_path / "new", older):
        [answer] = client.call_batch([create(path, size=64 * KIB)])
        assert isinstance(answer, CallError)
    assert [path.name for path in tmp_path.iterdir()] == ["older"]
    assert older.read_bytes().startswith(b"data")


def test_what_cannot_be_made_is_not_sent_and_stops_nothing_else(spdk: Spdk, client: HostFiles, tmp_path: Path) -> None:
    other = Call("bdev_malloc_create", {"name": "M"})
    refused, done = client.call_batch([create(tmp_path / "no" / "disk", size=KIB), other])
    assert isinstance(refused, CallError)
    assert f"bdev disk: {tmp_path}/no/disk" in str(refused)
    assert (done, spdk.sent) == (True, [other])


def test_a_file_is_never_cut(client: HostFiles, tmp_path: Path) -> None:
    (tmp_path / "disk").write_bytes(bytes(4 * KIB))
    [answer] = client.call_batch([create(tmp_path / "disk", size=KIB)])
    assert "files are never shrunk" in str(answer)
    assert (tmp_path / "disk").stat().st_size == 4 * KIB


def test_a_file_grows_and_the_engine_looks_again(spdk: Spdk, client: HostFiles, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"data" * 256)
    spdk.files["disk"] = str(path)
    assert client.call_batch([Call("bdev_aio_resize", {"name": "disk", "size": 8 * KIB})]) == [True]
    assert spdk.sent == [Call("bdev_aio_rescan", {"name": "disk"})]
    assert path.stat().st_size == 8 * KIB
    assert path.read_bytes().startswith(b"data" * 256)


def test_a_file_goes_after_its_bdev_if_it_shall(spdk: Spdk, client: HostFiles, tmp_path: Path) -> None:
    path = tmp_path / "disk"
    path.write_bytes(b"data")
    spdk.files["disk"] = str(path)
    delete = Call("bdev_aio_delete", {"name": "disk", "remove_file": True})
    spdk.refuses = "bdev_aio_delete"
    client.call_batch([delete])
    assert path.exists()
    spdk.refuses = ""
    client.call_batch([Call("bdev_aio_delete", {"name": "disk"})])
    assert path.exists()
    assert client.call_batch([delete]) == [True]
    assert spdk.sent[-1] == Call("bdev_aio_delete", {"name": "disk"})
    assert not path.exists()


def test_an_engine_that_keeps_its_files_gets_every_call_as_it_is(tmp_path: Path) -> None:
    engine = Spdk("bdev_aio_create", "bdev_aio_rescan", "bdev_aio_resize")
    client = HostFiles(engine)
    client.call("rpc_get_methods")
    call = create(tmp_path / "disk", size=KIB)
    assert client.call_batch([call]) == [True]
    assert engine.sent == [call]
    assert not client.keeps_files
    assert list(tmp_path.iterdir()) == []
