# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP: who has to prove themselves, and the secrets with which they do it. No text made here holds a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, NamedTuple

from .base import AUTH_GROUP, DISCOVERY_AUTH, BaseObject, Ref

NONE: Final = "none"
AUTO: Final = "auto"
REQUIRED: Final = "required"
MUTUAL: Final = "mutual"
INHERIT: Final = "inherit"
"""The policy of a portal group that has none of its own: the one for discovery in general."""
ASKS_NOBODY: Final = frozenset((NONE, INHERIT))
"""Policies that go without an auth group."""

_FLAGS: Final[Mapping[str, tuple[bool, bool, bool]]] = {
    # disable_chap, require_chap, mutual_chap; from the most open policy to the strictest
    NONE: (True, False, False),
    AUTO: (False, False, False),
    REQUIRED: (False, True, False),
    MUTUAL: (False, True, True),
}
POLICIES: Final = tuple(_FLAGS)

ALWAYS: Final = "always"
ON_CREATE: Final = "on_create"

MASK: Final = "********"
_SECRET_KEYS: Final = frozenset(("secret", "msecret"))


def policy_of(answer: Mapping[str, Any]) -> dict[str, Any]:
    """``chap`` and ``auth_group`` of the engine's four fields. Without CHAP nobody looks at the group."""
    flags = tuple(bool(answer[name]) for name in ("disable_chap", "require_chap", "mutual_chap"))
    chap = next((policy for policy, known in _FLAGS.items() if known == flags), AUTO)
    return {"chap": chap, "auth_group": (answer["chap_group"] or None) if chap != NONE else None}


def rpc_policy(chap: str, auth_group: int | None) -> dict[str, Any]:
    """The engine's four fields."""
    disable, require, mutual = _FLAGS[chap]
    fields = {"disable_chap": disable, "require_chap": require, "mutual_chap": mutual}
    return {**fields, "chap_group": auth_group or 0}


def with_policy(given: Mapping[str, Any], chap: str, auth_group: int | None) -> Mapping[str, Any]:
    """``given`` with the policy it leads to: an auth group by itself asks for CHAP, and no CHAP needs no auth group."""
    if "chap" in given:
        chap = given["chap"]
    elif "auth_group" not in given:
        return given
    elif chap in ASKS_NOBODY:
        chap = REQUIRED
    group = given.get("auth_group", auth_group) if chap not in ASKS_NOBODY else None
    return {**given, "chap": chap, "auth_group": group}


def loosens(before: str, after: str) -> bool:
    """Whether ``after`` asks for less than ``before``."""
    return POLICIES.index(after) < POLICIES.index(before)


class Secret(NamedTuple):
    """What an initiator (``user``) proves, and what the target (``muser``) proves to it in mutual CHAP.

    A secret of None is one that is not known: the engine masks it, or nobody gave it.
    """

    user: str
    secret: str | None = None
    muser: str | None = None
    msecret: str | None = None

    def __repr__(self) -> str:
        return f"Secret(user={self.user!r})"

    def __str__(self) -> str:
        return f"{self.user} with muser {self.muser}" if self.muser else self.user

    @property
    def is_whole(self) -> bool:
        """Whether it can be given to an engine."""
        return self.secret is not None and (self.muser is None or self.msecret is not None)

    def filled(self, live: Secret | None) -> Secret:
        """What is left out is as it was; with a secret of its own, an entry stands for itself."""
        if live is None:
            return self
        if self.secret is None and self.muser is None:
            return live
        secret = live.secret if self.secret is None else self.secret
        keeps_mutual = self.msecret is None and self.muser is not None and live.muser is not None
        return self._replace(secret=secret, msecret=live.msecret if keeps_mutual else self.msecret)

    def show(self) -> dict[str, str]:
        mutual = {"muser": self.muser, "msecret": MASK} if self.muser else {}
        return {"user": self.user, "secret": MASK, **mutual}

    def to_rpc(self) -> dict[str, Any]:
        return {name: value for name, value in self._asdict().items() if value is not None}


def known_secret(text: str | None) -> str | None:
    """None for a secret that is missing or masked; secrets of nothing but ``*`` are nobody's."""
    return text if text and text.strip("*") else None


@dataclass(frozen=True)
class AuthGroup(BaseObject):
    """The secrets that a target node or discovery accepts."""

    kind: ClassVar[str] = AUTH_GROUP
    KEY: ClassVar[str] = "tag"

    tag: int
    secrets: tuple[Secret, ...] = ()

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> AuthGroup:
        return cls(given["tag"], given.get("secrets", ()))

    def edited(self, given: Mapping[str, Any]) -> AuthGroup:
        """In the order of the live group; with ``update_secret: on_create`` users that are there stay as they are."""
        if "secrets" not in given:
            return self
        live = {each.user: each for each in self.secrets}
        keeps = given.get("update_secret") == ON_CREATE
        wanted = {
            each.user: live[each.user] if keeps and each.user in live else each.filled(live.get(each.user))
            for each in given["secrets"]
        }
        order = [*(user for user in live if user in wanted), *(user for user in wanted if user not in live)]
        return replace(self, secrets=tuple(wanted[user] for user in order))

    def comparable(self) -> dict[str, Any]:
        return {"secrets": frozenset(self.secrets)}

    def new_since(self, earlier: BaseObject | None) -> list[Secret]:
        """What has to be given to the engine."""
        known = frozenset(earlier.secrets) if isinstance(earlier, AuthGroup) else frozenset()
        return [each for each in self.secrets if each not in known]

    def show(self) -> dict[str, Any]:
        return {"tag": self.tag, "secrets": [each.show() for each in self.secrets]}

    def readable(self, earlier: BaseObject | None) -> dict[str, Any]:
        return {"tag": self.tag, "secrets": self._users(earlier)}

    def words(self, name: str, earlier: BaseObject | None) -> str:
        return ", ".join(self._users(earlier)) or "none" if name == "secrets" else super().words(name, earlier)

    def _users(self, earlier: BaseObject | None) -> list[str]:
        """The users, and whose secret is another one than earlier."""
        known = {each.user for each in earlier.secrets} if isinstance(earlier, AuthGroup) else frozenset()
        new = frozenset(self.new_since(earlier))
        return [f"{each} (new secret)" if each in new and each.user in known else str(each) for each in self.secrets]


@dataclass(frozen=True)
class DiscoveryAuth(BaseObject):
    """Who has to prove themselves to see which target nodes there are."""

    kind: ClassVar[str] = DISCOVERY_AUTH

    chap: str = AUTO
    auth_group: int | None = None

    @classmethod
    def create(cls, given: Mapping[str, Any]) -> DiscoveryAuth:
        return cls().edited(given)

    def edited(self, given: Mapping[str, Any]) -> DiscoveryAuth:
        return replace(self, **with_policy(given, self.chap, self.auth_group))

    def show(self) -> dict[str, Any]:
        return {"chap": self.chap, "auth_group": self.auth_group}

    def needs(self) -> Iterator[Ref]:
        if self.auth_group is not None:
            yield (AUTH_GROUP, self.auth_group)


def without_secrets(value: Any) -> Any:
    """What an engine answered, with a mask for every ``secret`` and ``msecret``."""
    if isinstance(value, dict):
        return {name: MASK if name in _SECRET_KEYS else without_secrets(each) for name, each in value.items()}
    return [without_secrets(each) for each in value] if isinstance(value, list) else value


def secrets_in(value: Any) -> Iterator[str]:
    """Every ``secret`` and ``msecret`` among the parameters of a call."""
    if isinstance(value, dict):
        for name, each in value.items():
            if name in _SECRET_KEYS and each:
                yield str(each)
            else:
                yield from secrets_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from secrets_in(each)


def words_beside_users(options: Mapping[str, Any]) -> Iterator[str]:
    """What stands in the secrets of auth groups besides the names of users, under whatever name.

    ``options`` are those of a module, before anybody has looked at them.
    """
    groups = options.get("auth_groups")
    for group in [options, *(groups if isinstance(groups, list) else ())]:
        entries = group.get("secrets") if isinstance(group, Mapping) else None
        for entry in entries if isinstance(entries, list) else ():
            named = entry.items() if isinstance(entry, Mapping) else [("", entry)]
            yield from (str(word) for name, word in named if name not in _USERS and word)


_USERS: Final = frozenset(("user", "muser"))


def hide(text: str, objects: Sequence[BaseObject | None]) -> str:
    """``text``, which an engine wrote, without the secrets of ``objects``."""
    secrets = {
        word
        for each in objects
        if isinstance(each, AuthGroup)
        for secret in each.secrets
        for word in (secret.secret, secret.msecret)
        if word
    }
    for word in sorted(secrets, key=len, reverse=True):
        text = text.replace(word, MASK)
    return text
