# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Saves the configuration of an engine that does not save itself, as SPDK's save_config does it."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from .._rpc import Call, CallError
from .reader import Client


class NotSaved(Exception):
    """The configuration is live but not in its file."""


def configuration(client: Client) -> str:
    """Everything that is configured now, in the form that ``iscsi_tgt -c`` loads. Raises RpcError."""
    names = [each["subsystem"] for each in client.call("framework_get_subsystems")]
    configs = client.call_batch([Call("framework_get_config", {"name": name}) for name in names])
    for config in configs:
        if isinstance(config, CallError):
            raise config
    sections = [{"subsystem": name, "config": config} for name, config in zip(names, configs)]
    return json.dumps({"subsystems": sections}, indent=2) + "\n"


def differs(path: str, text: str) -> bool:
    """Is ``text`` not what the file has? Raises NotSaved when it cannot be read."""
    try:
        return Path(path).read_text(encoding="utf-8") != text
    except FileNotFoundError:
        return True
    except (OSError, UnicodeDecodeError) as error:
        raise NotSaved(f"{path}: cannot be compared with the live configuration: {error}") from error


def save(path: str, text: str) -> None:
    """Replace the file as a whole; it has secrets, so only its owner may read it. Raises NotSaved."""
    try:
        fd, temporary = tempfile.mkstemp(dir=os.path.dirname(path) or ".", prefix=f".{os.path.basename(path)}.")
        try:
            with open(fd, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(fd)
            os.replace(temporary, path)
            _sync_directory(path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise NotSaved(
            f"{path}: {error.strerror}. The changes are live but not saved, so an engine that does not save itself "
            "forgets them at its next start. Make the path writable and run again."
        ) from error


def _sync_directory(path: str) -> None:
    """A new name survives a power cut only with its directory."""
    fd = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def action(path: str) -> dict[str, Any]:
    """The save, as a result tells it."""
    why = "the file has another configuration than the engine"
    return {"action": "save", "object": f"configuration {path}", "why": why, "sessions": []}
