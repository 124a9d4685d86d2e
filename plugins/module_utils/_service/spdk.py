# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SPDK's own target, iscsi_tgt: where it is, where its files are, and how it is called (SPDK: lib/event/app.c)."""

from __future__ import annotations

import json
import os
import socket as sockets
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ansible_collections.openlun.iscsi.plugins.module_utils._rpc import CallError, RpcError, connect

from .errors import ServiceError
from .files import explained
from .layout import Layout, check_socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROGRAM: Final = "iscsi_tgt"
SYSTEM_PROGRAMS: Final = ("/usr/bin/iscsi_tgt", "/usr/sbin/iscsi_tgt", "/usr/local/bin/iscsi_tgt")
CONFIG: Final = "config.json"
"""In the state directory; the name is the one under which options for the start are saved, too."""
_PLACES: Final = ("bin", "build/bin", "sbin", "app/iscsi_tgt", "")
"""Below a prefix: where make install, a build tree, packages and old releases have it."""
_ANSWER_SECONDS: Final = 5.0
_CREDENTIALS: Final = struct.Struct("3i")
_METHOD_NOT_FOUND: Final = -32601


class SpdkSettings(NamedTuple):
    """``memory`` is in MiB, ``group`` may use the RPC socket; None leaves it to iscsi_tgt.

    The place of the archive in ``layout`` is empty: the program belongs to whoever installed it.
    """

    layout: Layout
    program: str
    cpumask: str | None = None
    memory: int | None = None
    hugepages: bool = True
    group: str | None = None
    arguments: tuple[str, ...] = ()

    @property
    def config(self) -> str:
        return os.path.join(self.layout.state_dir, CONFIG)

    def command(self) -> list[str]:
        """The argument vector. What the configuration names and the host lacks does not keep the rest from serving."""
        command = [self.program, "-r", self.layout.socket, "-c", self.config, "--json-ignore-init-errors"]
        if self.cpumask is not None:
            command += ["-m", self.cpumask]
        if self.memory is not None:
            command += ["-s", str(self.memory)]
        if not self.hugepages:
            command.append("--no-huge")
        return [*command, *self.arguments]


def spdk_layout(home: str | None, socket: str | None, uid: int, home_of_user: str) -> Layout:
    """The paths for the options ``home`` and ``socket``, as layout.layout has them for the other engine.

    Raises ServiceError when the socket's path is too long for the system.
    """
    if home is None and uid != 0:
        home = os.path.join(home_of_user, ".local/share/openlun-iscsi")
    if home is None:
        own = ""
        state, run, log = (f"/{place}/openlun-iscsi-spdk" for place in ("var/lib", "run", "var/log"))
    else:
        own = os.path.join(os.path.normpath(home), "spdk")  # beside the files of the other engine
        state, run, log = os.path.join(own, "state"), own, own
    paths = Layout(
        home=own,
        archive="",
        state_dir=state,
        run_dir=run,
        log_file=os.path.join(log, f"{PROGRAM}.log"),
        socket=os.path.normpath(socket) if socket is not None else os.path.join(run, "rpc.sock"),
    )
    check_socket(paths.socket)
    return paths


def find_program(program: str | None, prefix: str | None, searched: Iterable[str] = SYSTEM_PROGRAMS) -> str | None:
    """The path of iscsi_tgt, or None when there is none. A ``program`` that was named is taken at its word."""
    if program is not None:
        places = [program]
    elif prefix is not None:
        places = [os.path.join(prefix, place, PROGRAM) for place in _PLACES]
    else:
        places = list(searched)
    return next((place for place in places if os.path.isfile(place) and os.access(place, os.X_OK)), None)


def not_found(program: str | None, prefix: str | None, searched: Iterable[str] = SYSTEM_PROGRAMS) -> ServiceError:
    """What to say when find_program finds nothing."""
    if program is not None:
        return ServiceError(
            f"program {program}: not a file that can be executed. Set it to the path of SPDK's iscsi_tgt."
        )
    if prefix is not None:
        places = ", ".join(place for place in _PLACES if place)
        return ServiceError(
            f"prefix {prefix}: no {PROGRAM} in its {places}. Build SPDK there, or set prefix to where it was installed."
        )
    return ServiceError(
        f"{PROGRAM}: not found as {' or '.join(searched)}. Install SPDK, or set prefix or program to where it is."
    )


def check_config(path: str) -> None:
    """Raises ServiceError when the saved configuration is none: iscsi_tgt would end over it at once.

    SPDK allows comments. A file with what may be one is left to SPDK.
    """
    text = ""
    try:
        with explained(path), open(path, encoding="utf-8") as file:
            text = file.read()
        document = json.loads(text)
    except ServiceError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return
        raise
    except ValueError:
        if "//" in text or "/*" in text:
            return
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("subsystems", []), list):
        # Its text is not repeated: it holds secrets.
        raise ServiceError(
            f"configuration {path}: not one that SPDK can load. It was left untouched: put a good copy in its place, "
            "or move it away to start with an empty one."
        )


def ask_spdk(socket: str) -> Mapping[str, Any] | None:
    """``version`` and ``pid`` of the SPDK application that serves ``socket``; None when nobody does.

    Raises ServiceError when another program answers there.
    """
    try:
        with connect(socket, _ANSWER_SECONDS) as client:
            if "iscsi_create_target_node" not in client.methods():
                raise _another(socket)
            version: Mapping[str, Any] = client.call("spdk_get_version")
    except CallError as error:
        if error.code == _METHOD_NOT_FOUND:
            raise _another(socket) from error
        raise ServiceError(f"socket {socket}: {error.text}") from error
    except RpcError:
        return None
    pid = _listener(socket)
    return None if pid is None else {"version": version["version"], "pid": pid}


def _another(socket: str) -> ServiceError:
    return ServiceError(
        f"socket {socket}: another JSON-RPC server than SPDK's iSCSI target serves it. "
        "Stop that one, or set the option socket to another path."
    )


def _listener(socket: str) -> int | None:
    """The process that listens, unix(7) SO_PEERCRED; None when it is gone."""
    with sockets.socket(sockets.AF_UNIX) as peer:
        peer.settimeout(_ANSWER_SECONDS)
        try:
            peer.connect(socket)
            found = peer.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, _CREDENTIALS.size)
        except OSError:
            return None
    return int(_CREDENTIALS.unpack(found)[0]) or None
