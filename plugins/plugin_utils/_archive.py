# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Build the engine archive: one executable zip, the same bytes on every machine.

PRIVATE to the collection. It runs on the controller, inside the ``engine`` action plugin, and by itself as
``python3 _archive.py OUT``; that is why it imports nothing but the standard library.
"""

from __future__ import annotations

import hashlib
import io
import re
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ENGINE: Final = Path(__file__).resolve().parent.parent / "module_utils" / "_engine"
PACKAGE: Final = "openlun_iscsi_engine"

_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
_REGULAR_0644: Final = 0o100644 << 16
_UNIX: Final = 3
_VERSION: Final = re.compile(r'^__version__(?::[^=]+)? = "([^"]+)"$', re.MULTILINE)
_LICENCE: Final = """\
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""
_MAIN: Final = f"""\
{_LICENCE}
from {PACKAGE}.main import main

if __name__ == "__main__":
    raise SystemExit(main())
"""


class Archive(NamedTuple):
    """The archive's bytes and what tells one archive from another."""

    content: bytes
    version: str
    checksum: str  # SHA-256 of the content, lower case hex


class ArchiveError(Exception):
    """The engine's source is not complete."""


def build(source: Path = ENGINE) -> Archive:
    """Pack the engine package found in ``source``.

    Entries are stored, sorted and stamped with one time and mode, so that the bytes depend on the source alone.
    Raises ArchiveError when the source is not an engine.
    """
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in sorted(_entries(source)):
            archive.writestr(_member(name), content)
    content = buffer.getvalue()
    return Archive(content, version_of(source), hashlib.sha256(content).hexdigest())


def version_of(source: Path = ENGINE) -> str:
    """The version the engine package in ``source`` gives itself."""
    init = source / "__init__.py"
    try:
        found = _VERSION.search(init.read_text(encoding="utf-8"))
    except OSError as error:
        raise ArchiveError(f"{init}: {error.strerror}. The collection is not complete, install it again.") from error
    if found is None:
        raise ArchiveError(f"{init} has no __version__. The collection is damaged, install it again.")
    return found[1]


def _entries(source: Path) -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN.encode()
    for path in source.rglob("*.py"):
        yield f"{PACKAGE}/{path.relative_to(source).as_posix()}", path.read_bytes()


def _member(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.create_system = _UNIX
    info.external_attr = _REGULAR_0644
    return info


def write(archive: Archive, path: Path) -> None:
    """Put the archive at ``path``, executable; a reader sees the old file or the new one, never half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.write_bytes(archive.content)
    unfinished.chmod(0o755)
    unfinished.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """``_archive.py OUT``: write the archive to OUT and print its version and checksum."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1 or given[0].startswith("-"):
        sys.stderr.write("usage: _archive.py OUT\n")
        return 2
    try:
        archive = build()
        write(archive, Path(given[0]))
    except ArchiveError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{given[0]}: {error.strerror}.\n")
        return 1
    sys.stdout.write(f"{given[0]}: openlun-iscsi {archive.version}, sha256 {archive.checksum}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
