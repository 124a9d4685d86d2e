# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""bdev_nvme_*: NVMe controllers on the PCI bus that the engine drives itself."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ...bdev.controllers import NameTaken
from ...errors import Invalid, NoDevice, NotFound, Unsupported
from ...facts import MAX_BDEV_NAME_BYTES
from ..method import DECODE_FAILED, Calls, Errors, Method, RpcError, Spread, State, Subject
from ..schema import (
    INT32_MAX,
    UINT16_MAX,
    UINT32_MAX,
    UINT64_MAX,
    array,
    boolean,
    choice,
    fields,
    integer,
    optional,
    required,
    string,
)
from .bdev import register, unregister
from .worker import DROP_STAND_INS, stand_ins

if TYPE_CHECKING:
    from ...service import Engine

CONTROLLER: Final = "nvme_controller"

_FABRICS: Final = ("rdma", "tcp", "fc", "vfiouser", "custom")
_MOST_BDEVS: Final = 1024


async def attach_controller(
    engine: Engine, name: str, trtype: str, traddr: str, max_bdevs: int, num_io_queues: int, **options: Any
) -> list[str]:
    """Gives the names of the new bdevs. One I/O queue is used, whatever is asked for."""
    del num_io_queues
    _check_transport(name, trtype)
    kept = {option: options[option] for option in _KEPT if options[option] is not None}
    for option in ("prchk_reftag", "prchk_guard"):
        if options[option]:
            raise Unsupported(f"NVMe controller {name}: {option}: protection information is not supported")
    try:
        made = await engine.nvme.attach(name, traddr, kept, engine.bdevs)
    except NameTaken as error:
        # SPDK's words for its own default, which is the only way here.
        words = f"A controller named {name} already exists and multipath is disabled"
        raise RpcError(-error.errno, f"{words}: {error}") from None
    for bdev in made:
        register(engine, bdev)
    return [bdev.name for bdev in made[:max_bdevs]]


def _check_transport(name: str, trtype: str) -> None:
    if trtype.lower() == "pcie":
        return
    if trtype.lower() in _FABRICS:
        raise Unsupported(
            f"NVMe controller {name}: the engine drives PCIe devices only, not {trtype}. Connect it in the kernel "
            "(nvme connect) and export it as an aio bdev, or use SPDK's engine"
        )
    raise Invalid(f"NVMe controller {name}: trtype {trtype!r} is not known; PCIe is possible")


def get_controllers(engine: Engine, name: str | None) -> list[dict[str, Any]]:
    if name is None:
        return [attached.to_rpc() for attached in engine.nvme]
    try:
        return [engine.nvme.get(name).to_rpc()]
    except NoDevice as error:
        # SPDK's code here is positive.
        raise RpcError(errno.EINVAL, f"Controller {name} does not exist: {error}") from None


async def detach_controller(engine: Engine, name: str, trtype: str | None, traddr: str | None, **path: Any) -> bool:
    """The bdevs go, and the LUNs on them. What else is given must be the one path there is, as for SPDK."""
    attached = engine.nvme.get(name)
    others = [f"{key} {value}" for key, value in path.items() if value]
    if trtype is not None and trtype.lower() != "pcie":
        others.append(f"trtype {trtype}")
    if traddr is not None and traddr.lower() != attached.controller.address:
        others.append(f"traddr {traddr}")
    if others:
        missing = NotFound(
            f"NVMe controller {name} is not at {', '.join(others)} but at {attached.controller.address} (PCIe)"
        )
        missing.errno = errno.ENXIO
        raise missing
    for bdev in attached.bdevs:
        unregister(engine, bdev)
    await engine.nvme.detach(name)
    return True


def _stand_in(engine: Engine, params: Mapping[str, Any], _result: Any) -> Calls:
    """The device stays the main process's."""
    return stand_ins(engine, params["name"])


def _drop_stand_ins(_engine: Engine, params: Mapping[str, Any], _result: Any) -> Calls:
    yield DROP_STAND_INS, {"controller": params["name"]}


async def reset_controller(engine: Engine, name: str, cntlid: int | None) -> bool:
    """What is in flight is done again afterwards."""
    controller = engine.nvme.get(name).controller
    if cntlid is not None and cntlid != controller.info.controller_id:
        known = controller.info.controller_id
        raise Invalid(f"NVMe controller {name}: its controller identifier is {known}, not {cntlid}")
    if not await controller.reset():
        raise RpcError(-errno.EIO, f"{os.strerror(errno.EIO)}: NVMe controller {name}: {controller.trouble}")
    return True


def set_options(engine: Engine, **options: Any) -> bool:
    """Kept and saved as SPDK does. timeout_us and timeout_admin_us count for controllers attached afterwards."""
    engine.nvme.options.update((name, value) for name, value in options.items() if value is not None)
    return True


def set_hotplug(engine: Engine, **options: Any) -> bool:
    """Kept and saved: a device that is attached is always noticed when it goes and when it is back."""
    engine.nvme.hotplug.update((name, value) for name, value in options.items() if value is not None)
    return True


_TEXT: Final = optional(string())
_UINT32: Final = optional(integer(0, UINT32_MAX))
_UINT64: Final = optional(integer(0, UINT64_MAX))
_FLAG: Final = optional(boolean)
_MULTIPATH: Final = fields(
    {
        "policy": optional(choice("active_passive", "active_active")),
        "selector": optional(choice("round_robin", "queue_depth")),
        "min_io": _UINT32,
    }
)

_KEPT: Final = (
    *("prchk_reftag", "prchk_guard", "ctrlr_loss_timeout_sec", "reconnect_delay_sec"),
    *("fast_io_fail_timeout_sec", "hdgst", "ddgst", "multipath"),
)
"""What of an attachment's options is saved."""

METHODS: Final = (
    Method(
        "bdev_nvme_attach_controller",
        attach_controller,
        {
            "name": required(string(MAX_BDEV_NAME_BYTES, least=1)),
            "trtype": required(string()),
            "traddr": required(string(256)),
            **dict.fromkeys(("adrfam", "trsvcid", "priority", "subnqn", "hostnqn", "hostaddr", "hostsvcid"), _TEXT),
            **dict.fromkeys(("psk", "dhchap_key", "dhchap_ctrlr_key"), _TEXT),
            **dict.fromkeys(("prchk_reftag", "prchk_guard", "hdgst", "ddgst"), _FLAG),
            **dict.fromkeys(("allow_unrecognized_csi", "disable_sq_flow_control"), _FLAG),
            "fabrics_connect_timeout_us": _UINT64,
            "multipath": optional(choice("disable", "failover", "multipath")),
            "multipath_opts": optional(_MULTIPATH),
            "num_io_queues": optional(integer(1, UINT16_MAX + 1), 1024),
            "ctrlr_loss_timeout_sec": optional(integer(-1, INT32_MAX)),
            "reconnect_delay_sec": _UINT32,
            "fast_io_fail_timeout_sec": _UINT32,
            "max_bdevs": optional(integer(1, _MOST_BDEVS), 128),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject(CONTROLLER, "name"),
        followed_by=_stand_in,
    ),
    Method(
        "bdev_nvme_get_controllers",
        get_controllers,
        {"name": _TEXT},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
    Method(
        "bdev_nvme_detach_controller",
        detach_controller,
        {
            "name": required(string()),
            **dict.fromkeys(("trtype", "traddr", "adrfam", "trsvcid", "subnqn", "hostaddr", "hostsvcid"), _TEXT),
        },
        mutates=True,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
        subject=Subject(CONTROLLER, "name", removes=True),
        followed_by=_drop_stand_ins,
    ),
    Method(
        "bdev_nvme_reset_controller",
        reset_controller,
        {"name": required(string()), "cntlid": optional(integer(0, UINT16_MAX))},
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
    Method(
        "bdev_nvme_set_options",
        set_options,
        {
            "action_on_timeout": optional(choice("none", "reset", "abort")),
            **dict.fromkeys(
                ("timeout_us", "timeout_admin_us", "nvme_adminq_poll_period_us", "nvme_ioq_poll_period_us"), _UINT64
            ),
            **dict.fromkeys(
                (
                    *("keep_alive_timeout_ms", "retry_count", "arbitration_burst", "low_priority_weight"),
                    *("medium_priority_weight", "high_priority_weight", "io_queue_requests", "transport_retry_count"),
                    *("transport_ack_timeout", "reconnect_delay_sec", "fast_io_fail_timeout_sec", "transport_tos"),
                    *("rdma_srq_size", "rdma_max_cq_size", "rdma_cm_event_timeout_ms", "tcp_connect_timeout_ms"),
                ),
                _UINT32,
            ),
            **dict.fromkeys(("bdev_retry_count", "ctrlr_loss_timeout_sec"), optional(integer(-1, INT32_MAX))),
            **dict.fromkeys(
                (
                    *("delay_cmd_submit", "disable_auto_failback", "generate_uuids", "nvme_error_stat"),
                    *("io_path_stat", "allow_accel_sequence", "rdma_umr_per_io", "enable_flush"),
                ),
                _FLAG,
            ),
            **dict.fromkeys(("dhchap_digests", "dhchap_dhgroups"), optional(array(string(), 16))),
            "multipath_opts": optional(_MULTIPATH),
        },
        state=State.BOTH,
        mutates=True,
        spread=Spread.MAIN,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
    Method(
        "bdev_nvme_set_hotplug",
        set_hotplug,
        {"enable": required(boolean), "period_us": _UINT64},
        mutates=True,
        spread=Spread.MAIN,
        errors=Errors.AS_ERRNO,
        refusal=DECODE_FAILED,
    ),
)
