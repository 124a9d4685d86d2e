# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine archive: complete, runnable, and the same bytes whenever and wherever it is built."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from ansible_collections.openlun.iscsi.plugins.plugin_utils._archive import (
    ENGINE,
    PACKAGE,
    ArchiveError,
    build,
    main,
    version_of,
    write,
)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the engine's source, elsewhere, with other times, modes and left-overs."""
    copy = tmp_path / "elsewhere" / "_engine"
    shutil.copytree(ENGINE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
        path.chmod(0o700)
    (copy / "__pycache__").mkdir()
    (copy / "__pycache__" / "service.cpython-39.pyc").write_bytes(b"left over")
    return copy


def test_the_bytes_depend_on_the_source_alone(source: Path) -> None:
    assert build(source) == build()


def test_the_checksum_is_that_of_the_content() -> None:
    archive = build()
    assert archive.checksum == hashlib.sha256(archive.content).hexdigest()


def test_a_change_of_the_source_shows(source: Path) -> None:
    (source / "facts.py").write_text("CHANGED = True\n")
    assert build(source).checksum != build().checksum


def test_entries_are_stored_sorted_and_of_one_time_and_mode(source: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.pyz"
    write(build(source), path)
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    assert [entry.filename for entry in entries] == sorted(entry.filename for entry in entries)
    assert {entry.compress_type for entry in entries} == {zipfile.ZIP_STORED}
    assert {(entry.date_time, entry.external_attr >> 16) for entry in entries} == {
        ((1980, 1, 1, 0, 0, 0), stat.S_IFREG | 0o644)
    }
    assert {entry.filename.split("/")[0] for entry in entries} == {"__main__.py", PACKAGE}
    assert not [entry.filename for entry in entries if "__pycache__" in entry.filename]


def test_it_runs_by_itself_from_any_directory(tmp_path: Path) -> None:
    path = tmp_path / "openlun-iscsi.pyz"
    write(build(), path)
    shown = subprocess.run([path, "version"], cwd="/", capture_output=True, text=True, check=True)
    assert shown.stdout == f"openlun-iscsi {version_of()}\n"


def test_the_builder_is_a_program_that_needs_no_ansible(tmp_path: Path) -> None:
    program = ENGINE.parents[1] / "plugin_utils" / "_archive.py"
    out = tmp_path / "new" / "engine.pyz"
    # -S: no site-packages, so nothing but the standard library is there.
    done = subprocess.run(
        [sys.executable, "-S", "-I", program, out], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    assert build().checksum in done.stdout
    assert out.read_bytes() == build().content
    assert os.access(out, os.X_OK)


def test_a_place_that_cannot_be_written_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    assert main([str(in_the_way / "engine.pyz")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_incomplete_collection_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match=r"__init__\.py.*install it again"):
        build(tmp_path)
