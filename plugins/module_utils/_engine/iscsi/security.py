# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The security stage of a login: which AuthMethod, and what it asks for (RFC 7143 §12)."""

from __future__ import annotations

from .auth import Auth, AuthGroup
from .chap import AuthenticationError, Authenticator, is_chap_key
from .keys import REJECT
from .text import Pairs

_NONE = "None"
_CHAP = "CHAP"


class Security:
    """Who is asked for proof: ``auth`` is the policy of ``what``, ``group`` the auth group it names, if that exists."""

    def __init__(self, auth: Auth, group: AuthGroup | None, what: str) -> None:
        self._auth = auth
        self._users = group.secrets if group is not None else {}
        self._what = what
        self._chap: Authenticator | None = None

    @property
    def needs_proof(self) -> bool:
        """Nobody comes in without."""
        return self._auth.require_chap

    @property
    def user(self) -> str | None:
        """Who the initiator has proved to be, where it had to."""
        return self._chap.user if self._chap is not None else None

    @property
    def is_satisfied(self) -> bool:
        """The login may go on to the next stage."""
        return self.user is not None if self._chap is not None else not self.needs_proof

    @property
    def is_under_way(self) -> bool:
        """CHAP was agreed on and needs more steps."""
        return self._chap is not None and self._chap.user is None

    @staticmethod
    def owns(name: str) -> bool:
        """Does this key belong to the security stage?"""
        return name == "AuthMethod" or is_chap_key(name)

    def answer(self, keys: Pairs) -> Pairs:
        """Answer the keys of the security stage of one login request. Raises AuthenticationError."""
        given = dict(keys)
        offered = given.pop("AuthMethod", None)
        answers: Pairs = []
        if offered is not None:
            answers.append(("AuthMethod", self._choose(offered.split(","))))
        if self._chap is not None and (given or (offered is None and self.is_under_way)):
            answers += self._chap.step(given)
        elif given:
            raise AuthenticationError(f"{next(iter(given))} without AuthMethod={_CHAP}")
        return answers

    def _choose(self, offered: list[str]) -> str:
        """The first of its methods that the policy allows."""
        possible = self._possible(offered)
        method = next((each for each in offered if each in possible), None)
        if method is None:
            raise AuthenticationError(
                f"it offers AuthMethod={','.join(offered)[:80]!r}; {self._what} takes {' or '.join(possible)}"
            )
        if method == _CHAP:
            if not self._users:
                raise AuthenticationError(
                    f"{self._what} has no secrets to check CHAP with: auth group {self._auth.chap_group} "
                    "does not exist or is empty"
                )
            self._chap = Authenticator(self._users, self._auth.mutual_chap)
        return method

    def _possible(self, offered: list[str]) -> tuple[str, ...]:
        if self._auth.require_chap:
            return (_CHAP,)
        if self._auth.disable_chap:
            return (_NONE,)
        # It is up to the initiator; where there is nobody to be, being somebody is not asked for.
        return (_CHAP, _NONE) if self._users or _NONE not in offered else (_NONE,)


def reject_out_of_place(keys: Pairs) -> Pairs:
    """Keys of the security stage in the operational one."""
    return [(name, REJECT) for name, _value in keys]
