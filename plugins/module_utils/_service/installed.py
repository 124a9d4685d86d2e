# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine archive that lies on a host."""

from __future__ import annotations

import hashlib
import re
import zipfile
from typing import Final, NamedTuple

from .errors import ServiceError

_INIT: Final = "openlun_iscsi_engine/__init__.py"
_VERSION: Final = re.compile(r'^__version__(?::[^=]+)? = "([^"]+)"$', re.MULTILINE)
UNKNOWN: Final = "unknown"


class Installed(NamedTuple):
    """What identifies an archive."""

    version: str
    checksum: str

    def __str__(self) -> str:
        return f"{self.version} (sha256 {self.checksum[:12]})"


def read(path: str) -> Installed | None:
    """The archive at ``path``, or None when there is no file. Raises ServiceError when it cannot be read."""
    try:
        with open(path, "rb") as file:
            checksum = hashlib.sha256(file.read()).hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ServiceError(
            f"engine archive {path}: {error.strerror}. Run the task as the user who installed it."
        ) from error
    return Installed(_version(path), checksum)


def _version(path: str) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            found = _VERSION.search(archive.read(_INIT).decode())
    except (OSError, zipfile.BadZipFile, KeyError, UnicodeDecodeError):
        return UNKNOWN  # a damaged archive is simply another archive: it gets replaced
    return found[1] if found else UNKNOWN
