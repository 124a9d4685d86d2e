# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iSCSI names: what a target node and an initiator may be called (RFC 7143 §4.2.7)."""

from __future__ import annotations

import re
from typing import Final

from .._engine.facts import MAX_NAME_BYTES

PREFIXES: Final = ("iqn.", "eui.", "naa.")
_FORMS: Final = {
    "iqn.": (
        re.compile(r"iqn\.\d{4}-(0[1-9]|1[0-2])\.[^:.]+(\.[^:.]+)*(:.*)?", re.IGNORECASE),
        "iqn.YEAR-MONTH.REVERSED.DOMAIN:NAME, such as iqn.2016-06.io.spdk:disk1",
    ),
    "eui.": (re.compile(r"eui\.[0-9a-f]{16}", re.IGNORECASE), "eui. and 16 hexadecimal digits"),
    "naa.": (re.compile(r"naa\.([0-9a-f]{16}|[0-9a-f]{32})", re.IGNORECASE), "naa. and 16 or 32 hexadecimal digits"),
}
# What the ASCII part of a name may hold; the rest of Unicode is allowed (SPDK: check_iscsi_name).
_FORBIDDEN: Final = re.compile(r"[^0-9A-Za-z.:\-\u0080-\U0010ffff]")


def has_prefix(name: str) -> bool:
    return name.lower().startswith(PREFIXES)


def full_name(name: str, node_base: str) -> str:
    """The complete name of a target node: a short name is put behind the engine's ``node_base``."""
    return name if has_prefix(name) else f"{node_base}:{name}"


def check_name(name: str) -> None:
    """Raise ValueError with a sentence if ``name``, complete with its prefix, is no iSCSI name."""
    length = len(name.encode("utf-8", "surrogateescape"))
    if length > MAX_NAME_BYTES:
        raise ValueError(f"{name!r} is {length} bytes long. An iSCSI name has at most {MAX_NAME_BYTES}.")
    bad = _FORBIDDEN.search(name)
    if bad is not None:
        raise ValueError(f"{name!r} holds {bad.group()!r}. An iSCSI name has letters, digits, '-', '.' and ':'.")
    pattern, form = _FORMS.get(name[:4].lower(), (None, "a name that starts with iqn., eui. or naa."))
    if pattern is None or not pattern.fullmatch(name):
        raise ValueError(f"{name!r} is not an iSCSI name. Write {form}.")


def parse_initiator(text: str) -> str:
    """An entry of an initiator group in the spelling that is compared: ``ANY``, a name, or either denied with ``!``.

    Raises ValueError with a sentence. Names compare without regard to case (RFC 7143 §4.2.7.1).
    """
    text = text.strip()
    denied = text.startswith("!")
    name = text[1:] if denied else text
    if name.upper() in ("ANY", "ALL"):
        name = "ANY"
    else:
        check_name(name)
        name = name.lower()
    return f"!{name}" if denied else name
