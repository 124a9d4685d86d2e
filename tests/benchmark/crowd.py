# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What many sessions cost the engine: memory and processor time of idle ones, and what a storm of short ones leaves.

Prints the numbers and writes build/bench/crowd.json; exit status 1 when one is above what is promised.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import select
import sys
import time
from pathlib import Path
from typing import Final, NamedTuple

from benchmark import processes
from engine_process import Engine, eventually
from pdu import wire
from pdu.initiator import Initiator
from pdu.wire import Pdu

ROOT: Final = Path(__file__).resolve().parents[2]
KIB_A_SESSION: Final = 4
CORE_SHARE: Final = 0.01
STORM_A_SECOND: Final = 100


class Idle(NamedTuple):
    """What sessions cost that do nothing but answer pings."""

    sessions: int
    base_kib: int
    """Before they came."""
    kib_a_session: float
    idle_seconds: float
    core_share: float
    """Of one core."""
    pings: int


class Storm(NamedTuple):
    storm: int
    """Connections that came and went, half of them without a logout."""
    storm_seconds: float
    files_left: int
    kib_left: int


def resident(engine: Engine) -> int:
    """KiB."""
    return processes.resident(processes.family(_pid(engine)))


def processor_seconds(engine: Engine) -> float:
    return processes.processor_seconds(processes.family(_pid(engine)))


def open_files(engine: Engine) -> int:
    """The fewest within a moment, as the connection of the last RPC may still be closing."""

    def count() -> int:
        time.sleep(0.01)
        return sum(1 for _file in Path(f"/proc/{_pid(engine)}/fd").iterdir())

    return min(count() for _each in range(20))


def _pid(engine: Engine) -> int:
    if engine.process is None:
        raise RuntimeError("the engine does not run")
    return engine.process.pid


def crowded_engine(archive: Path, sessions: int, **options: int) -> tuple[Engine, tuple[str, int], str]:
    """An engine for so many sessions, its portal and its target node."""
    engine = Engine(archive, "--wait-for-rpc").start()
    engine.rpc("iscsi_set_options", max_sessions=sessions + 10, **options)
    engine.rpc("framework_start_init")
    engine.initiator_group()
    port = engine.portal_group()
    return engine, ("127.0.0.1", port), engine.node("crowd", engine.malloc("Crowd0", 1))


def open_session(address: tuple[str, int], node: str, number: int) -> Initiator:
    isid = b"\x80\0\0" + number.to_bytes(3, "big")
    return Initiator(address, isid=isid).login(node)


def answer_pings(crowd: list[Initiator], seconds: float) -> int:
    """What idle initiators do; gives the number of pings."""
    poll = select.poll()
    by_fd = {each.socket.fileno(): each for each in crowd}
    for fd in by_fd:
        poll.register(fd, select.POLLIN)
    pings, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        for fd, _event in poll.poll(max(0.0, end - time.monotonic()) * 1000):
            initiator = by_fd[fd]
            ping = initiator.receive()
            if ping.opcode != wire.NOP_IN or ping.itt != wire.RESERVED_TAG:
                raise RuntimeError(f"unexpected {ping}")
            reply = Pdu(wire.NOP_OUT, immediate=True, itt=wire.RESERVED_TAG, ttt=ping.ttt)
            initiator.send(reply.set(cmd_sn=initiator.cmd_sn, exp_stat_sn=initiator.exp_stat_sn))
            pings += 1
    return pings


def storm(address: tuple[str, int], node: str, seconds: float, a_second: int = STORM_A_SECOND) -> int:
    """Connections that log in, and log out or just vanish; gives their number."""
    began, count = time.monotonic(), 0
    while time.monotonic() < began + seconds:
        with open_session(address, node, 0x800000 + count) as initiator:
            if count % 2:
                initiator.send(initiator.logout())
                initiator.receive()
        count += 1
        time.sleep(max(0.0, began + count / a_second - time.monotonic()))
    return count


def settled(engine: Engine) -> None:
    eventually(lambda: not engine.rpc("iscsi_get_connections"), "the end of all connections")


def idle(engine: Engine, address: tuple[str, int], node: str, sessions: int, seconds: float) -> Idle:
    """Let so many sessions do nothing for a while, then end them."""
    storm(address, node, 1)  # what is made once is made now
    settled(engine)
    base = resident(engine)
    with contextlib.ExitStack() as stack:
        crowd = [stack.enter_context(open_session(address, node, number)) for number in range(sessions)]
        memory = (resident(engine) - base) / sessions
        began = processor_seconds(engine)
        pings = answer_pings(crowd, seconds)
        share = (processor_seconds(engine) - began) / seconds
    settled(engine)
    return Idle(sessions, base, memory, seconds, share, pings)


def measure(archive: Path, sessions: int, idle_seconds: float, storm_seconds: float) -> tuple[Idle, Storm]:
    engine, address, node = crowded_engine(archive, sessions)
    try:
        numbers = idle(engine, address, node, sessions, idle_seconds)
        files, before = open_files(engine), resident(engine)
        count = storm(address, node, storm_seconds)
        settled(engine)
        return numbers, Storm(count, storm_seconds, open_files(engine) - files, resident(engine) - before)
    finally:
        engine.remove()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="200 sessions, a few seconds")
    options = parser.parse_args()
    size = (200, 35.0, 5.0) if options.quick else (1000, 60.0, 30.0)
    numbers, after = measure(ROOT / "build/openlun-iscsi.pyz", *size)
    print(f"{numbers.sessions} idle sessions: {numbers.kib_a_session:.1f} KiB each (promised: {KIB_A_SESSION})")
    print(
        f"idle for {numbers.idle_seconds:g} s, {numbers.pings} pings: {numbers.core_share:.2%} of a core"
        f" (promised: {CORE_SHARE:.0%} for 1,000)"
    )
    print(f"{after.storm} connections in {after.storm_seconds:g} s leave {after.files_left} files", end=" ")
    print(f"and {after.kib_left} KiB")
    directory = ROOT / "build/bench"
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "crowd.json").write_text(json.dumps({**numbers._asdict(), **after._asdict()}, indent=2) + "\n")
    kept = numbers.kib_a_session <= KIB_A_SESSION and numbers.core_share <= CORE_SHARE and not after.files_left
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
