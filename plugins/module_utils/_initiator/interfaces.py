# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Interfaces of open-iscsi: what a session is bound to, such as a network card or an adapter that offloads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from .errors import InitiatorError
from .nodes import DEFAULT_INTERFACE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .iscsiadm import Iscsiadm

BINDINGS: Final = ("net_ifacename", "ipaddress", "hwaddress", "transport_name", "initiatorname")
_BUILT_IN: Final = (DEFAULT_INTERFACE, "iser")


class Binding(NamedTuple):
    """What is to be done so that an interface is as declared; nothing when ``changes`` is empty and it is not new."""

    name: str
    new: bool
    before: Mapping[str, str]
    changes: Mapping[str, str]

    @property
    def action(self) -> dict[str, str] | None:
        """For the module's result."""
        if not (self.new or self.changes):
            return None
        why = "it was missing" if self.new else f"{', '.join(self.changes)} differ"
        return {"action": "create" if self.new else "edit", "object": f"interface {self.name}", "why": why}


def plan_binding(iscsiadm: Iscsiadm, name: str, wanted: Mapping[str, str]) -> Binding:
    """``wanted`` has the full names, such as iface.net_ifacename. Raises InitiatorError."""
    if name in _BUILT_IN:
        if wanted:
            raise InitiatorError(f"interface: {name} is built into open-iscsi and is bound to nothing. Name your own.")
        return Binding(name, False, {}, {})
    new = name not in iscsiadm.interfaces()
    if new and not wanted:
        raise InitiatorError(
            f"interface: open-iscsi has no interface {name}. Look at iscsiadm -m iface, or say with binding what it is."
        )
    before = {} if new else iscsiadm.interface(name)
    changes = {key: value for key, value in wanted.items() if before.get(key, "") != value}
    return Binding(name, new, {key: before.get(key, "") for key in changes}, changes)


def bind(iscsiadm: Iscsiadm, binding: Binding) -> None:
    """Raises InitiatorError."""
    if binding.new:
        iscsiadm.create_interface(binding.name)
    for key, value in binding.changes.items():
        iscsiadm.set_interface(binding.name, key, value)
