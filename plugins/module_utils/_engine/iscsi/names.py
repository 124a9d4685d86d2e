# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iSCSI names (RFC 7143 §4.2.7)."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

from ..errors import Invalid
from ..facts import MAX_NAME_BYTES

_PREFIXES: Final = ("iqn.", "eui.", "naa.")
_IQN: Final = re.compile(r"iqn\.[0-9]{4}-[0-9]{2}\.[^\s!-,/;-@\[-`{-\x7f]+", re.IGNORECASE)
_EUI: Final = re.compile(r"eui\.[0-9a-f]{16}", re.IGNORECASE)
_NAA: Final = re.compile(r"naa\.([0-9a-f]{16}|[0-9a-f]{32})", re.IGNORECASE)
_FORMS: Final = {"iqn.": _IQN, "eui.": _EUI, "naa.": _NAA}


def full_name(name: str, node_base: str) -> str:
    """``disk1`` becomes ``node_base:disk1``; a name with a prefix stays. Raises Invalid for what is no iSCSI name."""
    full = name if name[:4].lower() in _PREFIXES else f"{node_base}:{name}"
    if len(full.encode()) > MAX_NAME_BYTES:
        raise Invalid(f"target node {full}: the name has {len(full.encode())} bytes; {MAX_NAME_BYTES} are allowed")
    if not name or not is_name(full):
        raise Invalid(f"target node {full}: not an iSCSI name such as iqn.2016-06.io.spdk:disk1")
    return full


def is_name(name: str) -> bool:
    form = _FORMS.get(name[:4].lower())
    return bool(form and form.fullmatch(name)) and len(name.encode()) <= MAX_NAME_BYTES


def may_be_initiator(name: str) -> bool:
    """Initiators may have names that RFC 3722 does not allow, such as those with underscores, but not just any."""
    return (
        name[:4].lower() in _PREFIXES
        and 4 < len(name.encode()) <= MAX_NAME_BYTES
        and name.isprintable()
        and not any(character.isspace() for character in name)
    )


def comparable(name: str) -> str:
    """Names are equal when these are: lower case after NFKC (RFC 7143 §4.2.7.1, RFC 3722)."""
    return unicodedata.normalize("NFKC", name).lower()
