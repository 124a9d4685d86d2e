# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""CHAP policies and the groups of secrets they refer to (SPDK's iscsi_create_auth_group)."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, NamedTuple

from ..errors import Exists, Invalid, NoDevice
from ..facts import LEAST_SECRET_BYTES, MAX_SECRETS_PER_CALL

_log = logging.getLogger(__name__)


class Auth(NamedTuple):
    """Who has to prove themselves: SPDK's four fields, for a target node, a portal group or discovery.

    ``chap_group`` is the tag of an auth group, which need not exist yet; 0 is none.
    """

    disable_chap: bool = False
    require_chap: bool = False
    mutual_chap: bool = False
    chap_group: int = 0

    def check(self, what: str) -> None:
        """Raises Invalid for a combination that means nothing."""
        if (self.disable_chap, self.require_chap, self.mutual_chap) not in _LEGAL:
            raise Invalid(f"{what}: disable_chap excludes the others, and mutual_chap needs require_chap")


_LEGAL: Final = frozenset(
    {
        (False, False, False),  # CHAP if the initiator offers it
        (True, False, False),  # never
        (False, True, False),  # always
        (False, True, True),  # always, both ways
    }
)


@dataclass(frozen=True)
class Secret:
    """What an initiator (``user``) proves, and what the target (``muser``) proves to it in mutual CHAP.

    Its repr leaves out what is secret, which thus stays out of logs and tracebacks.
    """

    user: str
    secret: str = field(repr=False)
    muser: str | None = None
    msecret: str | None = field(default=None, repr=False)

    def weaknesses(self) -> Iterator[str]:
        """What RFC 7143 §12.1.3 warns of, without the secrets."""
        given = {"secret": self.secret, "msecret": self.msecret}
        for name, value in given.items():
            if value is not None and len(value.encode()) < LEAST_SECRET_BYTES:
                yield f"{name} is shorter than {LEAST_SECRET_BYTES} bytes (96 bits); on a network it can be guessed"
        if self.secret == self.msecret:
            yield "secret and msecret are the same; mutual CHAP is refused until one of them is another"

    def to_rpc(self) -> dict[str, str | None]:
        """In clear text, as SPDK shows it; the other direction only when it is set."""
        mutual = {"muser": self.muser, "msecret": self.msecret} if self.muser else {}
        return {"user": self.user, "secret": self.secret, **mutual}


class AuthGroup:
    """Secrets by user name, in the order in which they came."""

    def __init__(self, tag: int, secrets: Iterable[Secret] = ()) -> None:
        self.tag = tag
        self.secrets: dict[str, Secret] = {}
        for secret in secrets:
            self.add(secret)

    def add(self, secret: Secret) -> None:
        """Raises Exists for a user that is there, Invalid for half a mutual secret."""
        if secret.user in self.secrets:
            raise Exists(f"auth group {self.tag}: it has a secret of user {secret.user} already")
        if secret.muser is not None and secret.msecret is None:
            raise Invalid(f"auth group {self.tag}: user {secret.user}: muser needs msecret")
        self.secrets[secret.user] = secret
        for weakness in secret.weaknesses():
            _log.warning("auth group %d: user %s: %s", self.tag, secret.user, weakness)

    def remove(self, user: str) -> None:
        """Raises NoDevice, which is SPDK's errno for it."""
        if user not in self.secrets:
            known = ", ".join(list(self.secrets)[:20])
            raise NoDevice(f"auth group {self.tag}: it has no secret of user {user}. Known users: {known or 'none'}.")
        del self.secrets[user]

    def to_rpc(self) -> dict[str, Any]:
        """As iscsi_get_auth_groups answers."""
        return {"tag": self.tag, "secrets": [secret.to_rpc() for secret in self.secrets.values()]}

    def config(self) -> tuple[str, dict[str, Any]]:
        params = self.to_rpc()
        del params["secrets"][MAX_SECRETS_PER_CALL:]
        return "iscsi_create_auth_group", params

    def further_config(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The secrets for which the call that makes the group has no room."""
        for secret in islice(self.secrets.values(), MAX_SECRETS_PER_CALL, None):
            yield "iscsi_auth_group_add_secret", {"tag": self.tag, **secret.to_rpc()}
