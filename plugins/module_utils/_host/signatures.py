# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the content of a block device looks like: every signature that libblkid knows, by wipefs(8) of util-linux."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from ansible_collections.openlun.iscsi.plugins.module_utils._host.errors import HostError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ansible_collections.openlun.iscsi.plugins.module_utils._host.hugetlbfs import Run

_KNOWN: Final = {
    "linux_raid_member": "is a member of the md array",
    "swap": "is swap space",
    "crypto_LUKS": "is an encrypted volume (LUKS)",
    "zfs_member": "is part of a ZFS pool",
    "bcache": "is a device of bcache",
    "LVM1_member": "is an LVM physical volume",
}
_USAGES: Final = {
    "filesystem": "has a file system, {type}",
    "raid": "is a member of a RAID, {type}",
    "partition-table": "has a partition table, {type}",
}
LVM: Final = "LVM2_member"
PARTITION_TABLE: Final = "partition-table"
_PROTECTIVE: Final = "PMBR"
"""The partition table that hides a GPT from those who do not know it."""


def signatures(path: str, run: Run) -> Iterator[tuple[str, str]]:
    """Usage and sentence, which begins with the path, of each kind. Raises HostError when it cannot be read."""
    status, output, errors = run(["wipefs", "--no-act", "--json", "--output", "TYPE,USAGE,LABEL", path])
    try:
        if status:
            raise ValueError(errors.strip() or f"wipefs ended with status {status}")
        found = json.loads(output or '{"signatures": []}')["signatures"]
    except (ValueError, KeyError) as error:
        raise HostError(f"{path} cannot be read ({error})") from error
    kinds = {each["type"]: each for each in found}
    for kind, each in kinds.items():
        if kind != _PROTECTIVE or len(kinds) == 1:
            yield each.get("usage") or "", f"{path} {_words(each, path, run)}"


def _words(signature: dict[str, Any], path: str, run: Run) -> str:
    kind, label = signature["type"], signature.get("label")
    if kind == LVM:
        return _physical_volume(path, run)
    if kind in _KNOWN:
        return _KNOWN[kind] + (f" {label}" if label and "array" in _KNOWN[kind] else _labelled(label))
    words = _USAGES.get(signature.get("usage") or "", "has a signature of {type}")
    return words.format(type=kind) + _labelled(label)


def _labelled(label: str | None) -> str:
    return f" (label {label})" if label else ""


def _physical_volume(path: str, run: Run) -> str:
    status, output, _errors = run(["pvs", "--noheadings", "--readonly", "--options", "vg_name", path])
    group = "" if status else output.strip()
    return "is an LVM physical volume" + (f" of {group}" if group else "")
