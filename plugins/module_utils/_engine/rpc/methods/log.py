# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""log_*: SPDK's levels and flags. There is one log, standard error, so level and print level are one setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Callable, Final

from ...process import LEVELS
from ..method import DECODE_FAILED, Method, Spread, State
from ..schema import Table, choice, required, string

if TYPE_CHECKING:
    from ...service import Engine


def get_flags(engine: Engine) -> dict[str, bool]:
    return engine.logs.flags


def set_flag(engine: Engine, flag: str) -> bool:
    engine.logs.set_flag(flag, True)
    return True


def clear_flag(engine: Engine, flag: str) -> bool:
    engine.logs.set_flag(flag, False)
    return True


def get_level(engine: Engine) -> str:
    return engine.logs.level


def set_level(engine: Engine, level: str) -> bool:
    engine.logs.level = level
    return True


_FLAG: Final = {"flag": required(string())}
_LEVEL: Final = {"level": required(choice(*LEVELS))}


def _setting(name: str, handler: Callable[..., bool], params: Table) -> Method:
    return Method(name, handler, params, state=State.BOTH, refusal=DECODE_FAILED, spread=Spread.EVERYWHERE)


METHODS: Final = (
    Method("log_get_flags", get_flags, state=State.BOTH),
    _setting("log_set_flag", set_flag, _FLAG),
    _setting("log_clear_flag", clear_flag, _FLAG),
    Method("log_get_level", get_level, state=State.BOTH),
    _setting("log_set_level", set_level, _LEVEL),
    Method("log_get_print_level", get_level, state=State.BOTH),
    _setting("log_set_print_level", set_level, _LEVEL),
)
