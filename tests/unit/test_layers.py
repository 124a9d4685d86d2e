# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What docs/architecture.md says: its arrows, read from the imports, and its tables of places."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[2]
ARCHITECTURE: Final = (ROOT / "docs/architecture.md").read_text()
COLLECTION: Final = "ansible_collections.openlun.iscsi."
ENGINE: Final = "plugins.module_utils._engine."
LAYERS: Final = ("nvme", "bdev", "scsi", "iscsi", "rpc.methods")
"""Of the engine, from the lowest up. What only types need may point up."""
ACCELERATORS: Final = {"crc32c": "iscsi.crc32c", "google_crc32c": "iscsi.crc32c"}
ENGINE_FOR_MODULES: Final = ("facts", "errors", "rpc.client", "bdev.backing")
PACKAGES: Final = {
    "_host": {"_state.portals", "_state.sizes"},
    "_initiator": {"_engine.facts", "_host", "_state.auth", "_state.names", "_state.portals"},
    "_rpc": {"_engine", "_rpc_http"},
    "_rpc_http": {"_engine"},
    "_service": {"_engine.facts", "_rpc", "_state"},
    "_state": {"_engine", "_rpc", "_rpc_http"},
}
"""What a package in module_utils may import of the others."""


def imports_of(path: Path) -> Iterator[str]:
    """Dotted names that a file imports when it runs, those of the collection without its own name in front."""
    package = path.relative_to(ROOT).parts[:-1]
    todo: list[ast.AST] = [ast.parse(path.read_text())]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            todo.extend(node.orelse)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join((*start, *([node.module] if node.module else ())))
            yield from (f"{source}.{alias.name}".replace(COLLECTION, "") for alias in node.names)
        else:
            todo.extend(ast.iter_child_nodes(node))


def sources(place: str) -> list[Path]:
    found = sorted((ROOT / "plugins" / place).rglob("*.py"))
    assert found, place
    return found


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def is_in(name: str, package: str) -> bool:
    return f"{name}.".startswith(f"{package}.")


@pytest.mark.parametrize(("height", "layer"), list(enumerate(LAYERS)))
def test_a_layer_of_the_engine_imports_nothing_from_above(height: int, layer: str) -> None:
    above = [ENGINE + each for each in (*LAYERS[height + 1 :], *(() if layer == "rpc.methods" else ("rpc", "service")))]
    up = [
        f"{dotted(path)} imports {name}"
        for path in sources(f"module_utils/_engine/{layer.replace('.', '/')}")
        for name in imports_of(path)
        if any(is_in(name, each) for each in above)
    ]
    assert not up


def test_the_engine_needs_itself_and_the_standard_library() -> None:
    known = sys.stdlib_module_names
    foreign = [
        f"{dotted(path)} imports {name}"
        for path in sources("module_utils/_engine")
        for name in imports_of(path)
        if not name.startswith(ENGINE[:-1])
        and name.split(".")[0] not in known
        and dotted(path) != ENGINE + ACCELERATORS.get(name.split(".")[0], "")
    ]
    assert not foreign


def test_the_modules_know_of_the_engine_only_what_they_are_to_know() -> None:
    allowed = [ENGINE + each for each in ENGINE_FOR_MODULES]
    everything = [*sources("modules"), *sources("module_utils"), *sources("filter"), *sources("test")]
    other = [
        f"{dotted(path)} imports {name}"
        for path in everything
        if not dotted(path).startswith(ENGINE)
        for name in imports_of(path)
        if name.startswith(ENGINE) and not any(is_in(name, each) for each in allowed)
    ]
    assert not other


@pytest.mark.parametrize("package", list(PACKAGES))
def test_a_package_imports_only_the_packages_below_it(package: str) -> None:
    utils = "plugins.module_utils."
    allowed = [utils + each for each in (package, *PACKAGES[package])]
    paths = [path for path in sources("module_utils") if is_in(dotted(path), utils + package)]
    assert paths
    other = [
        f"{dotted(path)} imports {name}"
        for path in paths
        for name in imports_of(path)
        if name.startswith(utils) and not any(is_in(name, each) for each in allowed)
    ]
    assert not other


def test_the_page_names_every_place_with_code() -> None:
    plugins = [path for path in (ROOT / "plugins").iterdir() if any(path.glob("*.py"))]
    utils = [path for path in (ROOT / "plugins/module_utils").iterdir() if not path.name.startswith("__")]
    assert len(plugins) > 5
    assert len(utils) > 5
    places = {f"{path.name}/" if path.is_dir() else path.name for path in (*plugins, *utils)}
    assert not {place for place in places if place not in ARCHITECTURE}


def test_the_page_names_every_file_of_iscsi() -> None:
    table = ARCHITECTURE.partition("\n## iSCSI, file by file\n")[2].partition("\n\nWhat decides")[0]
    files = {path.stem for path in sources("module_utils/_engine/iscsi")} - {"__init__"}
    assert set(re.findall(r"`(\w+)`", table)) == files


@pytest.mark.parametrize("kind", ["modules", "action", "filter", "test"])
def test_plugins_import_no_other_plugin(kind: str) -> None:
    shared = ("plugins.module_utils.", "plugins.plugin_utils.")
    other = [
        f"{dotted(path)} imports {name}"
        for path in sources(kind)
        for name in imports_of(path)
        if name.startswith("plugins.") and not name.startswith(shared)
    ]
    assert not other
