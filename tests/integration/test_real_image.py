# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file system made from real files, served from a file: read back, and written through the LUN."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from engine_process import Launch, Target, run

SOURCE = Path("/usr/share")
BUDGET = 64 * 2**20
"""Bytes of real files that go into the image."""
IMAGE_SIZE = 128 * 2**20


def digest(path: Path) -> str:
    with path.open("rb") as stream:
        checksum = hashlib.sha256()
        while chunk := stream.read(2**20):
            checksum.update(chunk)
        return checksum.hexdigest()


def gather(source: Path, destination: Path, budget: int) -> int:
    """Copy files from ``source`` until ``budget`` bytes are used up, keeping the tree; returns how many."""
    count = 0
    for directory, folders, files in os.walk(source):
        folders.sort()
        for name in sorted(files):
            path = Path(directory, name)
            if path.is_symlink() or not path.is_file() or not os.access(path, os.R_OK):
                continue
            budget -= path.stat().st_size
            if budget < 0:
                return count
            copy = destination / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            count += 1
    return count


def make_ext4(image: Path, tree: Path) -> Path:
    subprocess.run(
        ["mke2fs", "-q", "-F", "-t", "ext4", "-d", tree, image, f"{IMAGE_SIZE // 1024}k"],
        check=True,
        env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"},
    )
    return image


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ext4 image full of real files."""
    directory = tmp_path_factory.mktemp("real")
    tree = directory / "tree"
    tree.mkdir()
    assert gather(SOURCE, tree, BUDGET) > 100
    make_ext4(directory / "disk.img", tree)
    shutil.rmtree(tree)
    return directory / "disk.img"


def serve(launch: Launch, path: Path, **options: object) -> Target:
    engine = launch(state=True)
    engine.initiator_group()
    port = engine.portal_group()
    return Target(engine, port, engine.node("files", engine.aio("Files0", path, **options)))


def fsck(path: Path) -> None:
    run(shutil.which("e2fsck", path="/usr/sbin:/sbin:" + os.environ["PATH"]) or "e2fsck", "-fn", path)


@pytest.mark.parametrize("block_size", [512, 4096])
def test_a_file_system_reads_back_as_it_was_made(launch: Launch, image: Path, tmp_path: Path, block_size: int) -> None:
    target = serve(launch, image, block_size=block_size, readonly=False)
    copy = tmp_path / "copy.img"
    run("qemu-img", "convert", "-f", "raw", "-O", "raw", target.url(), copy)
    assert copy.stat().st_size == image.stat().st_size
    assert digest(copy) == digest(image)
    fsck(copy)


def test_an_image_written_through_the_lun_is_the_file_behind_it(launch: Launch, image: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing.img"
    target = serve(launch, backing, block_size=512, size=IMAGE_SIZE)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, target.url())
    assert digest(backing) == digest(image)
    target.engine.stop()
    fsck(backing)


def test_what_was_written_is_there_after_the_engine_was_killed(launch: Launch, image: Path, tmp_path: Path) -> None:
    backing = tmp_path / "backing.img"
    target = serve(launch, backing, block_size=512, size=IMAGE_SIZE)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", image, target.url())
    target.engine.restart(signal.SIGKILL)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", image, target.url()).stdout
