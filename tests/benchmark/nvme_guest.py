# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs in the virtual machine: random reads and writes by the kernel's NVMe driver, and by ours, on a disk each.

Python on both sides, so that the drivers differ and not the languages: O_DIRECT from as many threads as commands may
be in flight, against the engine's own driver. Prints a line of JSON a measurement.
"""

from __future__ import annotations

import asyncio
import json
import mmap
import os
import random
import sys
import threading
import time
from collections.abc import Awaitable
from typing import Any, Callable, Final

BLOCK: Final = 4096
ARCHIVE: Final = "/root/openlun-iscsi.pyz"


def kernel_rate(path: str, write: bool, depth: int, seconds: float) -> float:
    fd = os.open(path, os.O_RDWR | os.O_DIRECT)
    blocks = os.lseek(fd, 0, os.SEEK_END) // BLOCK
    counts = [0] * depth
    end = time.monotonic() + seconds

    def work(number: int) -> None:
        buffers = [mmap.mmap(-1, BLOCK)]
        choose = random.Random(number)
        move = os.pwritev if write else os.preadv
        while time.monotonic() < end:
            move(fd, buffers, choose.randrange(blocks) * BLOCK)
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(depth)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.close(fd)
    return sum(counts) / (time.monotonic() - began)


async def user_space_rate(disk: Any, blocks: int, write: bool, depth: int, seconds: float) -> float:
    count = 0
    data = bytes(BLOCK)
    end = time.monotonic() + seconds

    def one(choose: random.Random) -> Awaitable[Any]:
        offset = choose.randrange(blocks) * BLOCK
        started: Awaitable[Any] = disk.write(offset, data) if write else disk.read(offset, BLOCK)
        return started

    async def work(number: int) -> None:
        nonlocal count
        choose = random.Random(number)
        while time.monotonic() < end:
            await one(choose)
            count += 1

    began = time.monotonic()
    await asyncio.gather(*(work(number) for number in range(depth)))
    return count / (time.monotonic() - began)


async def main(address: str, path: str, rounds: int, seconds: float) -> None:
    sys.path.insert(0, ARCHIVE)
    from openlun_iscsi_engine.nvme.controller import Controller  # type: ignore[import-not-found]
    from openlun_iscsi_engine.nvme.device import open_device  # type: ignore[import-not-found]
    from openlun_iscsi_engine.nvme.namespace import Namespace  # type: ignore[import-not-found]
    from openlun_iscsi_engine.sigbus import BusGuard  # type: ignore[import-not-found]

    loop = asyncio.get_running_loop()
    guard = BusGuard()

    def submit(function: Callable[..., Any], *arguments: Any) -> Awaitable[Any]:
        return loop.run_in_executor(None, function, *arguments)

    controller = Controller("bench", address, lambda: open_device(address, guard), submit)
    await controller.start()
    try:
        info = controller.namespaces[1]
        disk = Namespace(controller, info)
        blocks = info.num_blocks * info.block_size // BLOCK
        for number in range(rounds):
            for write in (False, True):
                for depth in (1, 32):
                    rates = {
                        "kernel": kernel_rate(path, write, depth, seconds),
                        "user space": await user_space_rate(disk, blocks, write, depth, seconds),
                    }
                    work = f"4K random {'write' if write else 'read'}, {depth} in flight"
                    for driver, rate in rates.items():
                        print(json.dumps({"work": work, "driver": driver, "round": number, "rate": rate}), flush=True)
    finally:
        await controller.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
