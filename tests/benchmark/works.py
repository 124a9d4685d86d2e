# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to the targets in each round, and what is read from it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from benchmark import crowd
from benchmark.clients import ClientError, Clients, Load
from benchmark.disks import MEBIBYTE
from benchmark.processes import family
from benchmark.servers import EngineServer, Server

Figures = dict[str, float]
"""Rates in operations a second, times in seconds, shares as parts of one, memory in KiB."""

Measure = Callable[[Server, Clients, float], Figures]

K4: Final = 4096
K64: Final = 65536
K256: Final = 262144
QUIET_EVERY: Final = 0.001
"""Seconds from one READ of the quiet session to the next."""
IOS_LIMIT: Final = 10_000
MEBIBYTES_LIMIT: Final = 100
CROWD: Final = 1000
"""Idle sessions."""


class Work(NamedTuple):
    """``measure`` is called in every round for each target, with seconds to take.

    ``disks`` are those that it needs, if not those over which the target spreads many sessions. ``long`` are the
    seconds of work that is done once and whose figures other load does not spoil, in a full and in a quick run.
    """

    key: str
    measure: Measure
    disks: tuple[str, ...] = ()
    long: tuple[float, float] | None = None


def _perf(load: Load, random: bool = True, disk: str = "memory") -> Measure:
    def measure(server: Server, clients: Clients, seconds: float) -> Figures:
        return {"rate": clients.iscsi_perf(server.url(disk), load, seconds, random)}

    return measure


def _qemu(load: Load) -> Measure:
    def measure(server: Server, clients: Clients, seconds: float) -> Figures:
        return {"rate": clients.qemu_img(server.url("memory"), load, seconds)}

    return measure


def _light(load: Load) -> Measure:
    def measure(server: Server, clients: Clients, seconds: float) -> Figures:
        urls = [server.url(disk) for disk in server.spread]
        return clients.light(urls, load, seconds, family(server.pid()))._asdict()

    return measure


def _beside_a_slow_disk(server: Server, clients: Clients, seconds: float) -> Figures:
    """A deep queue on a disk that takes its time, and what another session with a fast one feels of it."""
    with clients.quiet_session(server.url("quiet"), seconds, QUIET_EVERY) as quiet:
        rate = clients.iscsi_perf(server.url("cold"), Load(K4, 32), seconds, random=True)
    return {"rate": rate, "worst": quiet[0].worst, "p99": quiet[0].p99}


def _digests(server: Server, clients: Clients, seconds: float) -> Figures:
    urls, pids = [server.url("memory")], family(server.pid())
    protected = clients.light(urls, Load(K4, 32, digests=True), seconds, pids)
    plain = clients.light(urls, Load(K4, 32), seconds, pids)
    return {"rate": protected.rate, "plain": plain.rate}


def _limits(server: Server, clients: Clients, seconds: float) -> Figures:
    """How far off limited rates are, as parts of the limits."""
    if not isinstance(server, EngineServer):
        raise ClientError("this target has no limits")
    urls = [server.url("limited")]
    server.limit("limited", rw_ios_per_sec=IOS_LIMIT)
    operations = clients.light(urls, Load(K4, 32), seconds, []).rate
    server.limit("limited", rw_ios_per_sec=0, rw_mbytes_per_sec=MEBIBYTES_LIMIT)
    mebibytes = clients.light(urls, Load(K64, 8), seconds, []).rate * K64 / MEBIBYTE
    server.limit("limited", rw_mbytes_per_sec=0)
    return {"operations": abs(operations / IOS_LIMIT - 1), "bandwidth": abs(mebibytes / MEBIBYTES_LIMIT - 1)}


def _idle(server: Server, _clients: Clients, seconds: float) -> Figures:
    """On an engine of its own, as others do not admit so many sessions."""
    if not isinstance(server, EngineServer):
        raise ClientError("only the engine is asked for this")
    # A short wait sees pings as well, if they come more often than they do by default.
    engine, address, node = crowd.crowded_engine(
        server.engine.archive, CROWD, nop_in_interval=min(30, int(0.8 * seconds))
    )
    try:
        numbers = crowd.idle(engine, address, node, CROWD, seconds)
    finally:
        engine.remove()
    return {"share": numbers.core_share, "session": numbers.kib_a_session, "base": numbers.base_kib}


_ALL: Final = (
    Work("read-qd1", _perf(Load(K4, 1))),
    Work("read-qd32", _perf(Load(K4, 32))),
    Work("write-qd32", _qemu(Load(K4, 32, writes=True))),
    Work("read-256k", _perf(Load(K256, 8), random=False)),
    Work("write-256k", _qemu(Load(K256, 8, writes=True))),
    Work("light-read", _light(Load(K4, 32))),
    Work("light-write", _light(Load(K4, 32, writes=True))),
    Work("sessions-read", _light(Load(K4, 8, sessions=32))),
    Work("sessions-write", _light(Load(K4, 8, sessions=32, writes=True))),
    Work("file-warm", _perf(Load(K4, 32), disk="warm"), disks=("warm",)),
    Work("file-direct", _beside_a_slow_disk, disks=("cold", "quiet")),
    Work("digests", _digests),
    Work("idle", _idle, long=(40, 12)),
    Work("limits", _limits, disks=("limited",), long=(10, 3)),
)
WORKS: Final = {work.key: work for work in _ALL}
