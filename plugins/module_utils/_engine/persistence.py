# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The saved configuration: one file in the state directory, replaced as a whole after every change.

What the file names but the host lacks, such as a missing disk, is kept in it at its place and tried again.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol

from .config import BadConfig, Entry, Section, parse, render
from .errors import Busy, EngineError, Invalid
from .process import NOTICE
from .rpc.dispatch import Memory
from .rpc.masking import masked
from .rpc.method import RpcError

_LOG = logging.getLogger(__name__)

STATE_FILE: Final = "config.json"
RETRY_SECONDS: Final = 10.0

Identity = tuple[Any, ...]


class StateFile:
    """``config.json`` in the state directory, which one engine owns at a time."""

    def __init__(self, directory: str) -> None:
        self.directory = Path(directory)
        self.path = self.directory / STATE_FILE
        self._temporary = self.directory / f"{STATE_FILE}.new"
        self._directory_fd = -1

    def lock(self) -> None:
        """Make the directory, private to its owner, and claim it. Raises Busy or another EngineError."""
        try:
            self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._directory_fd = os.open(self.directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            fcntl.flock(self._directory_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise Busy(
                f"state directory {self.directory} is used by another engine. Stop it or choose another one."
            ) from None
        except OSError as error:
            self.unlock()
            raise EngineError.from_os(error, f"state directory {self.directory}") from error

    def unlock(self) -> None:
        if self._directory_fd >= 0:
            os.close(self._directory_fd)
            self._directory_fd = -1

    def read(self) -> list[Section] | None:
        """The saved configuration, None when nothing was ever saved. Raises EngineError; the file is left alone."""
        try:
            return parse(self.path.read_bytes())
        except FileNotFoundError:
            return None
        except BadConfig as error:
            raise Invalid(
                f"state file {self.path}: {error}. It was left untouched: put a good copy in its place, or move it "
                "away to start with an empty configuration."
            ) from error
        except OSError as error:
            raise EngineError.from_os(error, f"state file {self.path}") from error

    def write(self, text: bytes) -> None:
        """Replace the file; after a crash at any point it holds the old or the new text. Raises EngineError."""
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._temporary, flags, 0o600)
            try:
                view = memoryview(text)
                while view:
                    view = view[os.write(fd, view) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            os.replace(self._temporary, self.path)
            os.fsync(self._directory_fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._temporary.unlink()
            failure = EngineError(
                f"{self.path}: the change is live but not saved, so a restart would undo it. Make room or repair the "
                "file system; saving is tried again until it works"
            )
            failure.errno = error.errno or failure.errno
            raise failure from error


class Unrestored:
    """A saved call that could not be made; ``place`` is its index among the saved calls of its subsystem."""

    def __init__(self, subsystem: str, entry: Entry, place: int, error: str) -> None:
        self.subsystem = subsystem
        self.entry = entry
        self.place = place
        self.error = error

    def to_rpc(self) -> dict[str, Any]:
        """As engine_get_info shows it, without secrets: unlike a configuration this is there to be looked at."""
        return {"method": self.entry.method, "params": masked(self.entry.params or {}), "error": self.error}


class Host(Protocol):
    """Whose configuration is saved."""

    def configuration(self) -> list[Section]:
        """The calls that make the live state again."""

    def identify(self, entry: Entry) -> Identity | None:
        """Kind and canonical key of the object that a call makes, if it makes one; for a part of one, that too."""

    def canonical(self, kind: str, key: Any) -> tuple[str, Any]:
        """The one form of a key that may be written in several."""

    async def attempt(self, entry: Entry) -> None:
        """Make a call. Raises RpcError."""


class Store(Memory):
    """Saves the configuration for everybody who waits, once for all of them, and remembers what was not restored.

    ``state`` is None when nothing is kept.
    """

    def __init__(self, state: StateFile | None, host: Host, retry_seconds: float = RETRY_SECONDS) -> None:
        self.state = state
        self.complete = False
        """The live configuration is whole. Before that, saving it would lose what is not restored yet."""
        self.unrestored: list[Unrestored] = []
        self._frozen: list[Section] | None = None
        self._thawed: asyncio.Event | None = None
        self._host = host
        self._retry_seconds = retry_seconds
        self._layout: dict[str, list[Identity]] = {}
        self._changes = 0
        self._saved_changes = 0
        self._saved_digest = b""
        self._saving: asyncio.Task[None] | None = None
        self._upkeep: asyncio.Task[None] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="save")

    @property
    def is_saved(self) -> bool:
        """Everything that changed is on disk, as far as anything is kept."""
        return self.state is None or self._saved_changes >= self._changes

    async def commit(self) -> None:
        """Return when everything changed so far is on disk. Raises EngineError; saving is then retried."""
        if self.state is None:
            return
        while self._thawed is not None:
            await self._thawed.wait()
        self._changes += 1
        if self.complete:
            await self._save_up_to(self._changes)

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Meanwhile the configuration of now is what is saved, whatever becomes of the live one."""
        self._frozen, self._thawed = self.sections(), asyncio.Event()
        try:
            yield
        finally:
            self._thawed.set()
            self._frozen = self._thawed = None

    async def _save_up_to(self, wanted: int) -> None:
        while self._saved_changes < wanted:
            if self._saving is None:
                self._saving = asyncio.get_running_loop().create_task(self._save())
            # Somebody who gives up waiting must not stop the saving that others wait for.
            await asyncio.shield(self._saving)

    async def _save(self) -> None:
        try:
            await asyncio.sleep(0)  # let everybody who is ready make their changes first
            changes = self._changes
            sections = self._frozen or self.sections()
            await asyncio.get_running_loop().run_in_executor(self._writer, self._write, sections)
            self._saved_changes = changes
        except EngineError as error:
            _LOG.error("%s", error)
            self._keep_up()
            raise
        finally:
            # Here and not in a callback: whoever comes next must not wait for a save that is over.
            self._saving = None

    def _write(self, sections: list[Section]) -> None:
        text = "".join(render(sections)).encode("ascii")
        digest = hashlib.sha256(text).digest()
        if self.state is not None and digest != self._saved_digest:
            self.state.write(text)
            self._saved_digest = digest

    def sections(self) -> list[Section]:
        """What is saved: the live configuration, and what could not be restored at its old place in it."""
        live = self._host.configuration()
        known = {section.subsystem for section in live}
        foreign = dict.fromkeys(left.subsystem for left in self.unrestored if left.subsystem not in known)
        return [self._merged(section) for section in (*live, *(Section(name, []) for name in foreign))]

    def _merged(self, section: Section) -> Section:
        missing = [left for left in self.unrestored if left.subsystem == section.subsystem]
        if not missing:
            return section
        live = section.entries or []
        layout = self._layout.get(section.subsystem, [])
        # Every missing entry follows the live one that preceded it in the file, or heads the list.
        leaders: dict[Identity, Identity | None] = {self._identity(entry): self._identity(entry) for entry in live}
        followers: dict[Identity | None, list[Entry]] = {}
        for left in sorted(missing, key=lambda each: each.place):
            before = (layout[place] for place in range(min(left.place, len(layout)) - 1, -1, -1))
            anchor = next((identity for identity in before if identity in leaders), None)
            leader = leaders[anchor] if anchor is not None else None
            leaders[self._identity(left.entry)] = leader
            followers.setdefault(leader, []).append(left.entry)
        merged = list(followers.get(None, ()))
        for entry in live:
            merged += (entry, *followers.get(self._identity(entry), ()))
        return Section(section.subsystem, merged)

    def _identity(self, entry: Entry) -> Identity:
        return self._host.identify(entry) or (entry.method,)

    def remember_layout(self, sections: Iterable[Section]) -> None:
        """Note in which order the file had its calls."""
        for section in sections:
            self._layout[section.subsystem] = [self._identity(entry) for entry in section.entries or []]

    def not_restored(self, subsystem: str, place: int, entry: Entry, error: str) -> None:
        """Keep a saved call that could not be made, and try it again from time to time."""
        self.unrestored.append(Unrestored(subsystem, entry, place, error))
        self._keep_up()

    def made(self, kind: str, key: Any, *part: Any) -> None:
        self.forget(kind, key, *part)

    def forget(self, kind: str, key: Any, *part: Any) -> bool:
        """An object goes with all its parts."""
        if not self.unrestored:
            return False
        wanted = (*self._host.canonical(kind, key), *part)
        count = len(self.unrestored)
        self.unrestored = [left for left in self.unrestored if self._identity(left.entry)[: len(wanted)] != wanted]
        return len(self.unrestored) < count

    def hint(self, kind: str, key: Any) -> str:
        found = self._find(kind, key)
        return "" if found is None else f" It is in the saved configuration but could not be restored: {found.error}"

    def _find(self, kind: str, key: Any) -> Unrestored | None:
        if not self.unrestored:
            return None
        wanted = self._host.canonical(kind, key)
        return next((left for left in self.unrestored if self._host.identify(left.entry) == wanted), None)

    def _keep_up(self) -> None:
        if self._upkeep is None:
            self._upkeep = asyncio.get_running_loop().create_task(self._keep_trying())

    async def _keep_trying(self) -> None:
        try:
            while self.unrestored or self._saved_changes < self._changes:
                await asyncio.sleep(self._retry_seconds)
                if await self.retry():
                    self._changes += 1
                if self.state is not None and self.complete:
                    with contextlib.suppress(EngineError):
                        await self._save_up_to(self._changes)
        finally:
            self._upkeep = None

    async def retry(self) -> bool:
        """Try what was not restored again; True if something succeeded."""
        any_success = False
        if self._frozen is not None:
            return False
        for left in list(self.unrestored):
            if left not in self.unrestored:
                continue
            try:
                await self._host.attempt(left.entry)
            except RpcError as error:
                if str(error) != left.error:
                    _LOG.warning("%s still fails: %s", left.entry.method, error)
                    left.error = str(error)
            else:
                _LOG.log(NOTICE, "%s succeeded after it had failed: %s", left.entry.method, left.error)
                any_success = True
                with contextlib.suppress(ValueError):  # somebody may have dropped it meanwhile
                    self.unrestored.remove(left)
        return any_success

    async def close(self) -> None:
        """Save what is not saved yet, stop retrying, release the directory."""
        if self._upkeep is not None:
            self._upkeep.cancel()
        if self.state is not None:
            if self.complete:
                with contextlib.suppress(EngineError):
                    await self._save_up_to(self._changes)
            self.state.unlock()
        self._writer.shutdown()
