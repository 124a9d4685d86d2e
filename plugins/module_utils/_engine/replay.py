# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Putting a configuration into effect: SPDK's order, through the dispatcher that also serves the clients."""

from __future__ import annotations

import logging
import re
from collections.abc import Container, Iterable, Mapping
from typing import Callable, Final

from .config import Entry, Section
from .process import NOTICE
from .rpc.dispatch import Dispatcher
from .rpc.method import Method, RpcError, State

_LOG = logging.getLogger(__name__)

Failed = Callable[[str, int, Entry, RpcError], None]
"""Told of a call that failed: its subsystem, its place there, the call, why. May raise to stop."""

# Calls by which SPDK's save_config records the tuning of parts that this engine does not have. They make nothing.
_TUNING: Final = re.compile(r"\w+_set_(options|hotplug)")


def usable(sections: Iterable[Section], subsystems: Container[str], methods: Mapping[str, Method]) -> list[Section]:
    """A configuration that SPDK may have saved, without what means nothing here; what is left out is logged."""
    kept = []
    for section in sections:
        if section.subsystem not in subsystems:
            _LOG.log(NOTICE, "subsystem %s is not part of this engine: skipped", section.subsystem)
            continue
        entries = []
        for entry in section.entries or []:
            if entry.method not in methods and _TUNING.fullmatch(entry.method):
                _LOG.log(NOTICE, "%s tunes what this engine does not have: skipped", entry.method)
            else:
                entries.append(entry)
        kept.append(Section(section.subsystem, entries))
    return kept


async def replay(dispatcher: Dispatcher, sections: Iterable[Section], phase: State, failed: Failed) -> None:
    """Make the calls that belong to ``phase``, in order: STARTUP has those that may be made in it, RUNTIME the rest."""
    called_by_others = frozenset(dispatcher.called)
    for section in sections:
        for place, entry in enumerate(section.entries or []):
            method = dispatcher.methods.get(entry.method)
            early = method is not None and State.STARTUP in method.state
            if early is not (phase is State.STARTUP):
                continue
            if early and entry.method in called_by_others:
                _LOG.log(NOTICE, "%s was called already: the saved call is skipped", entry.method)
                continue
            try:
                await dispatcher.call(entry.method, entry.params, phase)
            except RpcError as error:
                failed(section.subsystem, place, entry, error)
