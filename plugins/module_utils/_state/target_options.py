# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the target as a whole, which an engine takes only before it serves (SPDK: iscsi_set_options)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from .._engine.facts import TARGET_OPTION_RANGES
from .base import TARGET_OPTIONS, BaseObject, words

FLAGS: Final = ("immediate_data", "allow_duplicated_isid")
NAMES: Final = ("node_base", *FLAGS, *TARGET_OPTION_RANGES)
"""The options of iscsi_get_options that belong here; those of CHAP are changed while the engine serves."""


@dataclass(frozen=True)
class TargetOptions(BaseObject):
    """``values`` has the options that are known, by their names in SPDK."""

    kind: ClassVar[str] = TARGET_OPTIONS

    values: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> TargetOptions:
        return cls(dict(given))

    def edited(self, given: Mapping[str, Any]) -> TargetOptions:
        return TargetOptions({**self.values, **given})

    def comparable(self) -> dict[str, Any]:
        return dict(self.values)

    def show(self) -> dict[str, Any]:
        return dict(self.values)

    def words(self, name: str, earlier: BaseObject | None) -> str:
        del earlier
        return words(name, self.values.get(name))
