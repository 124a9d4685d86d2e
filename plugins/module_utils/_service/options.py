# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options that an engine takes only before it serves (iscsi_set_options of SPDK).

They are put where the engine finds them at every start, into its saved configuration, while it does not run.
"""

from __future__ import annotations

import json
import os
from functools import partial
from typing import TYPE_CHECKING, Any, Callable, Final

from .errors import ServiceError
from .files import Directory, ensure, explained, write_atomically
from .manager import Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FILE: Final = "config.json"
_SUBSYSTEM: Final = "iscsi"
_METHOD: Final = "iscsi_set_options"

AskOptions = Callable[[], "Mapping[str, Any] | None"]
"""The running engine's options (iscsi_get_options), or None when it does not tell them."""


class StartOptions:
    """The ``wanted`` options of an engine; none asks for nothing. ``owner`` is the user who runs it, None for ours."""

    def __init__(self, wanted: Mapping[str, Any], state_dir: str, owner: str | None, ask: AskOptions) -> None:
        self.wanted = dict(wanted)
        self._directory = Directory(state_dir, 0o700, owner)
        self._path = os.path.join(state_dir, _FILE)
        self._ask = ask

    def outdated(self) -> str:
        """Why the running engine has to be restarted to take the options; empty when it has them."""
        live = (self._ask() if self.wanted else None) or {}
        differences = [
            f"{name} {_words(live[name])} → {_words(value)}"
            for name, value in self.wanted.items()
            if name in live and live[name] != value
        ]
        return f"its target options changed: {', '.join(differences)}" if differences else ""

    def saving(self) -> Iterator[Step]:
        """A step that saves the options for the next start, unless they are. Raises ServiceError."""
        saved = _options_in(self._read()) if self.wanted else {}
        missing = {name: value for name, value in self.wanted.items() if name not in saved or saved[name] != value}
        if missing:
            why = ", ".join(f"{name} is to be {_words(value)}" for name, value in missing.items())
            yield Step("write", f"file {self._path}", why, partial(self._save, missing))

    def shown(self, running: bool) -> dict[str, Any]:
        """What the engine has, or will have at its start, of the wanted options. Raises ServiceError."""
        if not self.wanted:
            return {}
        found = (self._ask() if running else _options_in(self._read())) or {}
        return {name: found.get(name) for name in self.wanted}

    def _save(self, options: Mapping[str, Any]) -> None:
        document = self._read()
        _options_in(document).update(options)
        ensure(self._directory)
        write_atomically(self._path, json.dumps(document, indent=1) + "\n", 0o600, self._directory.owner)

    def _read(self) -> dict[str, Any]:
        """The saved configuration with a call for the options in it."""
        try:
            with explained(self._path), open(self._path, encoding="utf-8") as file:
                document = json.load(file)
        except ServiceError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return {"subsystems": [{"subsystem": _SUBSYSTEM, "config": []}]}
            raise
        except ValueError:  # its text is not repeated: it may hold secrets
            raise _damaged(self._path) from None
        if not isinstance(document, dict) or not isinstance(document.get("subsystems"), list):
            raise _damaged(self._path)
        return document


def _options_in(document: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the call in a configuration; the call is put there when it lacks."""
    sections = document["subsystems"]
    section = next((each for each in sections if each.get("subsystem") == _SUBSYSTEM), None)
    if section is None:
        section = {"subsystem": _SUBSYSTEM}
        sections.append(section)
    calls = section["config"] = section.get("config") or []
    call = next((each for each in calls if isinstance(each, dict) and each.get("method") == _METHOD), None)
    if call is None:
        call = {"method": _METHOD}
        calls.insert(0, call)
    options: dict[str, Any] = call.setdefault("params", {})
    return options


def _damaged(path: str) -> ServiceError:
    return ServiceError(
        f"state file {path}: not a configuration. It was left untouched: put a good copy in its place, or move it away "
        "to start with an empty configuration."
    )


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)
