# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Block devices that have the same on several others: SPDK's bdev_raid of level raid1."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from typing import Any, Callable, Final, Protocol

from ..errors import Busy, Invalid
from ..process import NOTICE
from . import beneath
from .base import Bdev, Buffer
from .raid_base import PLAIN, Piece, RaidBdev, all_done, awaited, failed, read_piece
from .rebuild import Rebuild

_LOG = logging.getLogger(__name__)

_FEWEST: Final = 2
"""Bases that a mirror has room for, even if it was made of one."""


class _Span:
    """Bytes that are on their way."""

    __slots__ = ("begin", "end")

    def __init__(self, begin: int, end: int) -> None:
        self.begin = begin
        self.end = end


class Watcher(Protocol):
    """Somebody who has the same mirror in another process."""

    def mirror_changed(self, mirror: MirrorBdev, base: Bdev, is_gained: bool) -> None:
        """``base`` is one like the others now, or none of them any more, though nobody asked for that."""

    def rebuild_got_on(self, mirror: MirrorBdev) -> None:
        """By a hundredth."""


class MirrorBdev(RaidBdev):
    """The same on every base. One that fails is given up, as long as another one is left, and comes back by being made
    the same again.

    Reads are of the first base, so that blocks that were never written are always the same.
    """

    level = "raid1"

    def __init__(
        self,
        name: str,
        bases: Sequence[Bdev],
        uuid: str | None,
        changed: Callable[[], None],
        num_base_bdevs: int | None = None,
    ) -> None:
        """``changed`` is called when a base was given up, or has become the same as the others. That has to be saved:
        it would be back with old data, or not at all. ``num_base_bdevs`` is how many there were before some were lost.
        """
        super().__init__(name, bases, min(base.num_blocks for base in bases), 0, uuid)
        self.size_of_bases = max(len(bases), num_base_bdevs or 0)
        self.rebuild: Rebuild | None = None
        self.watcher: Watcher | None = None
        self.added_by: dict[str, int] = {}
        """The number of the change (see :class:`scsi.unit.Units`) by which a base came, by its name."""
        self._changed = changed
        self._closed = False
        self._writing: set[_Span] = set()
        """What is on its way to bases that take their time."""
        self._awaited: list[asyncio.Future[None]] = []
        """Who waits for some of it."""

    def below(self) -> Sequence[Bdev]:
        return self.bases if self.rebuild is None else [*self.bases, self.rebuild.target]

    def add(self, base: Bdev, options: Mapping[str, int], at_once: bool = True) -> None:
        """Take ``base`` in the place of a lost one. What it holds is overwritten, in the background, with what the
        others hold; see Rebuild for ``options``. If not ``at_once``, by the process that is told to (see
        :meth:`rebuild_here`). Raises Invalid or Busy."""
        if self.rebuild is not None:
            raise Busy(
                f"bdev {self.name}: its mirror {self.rebuild.target.name} is being rebuilt. Wait for the end of it"
            )
        places = max(self.size_of_bases, _FEWEST)
        if len(self.bases) == places:
            raise Invalid(f"bdev {self.name}: it has all of its {places} base bdevs. Remove one of them first")
        if (base.block_size, base.readonly) != (self.block_size, False) or base.num_blocks < self.num_blocks:
            what = f"{base.num_blocks} blocks of {base.block_size} bytes{', read-only' if base.readonly else ''}"
            wanted = f"{self.num_blocks} blocks of {self.block_size} bytes"
            raise Invalid(f"bdev {self.name}: bdev {base.name} has {what}. At least {wanted} are needed, to be written")
        _LOG.log(NOTICE, "bdev %s: its mirror %s is being rebuilt", self.name, base.name)
        self.size_of_bases = places
        self.rebuild = Rebuild(self, base, options)
        if at_once:
            self.rebuild.start()

    def rebuild_here(self, name: str, options: Mapping[str, int]) -> None:
        """Make the base of that name the same as the others, from the beginning, whatever is known of it here."""
        known = [base for base in self.bases if base.name == name]
        if self.rebuild is None and known and self.bases != known:
            # This process made it so, which came too late to count.
            self.bases = [base for base in self.bases if base not in known]
            self.rebuild = Rebuild(self, known[0], options)
        if self.rebuild is not None and self.rebuild.target.name == name:
            self.rebuild.start()

    def rebuilt(self, rebuild: Rebuild, why_not: object, is_wanted: bool = False) -> None:
        """The end of a rebuild: with a reason when it failed, or when that ``is_wanted``."""
        if rebuild is not self.rebuild:
            return
        self.rebuild = None
        if why_not is None:
            _LOG.log(NOTICE, "bdev %s: its mirror %s is rebuilt", self.name, rebuild.target.name)
            self.bases = [*self.bases, rebuild.target]
        else:
            _LOG.error("bdev %s: its mirror %s is not rebuilt: %s", self.name, rebuild.target.name, why_not)
        self._note(rebuild.target, why_not is None, is_wanted)

    def _note(self, base: Bdev, is_gained: bool, is_wanted: bool) -> None:
        if self.watcher is not None and not is_wanted:
            self.watcher.mirror_changed(self, base, is_gained)
        self._changed()

    def note_progress(self) -> None:
        if self.watcher is not None:
            self.watcher.rebuild_got_on(self)

    def lose(self, base: Bdev) -> bool:
        return self.remove(base, "it is deleted")

    def remove(self, base: Bdev, why: str) -> bool:
        """Go on without ``base``; False when it is the last one."""
        if self.bases == [base]:
            return False
        self._give_up(base, why, is_wanted=True)
        return True

    def lose_named(self, name: str) -> None:
        """Another process of the engine gave the base of that name up."""
        for base in self.below():
            if base.name == name:
                self._give_up(base, "another process of the engine met an error of it")

    def gain_named(self, name: str) -> None:
        """Another process of the engine made the base of that name the same as the others."""
        rebuild = self.rebuild
        if rebuild is not None and rebuild.target.name == name and not rebuild.is_at_work:
            self.rebuilt(rebuild, None)

    def _give_up(self, base: Bdev, why: object, is_wanted: bool = False) -> None:
        rebuild = self.rebuild
        if rebuild is not None and rebuild.target is base:
            rebuild.stop()
            self.rebuilt(rebuild, why, is_wanted)
        elif base in self.bases and len(self.bases) > 1:
            _LOG.error("bdev %s goes on without its mirror %s: %s", self.name, base.name, why)
            self.bases = [each for each in self.bases if each is not base]
            self._note(base, False, is_wanted)

    def flush(self) -> Awaitable[None] | None:
        flushed = super().flush()
        if self.rebuild is None:
            return flushed
        # What is flushed has to be so on the new base, too, when it is one like the others.
        return all_done([flushed, self._flush_new(self.rebuild.target)])

    async def _flush_new(self, base: Bdev) -> None:
        try:
            flushed = beneath.flush(base)
            if flushed is not None:
                await flushed
        except OSError as error:
            self._give_up(base, error)

    def close(self) -> None:
        self._closed = True
        if self.rebuild is not None:
            self.rebuild.close()
            self.rebuild = None

    def config(self) -> tuple[str, dict[str, Any]]:
        """With the room for bases that are lost; one that is not yet like the others is none of them."""
        method, params = super().config()
        if self.size_of_bases > len(self.bases):
            params["num_base_bdevs"] = self.size_of_bases
        return method, params

    def further_config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield from super().further_config()
        if self.rebuild is not None:
            yield "bdev_raid_add_base_bdev", {"base_bdev": self.rebuild.target.name, "raid_bdev": self.name}

    def _process(self) -> dict[str, Any]:
        return {} if self.rebuild is None else {"process": self.rebuild.progress()}

    async def at_rest(self, begin: int, end: int) -> None:
        """Return when everything between these bytes that is on its way now has arrived."""
        spans = {span for span in self._writing if span.begin < end and begin < span.end}
        while not spans.isdisjoint(self._writing):
            arrival = asyncio.get_running_loop().create_future()
            self._awaited.append(arrival)
            await arrival

    @contextlib.contextmanager
    def writing(self, begin: int, end: int) -> Iterator[None]:
        """Something between these bytes is on its way meanwhile."""
        span = self._begin(begin, end)
        try:
            yield
        finally:
            self._end(span)

    def _begin(self, begin: int, end: int) -> _Span:
        span = _Span(begin, end)
        self._writing.add(span)
        return span

    def _end(self, span: _Span) -> None:
        self._writing.discard(span)
        waiting, self._awaited = self._awaited, []
        for arrival in waiting:
            if not arrival.done():
                arrival.set_result(None)

    def read(self, offset: int, length: int) -> Buffer | Awaitable[Buffer]:
        piece = Piece(self.bases[0], offset, length)
        try:
            result = read_piece(piece)
        except OSError as error:
            return self._read_again(piece, failed(error))
        return result if isinstance(result, PLAIN) else self._read_again(piece, result)

    async def _read_again(self, piece: Piece, pending: Awaitable[Buffer]) -> Buffer:
        while True:
            try:
                return await pending
            except OSError as error:
                if self.bases == [piece.base]:
                    raise
                self._give_up(piece.base, error)
                piece = piece._replace(base=self.bases[0])
                pending = awaited(read_piece(piece))

    def write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        rebuild = self.rebuild
        if rebuild is not None and rebuild.is_copying(offset, offset + len(data)):
            return self._write_later(offset, data)
        return self._write(offset, data)

    async def _write_later(self, offset: int, data: Buffer) -> None:
        while self.rebuild is not None and self.rebuild.is_copying(offset, offset + len(data)):
            await self.rebuild.passed()
        if self._closed:
            raise OSError(errno.ENODEV, f"bdev {self.name} was deleted")
        pending = self._write(offset, data)
        if pending is not None:
            await pending

    def _write(self, offset: int, data: Buffer) -> Awaitable[None] | None:
        rebuild, bases = self.rebuild, self.bases
        if rebuild is not None and offset < rebuild.copied:
            bases = [*bases, rebuild.target]
        pending: list[tuple[Bdev, Awaitable[None]]] = []
        for base in bases:
            try:
                result = beneath.write(base, offset, data)
            except OSError as error:
                pending.append((base, failed(error)))
            else:
                if result is not None:
                    pending.append((base, result))
        return self._written(self._begin(offset, offset + len(data)), pending) if pending else None

    async def _written(self, span: _Span, pending: list[tuple[Bdev, Awaitable[None]]]) -> None:
        try:
            outcomes = await asyncio.gather(*(each for _base, each in pending), return_exceptions=True)
        finally:
            self._end(span)
        losses = [(base, outcome) for (base, _each), outcome in zip(pending, outcomes) if outcome is not None]
        for base, outcome in losses:
            if self.bases == [base] or not isinstance(outcome, OSError):
                raise outcome
            self._give_up(base, outcome)
