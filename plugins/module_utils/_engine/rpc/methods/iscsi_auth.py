# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""iscsi_*: auth groups, and who has to authenticate for discovery and for a target node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ...errors import Invalid
from ...facts import MAX_NAME_BYTES, MAX_SECRET_BYTES, MAX_SECRETS_PER_CALL, MAX_TAG
from ...iscsi.auth import Auth, AuthGroup, Secret
from ..masking import masked
from ..method import Method, Subject, worded
from ..schema import INT32_MAX, array, boolean, integer, optional, pair, required, string

if TYPE_CHECKING:
    from ...service import Engine


def create_auth_group(engine: Engine, tag: int, secrets: list[tuple[str, str, str | None, str | None]]) -> bool:
    with worded(f"Could not add secret to auth group ({tag}), {{reason}}"):
        group = AuthGroup(tag, (Secret(*each) for each in secrets))
    with worded(f"Could not add auth group ({tag}), {{reason}}"):
        engine.target.add_auth_group(group)
    return True


def delete_auth_group(engine: Engine, tag: int) -> bool:
    with worded(f"Could not find auth group ({tag})"):
        engine.target.delete_auth_group(tag)
    return True


def add_secret(engine: Engine, tag: int, user: str, secret: str, muser: str | None, msecret: str | None) -> bool:
    with worded(f"Could not find auth group ({tag})"):
        group = engine.target.auth_group(tag)
    with worded(f"Could not add secret to auth group ({tag}), {{reason}}"):
        group.add(Secret(user, secret, muser, msecret))
    return True


def remove_secret(engine: Engine, tag: int, user: str) -> bool:
    with worded(f"Could not find auth group ({tag})"):
        group = engine.target.auth_group(tag)
    with worded(f"Could not delete secret from CHAP group ({tag}), {{reason}}"):
        group.remove(user)
    return True


def get_auth_groups(engine: Engine) -> list[dict[str, Any]]:
    return [group.to_rpc() for group in engine.target.auth_groups.values()]


def get_masked_auth_groups(engine: Engine) -> list[dict[str, Any]]:
    """Ours: as iscsi_get_auth_groups, for whoever is to see that there are secrets and not which."""
    return [masked(group.to_rpc()) for group in engine.target.auth_groups.values()]


def set_discovery_auth(engine: Engine, **chap: Any) -> bool:
    with worded("Invalid combination of CHAP params"):
        engine.target.set_discovery_auth(Auth(**chap))
    return True


def set_portal_group_auth(engine: Engine, tag: int, inherit: bool, **chap: Any) -> bool:
    auth = Auth(**chap)
    with worded(f"Could not find portal group {tag}"):
        engine.target.portal_group(tag)
    with worded("Invalid combination of auth params"):
        if inherit and auth != Auth():
            raise Invalid(f"portal group {tag}: a group that inherits the policy for discovery has none of its own")
        engine.target.set_portal_group_auth(tag, None if inherit else auth)
    return True


def set_node_auth(engine: Engine, name: str, **chap: Any) -> bool:
    with worded(f"Could not find target {name}"):
        engine.target.node(name)
    with worded("Invalid combination of auth params"):
        engine.target.set_node_auth(name, Auth(**chap))
    return True


CHAP: Final = {
    "disable_chap": optional(boolean, False),
    "require_chap": optional(boolean, False),
    "mutual_chap": optional(boolean, False),
    "chap_group": optional(integer(0, INT32_MAX), 0),
}

_AUTH_GROUP: Final = "auth group"
_TAG: Final = required(integer(0, MAX_TAG))
_WORD: Final = string(MAX_SECRET_BYTES)
_USER: Final = {"user": required(_WORD)}
_SECRET: Final = {**_USER, "secret": required(_WORD), "muser": optional(_WORD), "msecret": optional(_WORD)}

METHODS: Final = (
    Method(
        "iscsi_create_auth_group",
        create_auth_group,
        {"tag": _TAG, "secrets": optional(array(pair(_SECRET, tuple(_SECRET)), MAX_SECRETS_PER_CALL), ())},
        mutates=True,
        subject=Subject(_AUTH_GROUP, "tag"),
    ),
    Method(
        "iscsi_delete_auth_group",
        delete_auth_group,
        {"tag": _TAG},
        mutates=True,
        subject=Subject(_AUTH_GROUP, "tag", removes=True),
    ),
    Method(
        "iscsi_auth_group_add_secret",
        add_secret,
        {"tag": _TAG, **_SECRET},
        mutates=True,
        subject=Subject(_AUTH_GROUP, "tag", part="secret", which="user"),
    ),
    Method(
        "iscsi_auth_group_remove_secret",
        remove_secret,
        {"tag": _TAG, **_USER},
        mutates=True,
        subject=Subject(_AUTH_GROUP, "tag", removes=True, part="secret", which="user"),
    ),
    Method("iscsi_get_auth_groups", get_auth_groups),
    Method("iscsi_get_masked_auth_groups", get_masked_auth_groups),
    Method("iscsi_set_discovery_auth", set_discovery_auth, CHAP, mutates=True),
    Method(
        "iscsi_portal_group_set_auth",
        set_portal_group_auth,
        # ``inherit`` is ours: back to the policy for discovery in general.
        {"tag": _TAG, **CHAP, "inherit": optional(boolean, False)},
        mutates=True,
        subject=Subject("portal group", "tag", part="auth"),
    ),
    Method(
        "iscsi_target_node_set_auth",
        set_node_auth,
        {"name": required(string(MAX_NAME_BYTES, least=1)), **CHAP},
        mutates=True,
    ),
)
