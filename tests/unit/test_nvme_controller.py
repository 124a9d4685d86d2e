# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NVMe driver against a controller in software."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
from collections.abc import AsyncIterator, Awaitable
from typing import Any, Callable

import pytest
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.errors import EngineError
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.controller import Controller, State, Times
from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme.namespace import Namespace as Driver
from hypothesis import given, settings
from hypothesis import strategies as st
from nvme_model import CC, Entry, Model, Namespace

QUICK = Times(io=0.02, admin=0.2, abort=0.02, busy_check=0.01, idle_check=0.01, return_check=0.01)
PATIENT = QUICK._replace(io=30)
WRITE, READ, FLUSH = 0x01, 0x02, 0x00


async def submit(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


@contextlib.asynccontextmanager
async def attached(model: Model, times: Times = PATIENT, limit: int = 32) -> AsyncIterator[Controller]:
    controller = Controller(
        *("NVMe1", model.address, lambda: model, submit, times),
        make_memory=lambda device: model.memory(device, limit),
    )
    await controller.start()
    try:
        yield controller
    finally:
        await controller.close()
        model.end()
    assert model.wrong == []


def run(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 30))


def disk(controller: Controller, nsid: int = 1) -> Driver:
    return Driver(controller, controller.namespaces[nsid])


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


def pattern(length: int, seed: int = 1) -> bytes:
    return random.Random(seed).randbytes(length)


def test_what_it_is_and_what_it_has_is_asked_for() -> None:
    async def scene() -> None:
        uuid = bytes(range(16))
        model = Model(Namespace(100), Namespace(50, 4096, uuid), Namespace(70, 512, metadata=8))
        async with attached(model) as controller:
            assert controller.state is State.ENABLED
            info = controller.info
            assert (info.serial, info.model, info.firmware, info.controller_id) == ("MODEL0", "Model", "1.0", 7)
            assert info.nvme_version == "1.4"
            # The third has metadata, which nobody here could keep.
            sizes = [(each.nsid, each.num_blocks, each.block_size) for each in controller.namespaces.values()]
            assert sizes == [(1, 100, 512), (2, 50, 4096)]
            assert controller.namespaces[2].uuid == "00010203-0405-0607-0809-0a0b0c0d0e0f"

    run(scene)


def test_a_namespace_without_a_name_of_its_own_gets_the_same_uuid_every_time() -> None:
    seen = []

    async def scene() -> None:
        async with attached(Model(Namespace(), Namespace())) as controller:
            seen.append([each.uuid for each in controller.namespaces.values()])

    run(scene)
    run(scene)
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 2


@settings(max_examples=40)
@given(
    block_size=st.sampled_from((512, 4096)),
    mdts=st.sampled_from((0, 1, 3, 5)),
    stride=st.sampled_from((0, 2)),
    interrupts=st.booleans(),
    operations=st.lists(st.tuples(st.booleans(), st.integers(0, 500), st.integers(1, 300)), min_size=1, max_size=12),
)
def test_what_was_written_is_read(
    block_size: int, mdts: int, stride: int, interrupts: bool, operations: list[tuple[bool, int, int]]
) -> None:
    async def scene() -> None:
        model = Model(Namespace(512, block_size), mdts=mdts, stride=stride, interrupts=interrupts)
        expected = bytearray(model.namespaces[1].data)
        async with attached(model) as controller:
            for number, (is_write, lba, blocks) in enumerate(operations):
                offset, length = lba * block_size, min(blocks, 512 - lba) * block_size
                if is_write:
                    data = pattern(length, number)
                    await disk(controller).write(offset, data)
                    expected[offset : offset + length] = data
                else:
                    assert await disk(controller).read(offset, length) == expected[offset : offset + length]
        assert model.namespaces[1].data == expected

    run(scene)


def test_a_large_transfer_is_split_at_the_controllers_limit() -> None:
    async def scene() -> None:
        model = Model(mdts=3)  # 32 KiB
        async with attached(model) as controller:
            data = pattern(100 * 1024)
            await disk(controller).write(512, data)
            assert [each.blocks for each in model.done] == [64, 64, 64, 8]
            assert await disk(controller).read(512, len(data)) == data

    run(scene)


@pytest.mark.parametrize("queue_entries", [2, 64])
@pytest.mark.parametrize("limit", [1, 32])
def test_more_commands_than_there_is_room_for_wait_their_turn(queue_entries: int, limit: int) -> None:
    async def scene() -> None:
        model = Model(Namespace(40000), queue_entries=queue_entries, mdts=0)
        async with attached(model, limit=limit) as controller:
            # Sizes that compete for the same hugepages.
            sizes = [512, 4096, 30 * 1024, 200 * 1024, 1024 * 1024] * 12
            places = [sum(sizes[:number]) for number in range(len(sizes))]
            writes = [disk(controller).write(at, pattern(size, at)) for at, size in zip(places, sizes)]
            await asyncio.gather(*writes)
            reads = await asyncio.gather(*(disk(controller).read(at, size) for at, size in zip(places, sizes)))
            assert all(data == pattern(size, at) for data, at, size in zip(reads, places, sizes))
            assert model.most_in_flight < queue_entries

    run(scene)


def test_a_buffer_may_be_reused_as_soon_as_write_returns() -> None:
    async def scene() -> None:
        model = Model(queue_entries=2)
        async with attached(model) as controller:
            buffer = bytearray(512)
            writes = []
            for number in range(8):
                buffer[:] = bytes([number]) * 512
                writes.append(disk(controller).write(number * 512, buffer))
            buffer[:] = b"x" * 512
            await asyncio.gather(*writes)
            assert model.namespaces[1].data[: 8 * 512] == b"".join(bytes([number]) * 512 for number in range(8))

    run(scene)


@pytest.mark.parametrize("size", [4096, 1 << 20])
def test_what_reads_nothing_gives_nothing(size: int) -> None:
    """Anything else would be taken for data that the initiator asked for."""

    async def scene() -> None:
        async with attached(Model()) as controller:
            works = [
                disk(controller).write(0, bytes(size)),
                disk(controller).flush(),
                disk(controller).write_zeroes(0, size),
                disk(controller).deallocate(0, size),
            ]
            assert await asyncio.gather(*filter(None, works)) == [None] * len(works)

    run(scene)


def test_forced_unit_access_and_flush_reach_what_a_power_cut_leaves() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            namespace = model.namespaces[1]
            await disk(controller).write(0, b"a" * 512)
            assert namespace.durable[:512] == bytes(512)
            await disk(controller).write(512, b"b" * 512, fua=True)
            assert namespace.durable[:1024] == bytes(512) + b"b" * 512
            assert all(each.opcode != FLUSH for each in model.done)
            flushed = disk(controller).flush()
            assert flushed is not None
            await flushed
            assert namespace.durable[:512] == b"a" * 512

    run(scene)


def test_without_a_write_cache_nothing_is_flushed() -> None:
    async def scene() -> None:
        model = Model()
        model.write_cache = False
        async with attached(model) as controller:
            assert disk(controller).flush() is None
            await disk(controller).write(0, b"a" * 512, fua=True)
            assert not model.done[0].cdw12 >> 30

    run(scene)


def test_write_zeroes_deallocate_and_compare() -> None:
    async def scene() -> None:
        model = Model(mdts=1)
        async with attached(model) as controller:
            data = pattern(64 * 1024)
            await disk(controller).write(0, data)
            assert await disk(controller).compare(0, data)
            assert not await disk(controller).compare(0, data[:-1] + b"\0")
            await disk(controller).write_zeroes(512, 32 * 1024)
            await disk(controller).deallocate(48 * 1024, 1024)
            expected = data[:512] + bytes(32 * 1024) + data[512 + 32 * 1024 : 48 * 1024] + b"\xde" * 1024
            assert model.namespaces[1].data[: len(expected)] == expected

    run(scene)


@pytest.mark.parametrize(
    ("status", "number"), [(0x281, errno.EIO), (0x80, errno.EINVAL), (0x20, errno.EROFS), (0x4004, errno.EIO)]
)
def test_a_command_that_fails_says_why_and_is_not_tried_again(status: int, number: int) -> None:
    async def scene() -> None:
        model = Model()
        model.fail = lambda _entry: status
        async with attached(model) as controller:
            with pytest.raises(OSError, match=r"read of namespace 1: .*status type") as raised:
                await disk(controller).read(0, 512)
            assert raised.value.errno == number
            assert len(model.done) == 1

    run(scene)


def test_what_may_pass_is_tried_again() -> None:
    async def scene() -> None:
        model = Model()
        model.fail = lambda _entry: 0x06 if len(model.done) < 2 else 0
        async with attached(model) as controller:
            await disk(controller).write(0, b"a" * 512)
            assert model.namespaces[1].data[:512] == b"a" * 512
            model.fail = lambda _entry: 0x06
            with pytest.raises(OSError, match="internal error of the controller"):
                await disk(controller).read(0, 512)

    run(scene)


def once(model: Model, opcode: int) -> None:
    """The first command of this opcode is never answered."""

    def hold(entry: Entry) -> bool:
        if entry.opcode != opcode:
            return False
        model.hold = lambda _entry: False
        return True

    model.hold = hold


def test_a_command_that_hangs_is_aborted_and_done_again() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            once(model, WRITE)
            await disk(controller).write(0, b"a" * 512)
            assert len(model.aborted) == 1
            assert model.resets == 0
            assert model.namespaces[1].data[:512] == b"a" * 512

    run(scene)


def test_a_command_that_cannot_be_aborted_ends_in_a_reset_and_is_done_again() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            once(model, READ)
            await disk(controller).write(0, b"a" * 512)
            reading = asyncio.ensure_future(disk(controller).read(0, 512))
            await until(lambda: bool(model._held))
            model._held.clear()  # the model does not know it any more, so nothing is aborted
            assert await reading == b"a" * 512
            assert model.resets == 1
            assert controller.state is State.ENABLED

    run(scene)


def test_commands_in_flight_survive_a_reset_in_their_order() -> None:
    async def scene() -> None:
        model = Model(queue_entries=8)
        async with attached(model) as controller:
            model.hold = lambda _entry: True
            writes = [disk(controller).write(number * 512, bytes([number]) * 512) for number in range(20)]
            await until(lambda: len(model._held) == 7)
            model.hold = lambda _entry: False
            assert await controller.reset()
            await asyncio.gather(*writes)
            assert [each.lba for each in model.done] == list(range(20))

    run(scene)


def test_a_command_that_hangs_after_every_reset_fails_in_the_end() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            model.hold = lambda entry: entry.lba == 7
            with pytest.raises(OSError, match=r"aborted|given up"):
                await disk(controller).read(7 * 512, 512)
            assert await disk(controller).read(0, 512) == bytes(512)

    run(scene)


def test_a_fatal_status_is_noticed_and_mended_by_a_reset() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            model.status |= 2
            await until(lambda: model.resets == 1 and controller.state is State.ENABLED)
            assert await disk(controller).read(0, 512) == bytes(512)

    run(scene)


def test_a_controller_that_does_not_start_again_gets_the_harder_reset(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)

    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            model.starts = False
            model._cap &= ~(0xFF << 24)
            assert await controller.reset()
            assert model.function_resets == 1

    run(scene)


def shorten(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for a controller that never becomes ready, in a moment."""
    from ansible_collections.openlun.iscsi.plugins.module_utils._engine.nvme import handshake

    monkeypatch.setattr(handshake, "_GRACE", -9.9)  # the model declares 10 s


def test_a_controller_that_stays_dead_fails_everything_until_it_works_again(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)

    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            monkeypatch.setattr(Model, "function_reset", lambda _self: None)
            model.starts = False
            assert not await controller.reset()
            assert controller.missing
            assert "does not become ready" in controller.trouble
            with pytest.raises(OSError, match="does not become ready") as raised:
                await disk(controller).read(0, 512)
            assert raised.value.errno == errno.EIO
            model.starts = True
            await until(lambda: controller.state is State.ENABLED)
            assert await disk(controller).read(0, 512) == bytes(512)

    run(scene)


def test_a_device_that_is_pulled_fails_everything_until_it_is_back() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            await disk(controller).write(0, b"a" * 512)
            model.hold = lambda _entry: True
            reads = [asyncio.ensure_future(disk(controller).read(0, 512)) for _each in range(100)]
            await until(lambda: bool(model._held))
            model.pull()
            for outcome in await asyncio.gather(*reads, return_exceptions=True):
                assert isinstance(outcome, OSError)
                assert outcome.errno == errno.ENODEV
            assert controller.missing
            assert model.closed >= 1
            assert model.pages_in_use == 0
            model.hold = lambda _entry: False
            model._clear()
            model.registers[CC] = 0
            model.gone = False
            await until(lambda: not controller.missing)
            assert await disk(controller).read(0, 512) == b"a" * 512

    run(scene)


def test_a_device_that_is_pulled_while_it_is_reset_is_gone_all_the_same() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            model.starts = False
            resetting = asyncio.ensure_future(controller.reset())
            await until(lambda: model.resets == 1)
            model.pull()
            assert not await resetting
            assert controller.missing
            assert model.pages_in_use == 0

    run(scene)


def test_another_device_in_the_same_slot_is_not_used() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            model.pull()
            await until(lambda: controller.missing)
            looks = model.closed
            model.serial = "OTHER"
            model._clear()
            model.registers[CC] = 0
            model.gone = False
            await until(lambda: model.closed > looks + 1)
            assert controller.missing
            assert "another device is there now: Model, serial OTHER; it was Model, serial MODEL0" in controller.trouble
            with pytest.raises(OSError, match="the device is gone"):
                await disk(controller).write(0, b"a" * 512)
            assert model.done == []

    run(scene)


def test_a_pulled_device_is_noticed_without_being_told() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model, QUICK) as controller:
            model.gone = True
            await until(lambda: controller.missing)

    run(scene)


def test_what_a_process_that_was_killed_left_at_work_is_stopped_first() -> None:
    async def scene() -> None:
        model = Model()
        model.registers[CC] = 6 << 16 | 4 << 20 | 1
        model.status = 1
        async with attached(model) as controller:  # the model complains about bus mastering that comes too early
            assert model.resets == 1
            assert await disk(controller).read(0, 512) == bytes(512)

    run(scene)


def test_the_end_tells_the_device_and_gives_everything_back() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            writes = [disk(controller).write(0, b"a" * 512) for _each in range(200)]
            await controller.close()
            assert model.shutdowns == 1
            assert not model.registers[CC] & 1
            assert not model._mastering
            assert model.closed == 1
            assert model.pages_in_use == 0
            await asyncio.gather(*writes)  # they were waited for
            with pytest.raises(OSError, match="detached"):
                await disk(controller).read(0, 512)

    run(scene)


def test_a_controller_that_never_gets_ready_is_an_error_that_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shorten(monkeypatch)

    async def scene() -> None:
        model = Model()
        model.starts = False
        with pytest.raises(EngineError, match=r"0000:01:00.0 \(NVMe1\): the controller does not become ready in 0.1 s"):
            async with attached(model):
                pass
        assert model.closed == 1
        model.end()

    run(scene)


def test_a_device_that_is_open_when_nobody_wants_it_any_more_is_closed() -> None:
    async def scene() -> None:
        model = Model()
        opening: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        controller = Controller("NVMe1", model.address, lambda: model, lambda *_what: opening, QUICK)
        starting = asyncio.ensure_future(controller.start())
        await asyncio.sleep(0)
        starting.cancel()
        await asyncio.wait([starting])
        assert model.closed == 0
        opening.set_result(model)
        await until(lambda: model.closed == 1)
        model.end()

    run(scene)


def test_an_attachment_that_is_given_up_gives_everything_back() -> None:
    async def scene() -> None:
        model = Model()
        model.starts = False
        controller = Controller("NVMe1", model.address, lambda: model, submit, QUICK, make_memory=model.memory)
        starting = asyncio.ensure_future(controller.start())
        await until(lambda: bool(model.registers[CC] & 1))
        starting.cancel()
        await asyncio.wait([starting])
        del starting  # and with it what was on its stack
        assert (model.closed, model.pages_in_use, model._mastering) == (1, 0, False)
        model.end()

    run(scene)


def test_nothing_looks_for_completions_when_nothing_is_in_flight() -> None:
    async def scene() -> None:
        model = Model()
        async with attached(model) as controller:
            await disk(controller).read(0, 512)
            attention: Any = controller._attention
            await until(lambda: attention._handle is None)

    run(scene)
