# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The event loop: asyncio's, but a readiness callback is called as soon as epoll names its descriptor.

Of every wake-up asyncio makes an event list, an entry in a queue and a switch of context: a third of the time of a READ
that comes alone. Here it is one epoll_wait and one call. asyncio has its turn when something was scheduled, a timer is
due, or a descriptor of its own is ready: a stream, the wake-up by another thread, a signal.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import select
import selectors
from time import monotonic
from typing import Any, Callable, Final

from .gather import Gathering
from .spin import Events, Spin

_MOST_EVENTS: Final = 64
"""Descriptors a round. The kernel names all of them in turn, and timers are looked at after each round."""

_MOST_LATER: Final = 16
"""Callbacks that wait for the end of a round: the first of them is not to wait for long."""

_FEW: Final = 2
"""Commands a round: their initiators may do nothing before they have the answers."""
_GLANCE: Final = 10e-6
"""Seconds after which it is seen whether another initiator has sent something, while commands gather."""
_MOST_OUTSTANDING: Final = 65536
"""What is more than that was no number of commands."""

_READABLE: Final = select.EPOLLIN
_NOT_READABLE: Final = ~select.EPOLLIN
_NOT_WRITABLE: Final = ~select.EPOLLOUT

Callback = Callable[[], object]
Ready = list[tuple[selectors.SelectorKey, int]]


class Watch(selectors.EpollSelector):
    """asyncio's selector, which is one of the descriptors that an epoll of ours watches; the others have callbacks."""

    def __init__(self, failed: Callable[[Callback, Exception], None], spin: Spin) -> None:
        super().__init__()
        self._failed = failed
        self._spin = spin
        self._gathering = Gathering()
        self._answered = 0
        """Commands in this round,"""
        self._outstanding = 0
        """and those that their initiators had on their way."""
        self._pause = 0.0
        """Seconds for which commands are to gather."""
        self._spins = spin.always
        """The next ones are to be looked for."""
        self._epoll = select.epoll()
        self.readers: dict[int, Callback] = {}
        self.writers: dict[int, Callback] = {}
        self.asyncio_wanted = False
        """Leave :meth:`select` soon."""
        self._ready: Ready = []
        self._later: list[Callback] = []
        self.change(self.readers, self.fileno(), self._look)

    def _look(self) -> None:
        """Descriptors of asyncio's own are ready."""
        self._ready = super().select(0)
        self.asyncio_wanted = True

    def change(self, callbacks: dict[int, Callback], fd: int, callback: Callback | None) -> bool:
        """Set, or with None take away, what ``readers`` or ``writers`` have for ``fd``; was there something?

        Raises OSError for a descriptor that cannot be watched; nothing is noted of it then.
        """
        before = self._events_of(fd)
        if callback is not None:
            had = fd in callbacks
            callbacks[fd] = callback
        else:
            had = callbacks.pop(fd, None) is not None
        events = self._events_of(fd)
        if events == before:
            return had
        if not events:
            with contextlib.suppress(OSError):  # it was closed, and the kernel has forgotten it
                self._epoll.unregister(fd)
            return had
        try:
            if before:
                self._epoll.modify(fd, events)
            else:
                self._epoll.register(fd, events)
        except OSError:
            callbacks.pop(fd, None)
            raise
        return had

    def _events_of(self, fd: int) -> int:
        return (select.EPOLLIN if fd in self.readers else 0) | (select.EPOLLOUT if fd in self.writers else 0)

    def select(self, timeout: float | None = None) -> Ready:
        """Call callbacks until asyncio is wanted or ``timeout`` seconds have passed; gives what is ready for it."""
        until = 0.0 if timeout is None else monotonic() + timeout
        wait = timeout
        poll, spin = self._epoll.poll, self._spin
        found: Events = []
        reader_of, later = self.readers.get, self._later
        self.asyncio_wanted = False
        while True:
            if self._spins or self._pause:
                found = self._look_out(wait, len(found))
            else:
                found = poll(wait, _MOST_EVENTS)
            for fd, events in found:
                # A callback may be gone: an earlier one of this round took it away. Or it is that of a new descriptor
                # that got the number of one closed in this round: callbacks have to bear being called when nothing is
                # there.
                if events == _READABLE:
                    callback = reader_of(fd)
                    if callback is not None:
                        self._call(callback)
                else:
                    self._call_both(fd, events)
                if len(later) >= _MOST_LATER:
                    self._end_round()
            if later:
                self._end_round()
            if self._answered:
                self._expect()
            elif self._spins:
                self._spins = spin.found
            if self.asyncio_wanted:
                break
            if timeout is not None:
                wait = until - monotonic()
                if wait <= 0:
                    break
        ready, self._ready = self._ready, []
        return ready

    def _call_both(self, fd: int, events: int) -> None:
        """Errors and hang-ups are for readers and writers."""
        for callback_of, its_events in (self.readers.get, _NOT_WRITABLE), (self.writers.get, _NOT_READABLE):
            callback = callback_of(fd) if events & its_events else None
            if callback is not None:
                self._call(callback)

    def _call(self, callback: Callback) -> None:
        try:
            callback()
        except Exception as error:  # pylint: disable=broad-except
            self._failed(callback, error)

    def after_round(self, callback: Callback) -> None:
        """Call it when all that is ready now has been called, or most of it."""
        self._later.append(callback)

    def answered(self, count: int, outstanding: int) -> None:
        """So many commands were answered in this round, by a connection whose initiator had so many on their way."""
        self._answered += count
        self._outstanding += outstanding if outstanding < _MOST_OUTSTANDING else 0

    def _expect(self) -> None:
        """Commands were answered in this round: how are the next ones waited for?"""
        count, outstanding = self._answered, self._outstanding
        self._answered = self._outstanding = 0
        spin = self._spin
        if spin.never:
            return
        self._pause = self._gathering.after(count, outstanding, monotonic())
        self._spins = spin.always or (count <= _FEW and spin.tries())

    def _look_out(self, timeout: float | None, before: int) -> Events:
        """What is ready next, after commands had time to gather. More descriptors than ``before`` end that: there is
        another initiator, which may have no more commands to send."""
        poll = self._epoll.poll
        if self._pause:
            until = monotonic() + self._pause
            self._pause = 0.0
            found: Events = []
            glance = 0.0
            while glance < until:
                glance = min(monotonic() + _GLANCE, until)
                while monotonic() < glance:
                    pass
                found = poll(0, _MOST_EVENTS)
                if len(found) > before:
                    return found
            if found or not self._spins:
                return found
        return self._spin.poll(poll, timeout, _MOST_EVENTS)

    def _end_round(self) -> None:
        for callback in self._later:
            self._call(callback)
        self._later.clear()

    def close(self) -> None:
        self._epoll.close()
        super().close()


class Loop(asyncio.SelectorEventLoop):
    """For ``add_reader`` and ``add_writer``, whose callbacks must not block, nor mind in which context they are called.

    ``spin_seconds`` of processor time are spent on noticing the next event sooner: see :class:`Spin`.
    """

    def __init__(self, spin_seconds: float | None = None) -> None:
        self._watch = Watch(self._callback_failed, Spin(spin_seconds))
        super().__init__(self._watch)

    def add_reader(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        self._watch.change(self._watch.readers, _number(fd), functools.partial(callback, *args) if args else callback)

    def remove_reader(self, fd: Any) -> bool:
        return self._watch.change(self._watch.readers, _number(fd), None)

    def add_writer(  # type: ignore[override]
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        self._watch.change(self._watch.writers, _number(fd), functools.partial(callback, *args) if args else callback)

    def remove_writer(self, fd: Any) -> bool:
        return self._watch.change(self._watch.writers, _number(fd), None)

    def call_soon(  # type: ignore[override]
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        self._watch.asyncio_wanted = True
        return super().call_soon(callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.TimerHandle:
        self._watch.asyncio_wanted = True
        return super().call_at(when, callback, *args, context=context)

    def after_round(self, callback: Callback) -> None:
        """For a callback of a descriptor: call this one, which must not block either, when the others were called that
        are ready at the same time.

        Peers that are answered one right after the other are woken up together: what a processor that sleeps costs its
        waker is most of the time of a short answer.
        """
        self._watch.after_round(callback)

    def answered(self, count: int, outstanding: int) -> None:
        """For a callback that answered commands: their peer may have waited for that, to send the next ones; or it has
        so many on their way (0: not known) that more of them may come before they are answered."""
        self._watch.answered(count, outstanding)

    def stop(self) -> None:
        self._watch.asyncio_wanted = True
        super().stop()

    def _callback_failed(self, callback: Callback, error: Exception) -> None:
        self.call_exception_handler({"message": f"Exception in callback {callback}", "exception": error})


def _number(fd: Any) -> int:
    number: int = fd if isinstance(fd, int) else fd.fileno()
    return number
