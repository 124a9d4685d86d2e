# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_nvme_*: attaching, looking, detaching, and what is saved of it."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.bdev.controllers import NvmeControllers
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.controller import Controller
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.process import Logs
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.rpc.method import RpcError, State
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi import dispatch
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.scsi.device import Device, Nexus, Task
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.service import Engine, Settings
from ansible_collections.openlun.iscsi.plugins.module_utils._state.bdev_reader import read_bdev, read_controller
from ansible_collections.openlun.iscsi.plugins.module_utils._state.drivers import NAMESPACE
from conftest import COLLECTIONS
from nvme_model import Model, Namespace

ATTACH = {"name": "NVMe1", "trtype": "PCIe", "traddr": "0000:01:00.0"}


class Host:
    """An engine that is not served, and the devices that it finds, by address."""

    def __init__(self, tmp_path: Path, models: dict[str, Model]) -> None:
        self.engine = Engine(Settings(str(tmp_path / "socket")), Logs())
        self.engine.dispatcher.state = State.RUNTIME
        self.models = models
        self.engine.nvme = NvmeControllers(self.engine.submit, self.engine.guard, self._make)

    def _make(self, name: str, address: str) -> Controller:
        model = self.models[address]
        model.address = address
        return Controller(name, address, lambda: model, self.engine.submit, make_memory=model.memory)

    async def call(self, method: str, **params: Any) -> Any:
        return await self.engine.dispatcher.call(method, params)

    async def refusal(self, method: str, **params: Any) -> tuple[int, str]:
        with pytest.raises(RpcError) as raised:
            await self.call(method, **params)
        return raised.value.code, str(raised.value)

    async def close(self) -> None:
        await self.engine.nvme.close()
        self.engine.bdevs.close()
        self.engine.pool.close()
        for model in self.models.values():
            model.end()
            assert model.wrong == []


@pytest.fixture
def with_host(tmp_path: Path) -> Callable[..., None]:
    def run(scene: Callable[[Host], Awaitable[None]], *models: Model) -> None:
        async def main() -> None:
            made = models or (Model(),)
            host = Host(tmp_path, {f"0000:0{number}:00.0": each for number, each in enumerate(made, 1)})
            try:
                await scene(host)
            finally:
                await host.close()

        asyncio.run(main())

    return run


def test_attach_gives_a_bdev_for_each_namespace_and_detach_takes_them_away(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        assert await host.call("bdev_nvme_attach_controller", **ATTACH) == ["NVMe1n1", "NVMe1n2"]
        shown = await host.call("bdev_get_bdevs")
        assert [(each["name"], each["product_name"], each["block_size"]) for each in shown] == [
            ("NVMe1n1", "NVMe disk", 512),
            ("NVMe1n2", "NVMe disk", 4096),
        ]
        assert all(shown[0]["supported_io_types"][name] for name in ("read", "write", "flush", "unmap", "compare"))
        assert shown[0]["driver_specific"]["nvme"][0]["ctrlr_data"]["serial_number"] == "MODEL0"
        [live] = await host.call("bdev_nvme_get_controllers")
        assert live["ctrlrs"][0]["state"] == "enabled"
        assert await host.call("bdev_nvme_detach_controller", name="NVMe1") is True
        assert await host.call("bdev_get_bdevs") == []
        assert await host.call("bdev_nvme_get_controllers") == []

    with_host(scene, Model(Namespace(), Namespace(64, 4096)))


def test_the_modules_read_what_is_answered(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        await host.call("bdev_nvme_attach_controller", **ATTACH)
        [answer] = await host.call("bdev_nvme_get_controllers", name="NVMe1")
        controller = read_controller(answer)
        assert (controller.name, controller.type, controller.address) == ("NVMe1", "nvme", "0000:01:00.0")
        [answer] = await host.call("bdev_get_bdevs", name="NVMe1n1")
        assert read_bdev(answer).type == NAMESPACE

    with_host(scene)


def test_what_is_saved_attaches_the_same_again(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        await host.call("bdev_nvme_set_options", timeout_us=7_000_000, action_on_timeout="reset")
        await host.call("bdev_nvme_attach_controller", **{**ATTACH, "trtype": "pcie", "traddr": "01:00.0"})
        await host.call("bdev_malloc_create", name="M0", num_blocks=8, block_size=512)
        await host.call("bdev_nvme_set_hotplug", enable=False, period_us=100000)
        calls = [(entry.method, entry.params) for entry in host.engine.configuration_of("bdev") or []]
        assert calls[1:4] == [
            ("bdev_nvme_set_options", {"timeout_us": 7_000_000, "action_on_timeout": "reset"}),
            ("bdev_nvme_attach_controller", ATTACH),
            ("bdev_nvme_set_hotplug", {"enable": False, "period_us": 100000}),
        ]
        assert calls[4][0] == "bdev_malloc_create"
        await host.call("bdev_nvme_detach_controller", name="NVMe1")
        for method, params in calls[1:3]:
            await host.call(method, **(params or {}))
        assert [bdev.name for bdev in host.engine.bdevs] == ["M0", "NVMe1n1"]

    with_host(scene)


def test_what_spdk_saves_is_taken(with_host: Callable[..., None]) -> None:
    recorded = json.loads((Path(__file__).parent / "exchanges/spdk-exchanges.json").read_text())
    saved = recorded["framework_get_config_bdev"]["response"]["result"]

    async def scene(host: Host) -> None:
        calls = {entry["method"]: entry["params"] for entry in saved if entry["method"].startswith("bdev_nvme_")}
        assert set(calls) == {"bdev_nvme_set_options", "bdev_nvme_set_hotplug"}
        for method, params in calls.items():
            assert await host.call(method, **params) is True
        config = dict(host.engine.nvme.config())
        assert config == calls

    with_host(scene)


@pytest.mark.parametrize(
    ("params", "code", "message"),
    [
        ({"trtype": "tcp"}, -95, "drives PCIe devices only, not tcp. Connect it in the kernel .* or use SPDK's engine"),
        ({"trtype": "RDMA"}, -95, "drives PCIe devices only, not RDMA"),
        ({"trtype": "usb"}, -22, "trtype 'usb' is not known; PCIe is possible"),
        ({"traddr": "10.0.0.1"}, -22, "'10.0.0.1' is not a PCI address"),
        ({"prchk_guard": True}, -95, "prchk_guard: protection information is not supported"),
        ({"name": ""}, -32603, "spdk_json_decode_object failed"),
        (
            {"name": "NVMe1"},
            -114,
            "^A controller named NVMe1 already exists and multipath is disabled: .* at 0000:01:00.0",
        ),
        ({"traddr": "01:00.0"}, -17, "0000:01:00.0 is attached already, as NVMe1"),
        ({"traddr": "02:00.0", "name": "M"}, -17, "bdev Mn1: there is one of that name already"),
    ],
)
def test_what_cannot_be_attached_says_why(
    with_host: Callable[..., None], params: dict[str, Any], code: int, message: str
) -> None:
    async def scene(host: Host) -> None:
        await host.call("bdev_nvme_attach_controller", **ATTACH)
        await host.call("bdev_malloc_create", name="Mn1", num_blocks=8, block_size=512)
        wanted = {"name": "NVMe2", "trtype": "PCIe", "traddr": "0000:02:00.0", **params}
        number, text = await host.refusal("bdev_nvme_attach_controller", **wanted)
        assert number == code
        assert re.search(message, text), text
        assert [attached.controller.name for attached in host.engine.nvme] == ["NVMe1"]
        assert host.models["0000:02:00.0"].pages_in_use == 0

    second = Model()
    second.serial = "MODEL1"
    with_host(scene, Model(), second)


def test_two_that_attach_the_same_at_the_same_time_do_not_meet(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        both = await asyncio.gather(
            *(host.call("bdev_nvme_attach_controller", **{**ATTACH, "name": name}) for name in ("A", "B")),
            return_exceptions=True,
        )
        assert both[0] == ["An1"]
        assert isinstance(both[1], RpcError)
        assert both[1].code == -17

    with_host(scene)


def test_what_is_not_there_is_answered_as_spdk_does(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        code, text = await host.refusal("bdev_nvme_get_controllers", name="x")
        assert (code, text[:27]) == (22, "Controller x does not exist")
        code, text = await host.refusal("bdev_nvme_detach_controller", name="x")
        assert (code, text) == (-19, "No such device: NVMe controller x does not exist. There are no controllers.")
        await host.call("bdev_nvme_attach_controller", **ATTACH)
        code, text = await host.refusal("bdev_nvme_detach_controller", name="NVMe1", traddr="0000:09:00.0")
        assert code == -6
        assert "is not at traddr 0000:09:00.0 but at 0000:01:00.0" in text
        code, text = await host.refusal("bdev_nvme_reset_controller", name="NVMe1", cntlid=3)
        assert (code, "its controller identifier is 7, not 3" in text) == (-22, True)
        assert await host.call("bdev_nvme_reset_controller", name="NVMe1", cntlid=7) is True
        assert host.models["0000:01:00.0"].resets == 1

    with_host(scene)


def test_a_lun_whose_device_is_gone_answers_not_ready(with_host: Callable[..., None]) -> None:
    async def scene(host: Host) -> None:
        await host.call("bdev_nvme_attach_controller", **ATTACH)
        device = Device("iqn.2016-06.io.spdk:disk0")
        lun = device.add(0, host.engine.bdevs.get("NVMe1n1"))
        nexus = Nexus(device, "initiator", "target", 1)

        async def execute(cdb: str) -> Task:
            done = asyncio.get_running_loop().create_future()
            dispatch.execute(Task(nexus, lun, bytes.fromhex(cdb)), done.set_result)
            task: Task = await done
            return task

        ready, read = "000000000000", "28000000000000000100"
        assert [(await execute(cdb)).status for cdb in (ready, read)] == [0, 0]
        host.models["0000:01:00.0"].pull()
        while not lun.bdev.missing:
            await asyncio.sleep(0)
        for cdb in (ready, read):
            task = await execute(cdb)
            assert (task.status, task.sense[2], task.sense[12:14]) == (2, 0x02, b"\x04\x03")

    with_host(scene)


def test_an_engine_without_nvme_does_not_load_the_driver(tmp_path: Path) -> None:
    engine = Engine.__module__.rpartition(".")[0]
    code = (
        f"import sys, {engine}.service\n"
        f"from {engine}.rpc.methods import all_methods\n"
        "all_methods()\n"
        "print([name for name in sys.modules if '_engine.nvme' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(COLLECTIONS)},
    )
    assert done.stdout == "[]\n", done.stderr
