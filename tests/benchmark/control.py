# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a whole configuration takes, and how that grows: target_config on the engine, with one disk a target node.

Beside it the same work object by object: one module call, or one process of SPDK's client, for each. Prints a table;
writes build/bench/control.json. No threshold: it informs, it does not judge.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Final, NamedTuple

from engine_process import Engine, free_port

ROOT: Final = Path(__file__).resolve().parents[2]
MODULES: Final = "ansible_collections.openlun.iscsi.plugins.modules"
SIZES: Final = (100, 1000, 10000)
SINGLE: Final = 100
"""Target nodes for which one object at a time is measured; the time for more of them grows with their number."""

Variables = dict[str, Any]


class Sample(NamedTuple):
    """``processes`` is how many were started for it, ``memory`` the engine's resident set after it, in MiB."""

    way: str
    nodes: int
    work: str
    seconds: float
    processes: int
    memory: int


def configuration(nodes: int) -> Variables:
    """Every target node has one LUN on a bdev of its own; all share a portal group and an initiator group."""
    maps = [{"portal_group": 1, "initiator_group": 1}]
    return {
        "portal_groups": [{"tag": 1, "portals": [f"127.0.0.1:{free_port()}"]}],
        "initiator_groups": [{"tag": 1, "initiators": ["ANY"], "netmasks": ["127.0.0.0/8"]}],
        "bdevs": [{"name": f"bench{number}", "type": "malloc", "size": "1MiB"} for number in range(nodes)],
        "target_nodes": [
            {"name": f"bench{number}", "luns": [{"id": 0, "bdev": f"bench{number}"}], "maps": maps}
            for number in range(nodes)
        ],
    }


def one_change(config: Variables) -> Variables:
    """The same, but in the middle there is a target node that asks for CHAP from those who offer it."""
    changed = copy.deepcopy(config)
    changed["target_nodes"][len(changed["target_nodes"]) // 2]["chap"] = "auto"
    return changed


def run_module(engine: Engine, name: str, options: Variables) -> Variables:
    """Run a module as a host does, without what Ansible needs to bring it there."""
    arguments = {"socket": str(engine.socket), "timeout": 600, **options}
    ended = subprocess.run(
        [sys.executable, "-m", f"{MODULES}.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode:
        raise RuntimeError(f"{name} exited {ended.returncode}: {ended.stdout[-2000:]}{ended.stderr[-2000:]}")
    result: Variables = json.loads(ended.stdout)
    return result


def memory(engine: Engine) -> int:
    pages = Path(f"/proc/{engine.process.pid}/statm").read_text().split()[1] if engine.process else "0"
    return int(pages) * os.sysconf("SC_PAGE_SIZE") // 2**20


def measure_config(archive: Path, nodes: int) -> Iterator[Sample]:
    """The whole configuration in one call: from nothing, again, and with one change."""
    config = configuration(nodes)
    engine = Engine(archive).start()
    try:
        for work, variables, actions in (
            ("from nothing", config, 2 * nodes + 2),
            ("again", config, 0),
            ("one change", one_change(config), 1),
        ):
            began = time.monotonic()
            result = run_module(engine, "target_config", variables)
            seconds = time.monotonic() - began
            if len(result["actions"]) != actions:
                raise RuntimeError(f"{work}: {len(result['actions'])} actions instead of {actions}")
            yield Sample("target_config", nodes, work, seconds, 1, memory(engine))
    finally:
        engine.remove()


def measure_modules(archive: Path, nodes: int) -> Iterator[Sample]:
    """One module call for each object, in the order in which they need each other: from nothing, and again."""
    config = configuration(nodes)
    objects = [(kind.rstrip("s"), options) for kind, each in config.items() for options in each]
    engine = Engine(archive).start()
    try:
        for work in ("from nothing", "again"):
            began = time.monotonic()
            for kind, options in objects:
                run_module(engine, kind, options)
            yield Sample("a module an object", nodes, work, time.monotonic() - began, len(objects), memory(engine))
    finally:
        engine.remove()


def measure_client(archive: Path, nodes: int) -> Iterator[Sample]:
    """One process of SPDK's client for each object, from nothing: it cannot find out what is there already."""
    config = configuration(nodes)
    [portals], [initiators] = config["portal_groups"], config["initiator_groups"]
    commands = [
        ["iscsi_create_portal_group", str(portals["tag"]), *portals["portals"]],
        ["iscsi_create_initiator_group", str(initiators["tag"]), *initiators["initiators"], *initiators["netmasks"]],
        *(["bdev_malloc_create", "-b", each["name"], "1", "512"] for each in config["bdevs"]),
        *(
            ["iscsi_create_target_node", each["name"], each["name"], f"{each['luns'][0]['bdev']}:0", "1:1", "64", "-d"]
            for each in config["target_nodes"]
        ),
    ]
    engine = Engine(archive).start()
    try:
        began = time.monotonic()
        for command in commands:
            client = Path(sys.executable).parent / "spdk-rpc"
            subprocess.run([client, "-s", engine.socket, *command], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        yield Sample("spdk-rpc a call", nodes, "from nothing", seconds, len(commands), memory(engine))
    finally:
        engine.remove()


def show(samples: list[Sample], facts: dict[str, str]) -> None:
    for key, value in facts.items():
        print(f"{key}: {value}")
    print(f"\n{'way':20}{'nodes':>7}  {'work':14}{'seconds':>9}{'ms a node':>11}{'processes':>11}{'engine MiB':>12}")
    for each in samples:
        numbers = f"{each.seconds:9.2f}{each.seconds * 1000 / each.nodes:11.2f}{each.processes:>11}{each.memory:>12}"
        print(f"{each.way:20}{each.nodes:>7}  {each.work:14}{numbers}")
    print(
        f"\nOne object at a time was measured with {SINGLE} nodes only; time grows with their number, or faster where "
        "every call reads the whole state. No time includes what Ansible adds to each task."
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"only up to {SIZES[1]} target nodes")
    options = parser.parse_args()
    archive = ROOT / "build/openlun-iscsi.pyz"
    facts = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": f"{len(os.sched_getaffinity(0))} cores, Linux {platform.release()}, Python {sys.version.split()[0]}",
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "engine": f"{archive.name}, malloc bdevs of 1 MiB, without a state directory",
    }
    samples: list[Sample] = []
    for nodes in SIZES[:2] if options.quick else SIZES:
        samples += measure_config(archive, nodes)
    samples += measure_modules(archive, SINGLE)
    samples += measure_client(archive, SINGLE)
    show(samples, facts)
    results = {"facts": facts, "samples": [sample._asdict() for sample in samples]}
    (ROOT / "build/bench").mkdir(parents=True, exist_ok=True)
    (ROOT / "build/bench/control.json").write_text(json.dumps(results, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
