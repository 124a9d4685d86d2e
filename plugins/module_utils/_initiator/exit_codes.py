# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What iscsiadm's exit codes mean, and what to do about them (iscsiadm(8), EXIT STATUS)."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

OK: Final = 0
INVALID: Final = 7
SESSION_EXISTS: Final = 15
NOTHING_FOUND: Final = 21
NO_SUCH_SESSION: Final = 2

_ERROR: Final = re.compile(r"^iscsiadm: (?:initiator reported error )?\(?(?:\d+ - )?(.*?)\)?$", re.MULTILINE)


class Meaning(NamedTuple):
    """Of an exit code: a name for programs, a sentence without its end, and the next step."""

    name: str
    what: str
    advice: str


_LOG: Final = "See the journal of iscsid, and the target's log."
_DATABASE: Final = "Look at the records below /etc/iscsi or /var/lib/iscsi, and whether their file system is full."

MEANINGS: Final = {
    1: Meaning("error", "iscsiadm failed", _LOG),
    NO_SUCH_SESSION: Meaning("session_not_found", "there is no such session", "Run the play again: it looks anew."),
    3: Meaning("no_memory", "the host is out of memory", "Give it more."),
    4: Meaning("transport", "the connection failed", "Is the target up, with this portal, and may this host reach it?"),
    5: Meaning("login", "the login failed", _LOG),
    6: Meaning("database", "the records of open-iscsi cannot be read or written", _DATABASE),
    INVALID: Meaning("invalid", "open-iscsi does not take an argument or a record", _DATABASE),
    8: Meaning(
        "transport_timeout",
        "the portal does not answer",
        "Is the target up, does it listen there, and does no firewall stand between?",
    ),
    9: Meaning("internal", "iscsid failed", _LOG),
    10: Meaning("logout", "the logout failed", _LOG),
    11: Meaning("pdu_timeout", "the target takes too long to answer", _LOG),
    12: Meaning("no_transport", "the kernel has no such transport", "Load its module, such as iscsi_tcp."),
    13: Meaning("access", "it is not allowed", "Become root: set become."),
    14: Meaning("transport_capability", "the transport cannot do that", "Use another interface."),
    SESSION_EXISTS: Meaning("session_exists", "there is a session already", "Log out first."),
    16: Meaning("unknown_request", "iscsid does not know the request", "Install iscsid and iscsiadm of one version."),
    17: Meaning("isns_unavailable", "the iSNS server does not answer", "Is it up?"),
    18: Meaning("iscsid", "iscsid does not answer", "Is its service running?"),
    19: Meaning(
        "login_refused",
        "the target refuses this login for good",
        "Does the target exist, and do its initiator groups let this host in by its name and address?",
    ),
    20: Meaning("iscsid_connection", "iscsid cannot be reached", "Start it: systemctl start iscsid.socket."),
    NOTHING_FOUND: Meaning("nothing_found", "there is no such record, target, session or portal", ""),
    22: Meaning("sysfs", "the kernel does not tell about its sessions", "Load the module scsi_transport_iscsi."),
    23: Meaning("no_host", "the kernel has no such SCSI host", "Look at: iscsiadm -m host."),
    24: Meaning(
        "authentication",
        "the target refuses the user or the secret",
        "Compare chap with the target's auth group: user and secret prove this host, muser and msecret the target.",
    ),
    25: Meaning("isns_query", "the iSNS server failed", "See its log."),
    26: Meaning("isns_registration", "the iSNS server does not register this host", "See its log."),
    27: Meaning("not_supported", "this version of open-iscsi cannot do that", "Upgrade it."),
    28: Meaning("busy", "the device is busy", "Unmount it and stop whoever uses it."),
    29: Meaning("again", "it did not work this time", "Run the play again."),
    30: Meaning("discovery_type", "open-iscsi does not know this way of discovery", ""),
    31: Meaning("child", "a process of iscsid ended", _LOG),
    32: Meaning("not_connected", "the session has no connection now", "Is the target up?"),
}


def meaning(code: int) -> Meaning:
    return MEANINGS.get(code) or Meaning(f"code_{code}", f"iscsiadm ended with status {code}", _LOG)


def sentence(subject: str, code: int, errors: str = "") -> str:
    """``subject: what went wrong. Next step.`` with iscsiadm's own words where its code says little."""
    told = meaning(code)
    words = [text.strip() for text in _ERROR.findall(errors) if text.strip()]
    own = (
        f" iscsiadm says: {words[0].rstrip('.')}."
        if words and (code not in MEANINGS or code in (1, 6, INVALID))
        else ""
    )
    return f"{subject}: {told.what} (iscsiadm {code}).{own} {told.advice}".rstrip()
