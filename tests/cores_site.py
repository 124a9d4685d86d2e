# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine whose workers only remember what they are told."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.fleet import Fleet
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.host import Call
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.cores.sources import OwnSources
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.portal import Portal
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.iscsi.reception import Arrival
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import Logs
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.dispatch import Reply
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.service import Engine, Settings


class Recorder:
    """A worker that does what it is told at once, and remembers it."""

    sessions = 0
    core = 0

    def __init__(self, number: int, story: list[Any]) -> None:
        self.number = number
        self.ready = True
        self.story = story
        self.is_concerned = False
        """The last change is about its target nodes."""
        self.refuses: Exception | None = None
        """Why it cannot let go of target nodes."""

    def call(self, call: Call) -> None:
        self.story.append((self.number, call.method, dict(call.params or {})))

    async def followed(self, _changes: Collection[int], is_concerned: bool) -> None:
        self.is_concerned = is_concerned

    async def see_off(self, nodes: list[str], _seconds: int, until_rest: bool) -> None:
        self.story.append((self.number, "see_off" if until_rest else "see_off_for_good", sorted(nodes)))
        await asyncio.sleep(0.01)
        if self.refuses is not None:
            raise self.refuses

    def give_up(self, _why: str) -> None:
        self.story.append((self.number, "give_up"))
        self.refuses = None

    def take_over(self, nodes: list[str], luggage: Mapping[str, Any] | None) -> None:
        self.story.append((self.number, "take_over", nodes, luggage))

    def hand_over(self, arrival: Arrival, _elsewhere: int) -> None:
        self.story.append((self.number, "hand_over"))
        arrival.sock.close()


class Controllers:
    """NVMe controllers of the main process."""

    def __init__(self, attached: list[Any], attach: tuple[str, dict[str, Any]]) -> None:
        self._attached, self._attach = attached, attach

    def __iter__(self) -> Iterator[Any]:
        return iter(self._attached)

    def get(self, _name: str) -> Any:
        return self._attached[0]

    def config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        yield self._attach


class Site:
    """An engine with two recorders, and target nodes ``one`` and ``other`` on a disk each."""

    def __init__(self) -> None:
        self.engine = Engine(Settings(socket="/nowhere"), Logs())
        self.engine.logs.level = "NOTICE"
        self.story: list[Any] = []
        self.engine.sources = OwnSources()
        self.fleet = self.engine.fleet = Fleet(self.engine, (0, 1))
        self.recorders = [Recorder(number, self.story) for number in (1, 2)]
        self.fleet.members = self.recorders  # type: ignore[assignment]
        self.engine.dispatcher.state = State.RUNTIME
        self.engine.dispatcher.workers = self.fleet
        self.engine.target.elsewhere = self.fleet

    async def rpc(self, method: str, **params: Any) -> Any:
        reply = self.engine.dispatcher.begin({"id": 1, "method": method, "params": params})
        answer = (reply if isinstance(reply, Reply) else await reply).answer or {}
        if "error" in answer:
            raise RuntimeError(answer["error"]["message"])
        await self.engine.commit()
        return answer["result"]

    async def build(self) -> Site:
        await self.rpc("iscsi_create_initiator_group", tag=2, initiators=["ANY"], netmasks=["ANY"])
        for name in ("one", "other"):
            await self.rpc("bdev_malloc_create", name=f"M-{name}", num_blocks=8, block_size=512)
            luns = [{"lun_id": 0, "bdev_name": f"M-{name}"}]
            await self.rpc(
                "iscsi_create_target_node", name=name, alias_name="", pg_ig_maps=[], luns=luns, queue_depth=8
            )
        self.story.clear()
        return self

    async def node(self, name: str, *bdevs: str) -> str:
        """A new target node; gives its full name."""
        luns = [{"lun_id": number, "bdev_name": bdev} for number, bdev in enumerate(bdevs)]
        await self.rpc("iscsi_create_target_node", name=name, alias_name="", pg_ig_maps=[], luns=luns, queue_depth=8)
        return f"iqn.2016-06.io.spdk:{name}"

    async def node_of_main(self) -> str:
        """One on a disk that only the main process drives."""
        await self.rpc("bdev_null_create", name="N1n1", num_blocks=8, block_size=512)
        disks = SimpleNamespace(bdevs=[self.engine.bdevs.get("N1n1")])
        self.engine.nvme = Controllers([disks], ("bdev_nvme_attach_controller", {}))  # type: ignore[assignment]
        return await self.node("nvme", "N1n1")

    def taken(self) -> list[tuple[int, list[str], Any]]:
        """Worker, nodes and luggage of each handover, since somebody cleared the story."""
        return [(each[0], sorted(each[2]), each[3]) for each in self.story if each[1] == "take_over"]

    def hear(self, number: int, **words: Any) -> None:
        """What that worker tells, after all that it was told unless it is ``change``."""
        words.setdefault("change", self.fleet._made)
        self.fleet.reported(self.recorders[number - 1], words)  # type: ignore[arg-type]

    def close(self) -> None:
        for group in self.engine.target.portal_groups.values():
            group.close(asyncio.get_running_loop())
        self.engine.bdevs.close()
        self.fleet._launcher.close()


def with_site(test: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        site = await Site().build()
        try:
            await asyncio.wait_for(test(site), 20)
        finally:
            site.close()

    asyncio.run(run())


def arrival() -> tuple[Arrival, socket.socket]:
    ours, its = socket.socketpair()
    return Arrival(ours, Portal("127.0.0.1", "3260", 1)), its


ONE, OTHER = "iqn.2016-06.io.spdk:one", "iqn.2016-06.io.spdk:other"
REGISTERED: dict[str, Any] = {
    "modes": [False, False, False],
    "loaded": True,
    "reservations": {"registrants": [["a,i,0x1", "t,t,0x0001", 1, 7]], "holder": None, "type": None},
    "aptpl": False,
    "generation": 1,
    "erasure": None,
}
