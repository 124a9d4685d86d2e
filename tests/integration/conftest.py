# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that start real things: an engine from its archive, disks in it, a portal to reach them."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster import TWO_CORES, Cluster
from engine_process import Engine, Launch, Target
from role_play import Place
from self_signed import self_signed
from spdk_process import SpdkEngine

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The engine as users get it."""
    path = tmp_path_factory.mktemp("archive") / "openlun-iscsi.pyz"
    subprocess.run([sys.executable, ROOT / "plugins/plugin_utils/_archive.py", path], check=True)
    return path


@pytest.fixture(scope="session")
def unpacked(archive: Path) -> Path:
    """The same engine as a directory, which Python runs like the archive but starts faster: it keeps bytecode."""
    directory = archive.with_suffix("")
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(directory)
    return directory


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for 127.0.0.1 that signed itself."""
    return self_signed(tmp_path_factory.mktemp("certificate"))


def _launch(unpacked: Path) -> Iterator[Launch]:
    engines: list[Engine] = []

    spdk = os.environ.get("OPENLUN_SPDK")

    def launch(*arguments: str | Path, state: bool = False, archive: Path | None = None) -> Engine:
        if spdk:
            engine: Engine = SpdkEngine(Path(spdk), *arguments, state=state or archive is not None)
        else:
            engine = Engine(archive or unpacked, *arguments, state=state)
        engines.append(engine)
        return engine.start()

    yield launch
    for engine in engines:
        engine.remove()


@pytest.fixture
def launch(unpacked: Path) -> Iterator[Launch]:
    """Start engines that end with the test."""
    yield from _launch(unpacked)


@pytest.fixture(scope="module")
def launch_shared(unpacked: Path) -> Iterator[Launch]:
    """Start engines that end with the module."""
    yield from _launch(unpacked)


@pytest.fixture
def engine(launch: Launch) -> Engine:
    """An engine with nothing in it."""
    return launch()


@pytest.fixture(scope="module")
def target(launch_shared: Launch) -> Target:
    """A node with a 64 MiB memory disk of 512-byte blocks as LUN 0, shared by the tests of a module."""
    engine = launch_shared()
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("disk0", engine.malloc("Malloc0")))


@pytest.fixture
def engine_survives(request: pytest.FixtureRequest) -> Iterator[None]:
    """After the test, the engine of its target runs and has no bug in its log."""
    yield
    if "target" in request.fixturenames:
        engine = request.getfixturevalue("target").engine
        assert engine.alive()
        assert "Traceback" not in engine.words()


@pytest.fixture
def others_are_served(target: Target) -> Iterator[None]:
    """After the test, somebody else can log in and use the disk."""
    yield
    with target.connect(isid=bytes.fromhex("8000000000bb")).login(target.name) as after:
        assert after.execute(bytes(6)).status == 0


@pytest.fixture
def place() -> Iterator[Place]:
    """What plays change on this host."""
    place = Place()
    yield place
    place.remove()


@pytest.fixture
def cluster(launch: Launch) -> Iterator[Cluster]:
    """An engine on two cores, with nothing in it but a portal and an initiator group."""
    cluster = Cluster(launch(*TWO_CORES, state=True))
    yield cluster
    assert "Traceback" not in cluster.engine.words()
