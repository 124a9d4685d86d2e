# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine as a whole: it owns every object, brings them up in order and takes them down again."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import functools
import hashlib
import logging
import os
import signal
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from . import __version__
from .bdev.base import Bdev, BdevRegistry
from .bdev.controllers import NvmeControllers
from .bdev.mirror import MirrorBdev, Watcher
from .config import BadConfig, Entry, Section, parse
from .errors import EngineError, Invalid
from .facts import DEFAULT_DRAIN_SECONDS
from .iscsi.names import comparable, full_name
from .iscsi.target import IscsiTarget
from .loop import Loop
from .persistence import StateFile, Store
from .pool import Pool
from .process import NOTICE, Logs, PidFile, end_starting, keep_freed_memory, parse_cpumask, pin, raise_file_limit
from .replay import replay, usable
from .reservation_files import ReservationFiles
from .rpc.dispatch import Dispatcher
from .rpc.method import WRONG_STATE, RpcError, State
from .rpc.methods import all_methods
from .rpc.methods.iscsi import TARGET_NODE
from .rpc.methods.worker import METHODS as INTERNAL
from .rpc.notifications import UNREGISTER, Notifications
from .rpc.server import RpcServer
from .sigbus import BusGuard
from .systemd import Watchdog, notify_systemd
from .tuning import Tuning
from .web import Web, WebSettings

if TYPE_CHECKING:
    from .cores.fleet import Fleet
    from .cores.sources import Sources

_LOG = logging.getLogger(__name__)

_POOL_THREADS: Final = 32
_FLUSH_SECONDS: Final = 30.0


class WorkerPlace(NamedTuple):
    """Which worker an engine is: ``number`` from 1, ``among`` so many."""

    number: int
    among: int
    state_dir: str | None
    """The main process's, for what is a file of its own there."""


class Settings(NamedTuple):
    """The command line of ``serve``, or what the main process told a worker."""

    socket: str
    state_dir: str | None = None
    config: str | None = None
    cpumask: str | None = None
    wait_for_rpc: bool = False
    ignore_init_errors: bool = False
    log_level: str = "NOTICE"
    pid_file: str | None = None
    web: WebSettings | None = None
    drain_seconds: int = DEFAULT_DRAIN_SECONDS
    spin_microseconds: int | None = None
    """None: where it pays."""
    worker: WorkerPlace | None = None


class Engine:
    """All state hangs on this object."""

    subsystems: Mapping[str, tuple[str, ...]] = {
        "sock": (),
        "iobuf": (),
        "bdev": ("sock", "iobuf"),
        "scsi": ("bdev",),
        "iscsi": ("scsi", "sock"),
    }
    """Each with what it depends on, which comes first."""

    def __init__(self, settings: Settings, logs: Logs) -> None:
        self.settings = settings
        self.logs = logs
        self.started_ns = time.monotonic_ns()
        self.checksum = _archive_checksum()
        self.loop = asyncio.get_running_loop()
        self.pool = Pool(self.loop, _POOL_THREADS)
        self.submit = self.pool.share().submit
        """Run something that blocks in the pool, which is not a disk's work: a disk has a share of its own."""
        self.bdevs = BdevRegistry()
        self.guard = BusGuard()
        self.nvme = NvmeControllers(self.submit, self.guard)
        self.tuning = Tuning()
        self.iscsi_options_set = False
        worker = settings.worker
        state_dir = worker.state_dir if worker is not None else settings.state_dir
        kept = ReservationFiles(state_dir, self.submit) if state_dir else None
        self.target = IscsiTarget(self.bdevs, kept, has_portals=worker is None)
        self.notifications = Notifications()
        self.initialized = asyncio.Event()
        self.store = Store(StateFile(settings.state_dir) if settings.state_dir else None, self)
        methods = all_methods()
        self.dispatcher = Dispatcher(self, methods if worker is None else [*methods, *INTERNAL], self.store)
        self.server = RpcServer(settings.socket, self.dispatcher, self.commit)
        self.fleet: Fleet | None = None
        """The workers, when there are several cores."""
        self.sources: Sources | None = None
        """Where bdevs get memory and files that processes share; None where they need not."""
        self.watcher: Watcher | None = None
        """Who is told of mirrors, in a worker."""
        self._web = Web(settings.web, self) if settings.web is not None else None
        self._pid_file = PidFile(settings.pid_file) if settings.pid_file else None
        self._stop = asyncio.Event()
        self._initializing = False
        self._pending: list[Section] | None = None

    async def run(self) -> None:
        """Serve until a signal. Raises EngineError when it cannot start."""
        # A shell's & ignores SIGINT and SIGQUIT, which is not meant for a service.
        for number in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(number, self._signalled, number)
        self.loop.add_signal_handler(signal.SIGHUP, self._reload)
        # The watchdog of systemd ends with SIGABRT what hangs: the log tells where it hung.
        faulthandler.enable(all_threads=True)
        faulthandler.register(signal.SIGUSR1, all_threads=True)
        # As with SPDK it ends the process at once; where each thread was is worth a look.
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
        faulthandler.register(signal.SIGQUIT, all_threads=True, chain=True)
        try:
            await self._start()
            watchdog = Watchdog(self.loop)
            watchdog.start()
            await self._stop.wait()
            watchdog.stop()
        finally:
            await self.close(self.settings.drain_seconds)

    async def _start(self) -> None:
        cores = parse_cpumask(self.settings.cpumask) if self.settings.cpumask else set()
        self._prepare_process(cores)
        self.server.lock()
        if self.store.state is not None:
            self.store.state.lock()
        if self._pid_file is not None:
            self._pid_file.write()
        if len(cores) > 1:
            self._make_fleet(sorted(cores))
        sections = self._saved() if self.store.state is not None else None
        if self.settings.wait_for_rpc:
            self._pending = sections
            await self._listen()
            _LOG.log(NOTICE, "waiting for framework_start_init on %s", self.settings.socket)
        else:
            await self._initialize(sections)
            await self._listen()
        end_starting()
        notify_systemd("READY=1")
        _LOG.log(NOTICE, "openlun-iscsi %s serves RPC on %s (pid %d)", __version__, self.settings.socket, os.getpid())

    def _prepare_process(self, cores: set[int]) -> None:
        if cores:
            pin(cores)
        with contextlib.suppress(OSError, ValueError):
            raise_file_limit()
        keep_freed_memory()

    def _make_fleet(self, cores: list[int]) -> None:
        from .cores.fleet import Fleet
        from .cores.sources import OwnSources

        self.sources = OwnSources()
        self.fleet = Fleet(self, cores)
        self.fleet.launch()

    def become_worker(self, sources: Sources, watcher: Watcher) -> None:
        """Instead of :meth:`run`: somebody else says what to do. The watcher is for what nobody asked for."""
        self.sources, self.watcher = sources, watcher
        self._prepare_process(parse_cpumask(self.settings.cpumask or ""))

    async def _listen(self) -> None:
        await self.server.start()
        if self._web is not None:
            await self._web.start()

    def _reload(self) -> None:
        """SIGHUP: the log level of the command line again, and fresh certificates and credentials."""
        notify_systemd(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")
        _LOG.log(NOTICE, "SIGHUP: log level, certificates and credentials are read again")
        self.logs.reload(self.settings.log_level)
        if self.fleet is not None:
            self.fleet.follow(self.dispatcher.methods["log_set_level"], {"level": self.logs.level}, True)
        if self._web is not None:
            self._web.reload()
        notify_systemd("READY=1")

    async def start_init(self) -> None:
        """Leave STARTUP (framework_start_init). Raises RpcError when that is under way already."""
        if self._initializing:
            raise RpcError(WRONG_STATE, "framework_start_init is under way already")
        await self._initialize(self._pending)

    async def _initialize(self, saved: list[Section] | None) -> None:
        self._initializing = True
        if saved is not None:
            if self.settings.config:
                _LOG.log(NOTICE, "%s is not loaded: a saved configuration exists and wins", self.settings.config)
            await self._restore(saved)
        elif self.settings.config:
            await self._load(self.settings.config)
        if self.fleet is not None:
            await self.fleet.start()
        self.dispatcher.state = State.RUNTIME
        self.store.complete = True
        try:
            self.target.start_serving()
        except EngineError as error:
            _LOG.error("not all portals listen: %s", error)
        self.initialized.set()

    def _saved(self) -> list[Section] | None:
        return self.store.state.read() if self.store.state is not None else None

    async def _restore(self, sections: list[Section]) -> None:
        """Make the saved calls; what fails is remembered and tried again."""

        def failed(subsystem: str, place: int, entry: Entry, error: RpcError) -> None:
            _LOG.warning("%s was not restored: %s", entry.method, error)
            self.store.not_restored(subsystem, place, entry, str(error))

        self.store.remember_layout(sections)
        for phase in (State.STARTUP, State.RUNTIME):
            await replay(self.dispatcher, sections, phase, failed)

    async def _load(self, path: str) -> None:
        """Load a configuration file (``-c``) and save what came of it. Raises EngineError."""

        def failed(_subsystem: str, _place: int, entry: Entry, error: RpcError) -> None:
            if not self.settings.ignore_init_errors:
                raise Invalid(f"configuration file {path}: {entry.method}: {error}")
            _LOG.error("configuration file %s: %s: %s", path, entry.method, error)

        try:
            text = Path(path).read_bytes()
            sections = usable(parse(text, comments=True), self.subsystems, self.dispatcher.methods)
        except OSError as error:
            raise EngineError.from_os(error, f"configuration file {path}") from error
        except BadConfig as error:
            raise Invalid(f"configuration file {path}: {error}") from error
        for phase in (State.STARTUP, State.RUNTIME):
            await replay(self.dispatcher, sections, phase, failed)
        self.store.complete = True
        await self.store.commit()

    def configuration(self) -> list[Section]:
        return [Section(name, self.configuration_of(name)) for name in self.subsystems]

    def configuration_of(self, subsystem: str) -> list[Entry] | None:
        """The calls that make the live state again, in SPDK's order; None for a subsystem without configuration."""
        if subsystem == "sock":
            return [Entry(*call) for call in self.tuning.sock_config()]
        if subsystem == "iobuf":
            return [Entry("iobuf_set_options", dict(self.tuning.iobuf))]
        if subsystem == "bdev":
            made = (call for bdev in self.bdevs for call in (bdev.config(), *bdev.further_config()))
            calls = [*self.tuning.raid_config(), *self.nvme.config(), *(call for call in made if call is not None)]
            return [
                Entry("bdev_set_options", dict(self.tuning.bdev)),
                *(Entry(*call) for call in calls),
                Entry("bdev_wait_for_examine"),
            ]
        if subsystem == "iscsi":
            target = self.target
            calls = [
                *(group.config() for group in target.portal_groups.values()),
                *(group.config() for group in target.initiator_groups.values()),
                *(node.config() for node in target.nodes.values()),
                *(group.config() for group in target.auth_groups.values()),
                # SPDK saves none of what follows, but knows the calls.
                *(call for group in target.auth_groups.values() for call in group.further_config()),
                *(call for group in target.portal_groups.values() for call in group.further_config()),
                *(call for node in target.nodes.values() for call in node.further_config()),
            ]
            return [Entry("iscsi_set_options", target.options.to_rpc()), *(Entry(*call) for call in calls)]
        return None

    def identify(self, entry: Entry) -> tuple[Any, ...] | None:
        method = self.dispatcher.methods.get(entry.method)
        if method is None or method.subject is None:
            return None
        kind, key, *part = method.subject.identity(entry.params or {})
        return (*self.canonical(kind, key), *part)

    def canonical(self, kind: str, key: Any) -> tuple[str, Any]:
        if kind == TARGET_NODE and isinstance(key, str):
            with contextlib.suppress(Invalid):
                key = comparable(full_name(key, self.target.options.node_base))
        return kind, key

    def changed(self) -> None:
        """Something changed that nobody asked for: save it soon."""
        if self.settings.worker is not None:
            return  # the main process saves
        saving = asyncio.ensure_future(self.store.commit())
        # When it fails, the store says so and tries again.
        saving.add_done_callback(lambda done: done.cancelled() or done.exception())

    async def commit(self, changes: Collection[int] = ()) -> None:
        """Return when all that changed so far is saved, and ``changes``, or with none or 0 all, are done by workers.

        Raises EngineError.
        """
        if self.fleet is None:
            await self.store.commit()
        else:
            both = await asyncio.gather(self.store.commit(), self.fleet.followed(changes), return_exceptions=True)
            for error in filter(None, both):
                raise error

    @property
    def is_alone(self) -> bool:
        """No other process has the same bdevs."""
        return self.fleet is None and self.settings.worker is None

    def workers_waiting(self) -> contextlib.AbstractContextManager[None]:
        """Meanwhile nothing is told to workers; they follow at the end, unless it is an exception."""
        return self.fleet.holding() if self.fleet is not None else contextlib.nullcontext()

    def owner_of(self, node: str) -> int:
        """The number of the worker that serves a target node; 0 is this process."""
        return self.fleet.owners.get(node, 0) if self.fleet is not None else 0

    def remove_bdev(self, bdev: Bdev) -> None:
        """What is made of it and its LUNs go first; who listens to notifications learns of it."""
        for above in self.bdevs:
            if bdev in above.below() and not above.lose(bdev):
                self.remove_bdev(above)
        self.target.hot_remove(bdev)
        self.bdevs.delete(bdev.name)
        self.notifications.send(UNREGISTER, bdev.name)

    async def attempt(self, entry: Entry) -> None:
        await self.dispatcher.call(entry.method, entry.params)

    def _signalled(self, number: int) -> None:
        _LOG.log(NOTICE, "%s: stopping", signal.Signals(number).name)
        # The next signal of the kind ends the process at once.
        self.loop.remove_signal_handler(number)
        self._stop.set()

    async def close(self, drain_seconds: int) -> None:
        """Let initiators log out for so long, flush, give everything back."""
        notify_systemd("STOPPING=1")
        drain = functools.partial(self._drain, drain_seconds)
        rest = (self._end_rebuilds, self._flush, self.store.close, self.nvme.close)
        steps = (self._stop_web, self.server.close, drain, *rest)
        for step in steps:
            try:
                await step()
            except Exception:
                _LOG.exception("a step of stopping failed because of a bug; the others follow")
        self.pool.close()
        self.bdevs.close()
        if self._pid_file is not None:
            self._pid_file.remove()

    async def _stop_web(self) -> None:
        if self._web is not None:
            await self._web.close()

    async def _drain(self, seconds: int) -> None:
        ending = [self.target.shutdown(seconds), *([self.fleet.stop(seconds)] if self.fleet is not None else [])]
        await asyncio.gather(*ending)

    async def _end_rebuilds(self) -> None:
        for bdev in self.bdevs:
            if isinstance(bdev, MirrorBdev) and bdev.rebuild is not None:
                await bdev.rebuild.end()

    async def _flush(self) -> None:
        """Everything written survives a power cut after this."""
        started = {bdev.name: bdev.flush() for bdev in self.bdevs if not (bdev.missing or bdev.below())}
        flushes = {name: asyncio.ensure_future(flush) for name, flush in started.items() if flush is not None}
        if flushes:
            await asyncio.wait(flushes.values(), timeout=_FLUSH_SECONDS)
        for name, task in flushes.items():
            if not task.done():
                _LOG.error("bdev %s: not flushed within %g seconds", name, _FLUSH_SECONDS)
            elif task.exception() is not None:
                _LOG.error("bdev %s: flush failed: %s", name, task.exception())


def serve(settings: Settings) -> None:
    """Run an engine in this process until a signal. Raises EngineError when it cannot start."""
    logs = Logs()
    logs.open(settings.log_level)
    loop = Loop(None if settings.spin_microseconds is None else settings.spin_microseconds / 1e6)
    try:
        loop.run_until_complete(_serve(settings, logs))
    finally:
        loop.close()


async def _serve(settings: Settings, logs: Logs) -> None:
    await Engine(settings, logs).run()


def _archive_checksum() -> str:
    """SHA-256 of the archive that this code runs from; empty when it runs from files. Taken at start, before an upgrade
    can replace the archive."""
    archive = getattr(globals().get("__loader__"), "archive", None)
    return hashlib.sha256(Path(archive).read_bytes()).hexdigest() if archive else ""
