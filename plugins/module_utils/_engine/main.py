# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Command line: ``serve`` runs the engine, ``rpc`` calls a method of a running one, ``version`` names this one."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

from . import __version__
from .facts import DEFAULT_DRAIN_SECONDS, MAX_SPIN_MICROSECONDS
from .rpc.client import DEFAULT_SOCKET, DEFAULT_TIMEOUT, CallError, Client, RpcError, UnixTransport

_LEVELS: Final = ("ERROR", "WARNING", "NOTICE", "INFO", "DEBUG")
_FAILED: Final = 1
_NOT_REACHED: Final = 2

_EPILOG: Final = """\
examples:
  %(prog)s serve -r /run/openlun-iscsi/rpc.sock --state-dir /var/lib/openlun-iscsi
  %(prog)s rpc bdev_malloc_create '{"name": "M0", "num_blocks": 131072, "block_size": 512}'
  %(prog)s rpc -s /run/openlun-iscsi/rpc.sock iscsi_get_target_nodes
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; gives the exit status."""
    options = _parser().parse_args(arguments)
    command: Any = options.command
    try:
        return int(command(options))
    except BrokenPipeError:
        # Whoever read our output went away; nothing is wrong. Python must not stumble over it again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def serve(options: argparse.Namespace) -> int:
    from .errors import EngineError
    from .service import Settings
    from .service import serve as run
    from .web import WebSettings

    settings = Settings(
        socket=os.path.abspath(options.socket),
        state_dir=os.path.abspath(options.state_dir) if options.state_dir else None,
        config=options.config,
        cpumask=options.cpumask,
        wait_for_rpc=options.wait_for_rpc,
        ignore_init_errors=options.json_ignore_init_errors,
        log_level=options.log_level,
        pid_file=options.pid_file,
        web=WebSettings(options.http, options.http_credentials, options.http_certificate, options.http_key)
        if options.http
        else None,
        drain_seconds=options.drain_seconds,
        spin_microseconds=options.spin,
    )
    try:
        run(settings)
    except EngineError as error:
        return _complain(str(error), _FAILED)
    return 0


def rpc(options: argparse.Namespace) -> int:
    try:
        text = sys.stdin.read() if options.params == "-" else options.params
        params = json.loads(text) if text and text.strip() else None
    except ValueError as error:
        return _complain(f"the parameters are not JSON: {error}", _FAILED)
    try:
        with Client(UnixTransport(options.socket, options.timeout)) as client:
            result = client.call(options.method, params)
    except CallError as error:
        return _complain(str(error), _FAILED)
    except RpcError as error:
        return _complain(str(error), _NOT_REACHED)
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    sys.stdout.flush()
    return 0


def work(options: argparse.Namespace) -> int:
    from .cores.follower import serve as run

    run(options.fd, options.spin)
    return 0


def version(_options: argparse.Namespace) -> int:
    sys.stdout.write(f"openlun-iscsi {__version__}\n")
    return 0


def _complain(sentence: str, status: int) -> int:
    sys.stderr.write(f"openlun-iscsi: {sentence}\n")
    return status


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(_NOT_REACHED, f"{self.prog}: {message}\nTry {self.prog} --help.\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="openlun-iscsi",
        description="A user-space iSCSI target that speaks SPDK's JSON-RPC.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_serve(commands)
    _add_rpc(commands)
    # How the engine starts its workers; people have no use for it, so that it has no help.
    worker = commands.add_parser("worker", allow_abbrev=False)
    worker.set_defaults(command=work)
    worker.add_argument("--fd", type=int, required=True)
    worker.add_argument("--spin", type=_microseconds)
    commands.add_parser("version", help="print the version").set_defaults(command=version)
    return parser


def _add_serve(commands: Any) -> None:
    parser = commands.add_parser(
        "serve",
        help="run the target in the foreground",
        description="Run the target in the foreground until SIGTERM or SIGINT. Log lines go to standard error.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=serve)
    parser.add_argument(
        "-r",
        "--rpc-socket",
        dest="socket",
        metavar="SOCKET",
        default=DEFAULT_SOCKET,
        help="RPC socket (default: %(default)s)",
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        help="save every change here and restore it at the next start (default: nothing is kept)",
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "-c",
        "--config",
        "--json",
        metavar="FILE",
        help="SPDK configuration to start with; used only while --state-dir holds no saved one",
    )
    source.add_argument(
        "--wait-for-rpc", action="store_true", help="wait for framework_start_init, so that options can be set before"
    )
    parser.add_argument(
        "--json-ignore-init-errors", action="store_true", help="go on when a call of the configuration file fails"
    )
    parser.add_argument(
        "-m",
        "--cpumask",
        metavar="MASK",
        help="run on these cores only: 0xF or [0,2-4]; with several of them, a worker process on each",
    )
    parser.add_argument(
        "--spin",
        metavar="MICROSECONDS",
        type=_microseconds,
        help="after each event, look for the next one for so long before sleeping: shorter answers, for up to all the "
        "time of a core; 0: never (default: where it pays, while initiators send one command soon after the other)",
    )
    parser.add_argument(
        "--log-level",
        metavar="LEVEL",
        type=_log_level,
        default="NOTICE",
        help=f"one of {', '.join(_LEVELS)}, or @FILE with one of them, which SIGHUP reads again (default: %(default)s)",
    )
    parser.add_argument(
        "--drain-seconds",
        metavar="SECONDS",
        type=_seconds,
        default=DEFAULT_DRAIN_SECONDS,
        help="how long initiators may take to log out when the target stops (default: %(default)s)",
    )
    parser.add_argument("--pid-file", metavar="FILE", help="hold the process number in this file while running")

    _add_http(parser)


def _add_http(parser: argparse.ArgumentParser) -> None:
    http = parser.add_argument_group(
        "management over HTTP", "POST /rpc, GET /metrics (Prometheus), GET /healthz, and a status page at /"
    )
    http.add_argument("--http", metavar="ADDR:PORT", help="listen here (default: nowhere); others' addresses need TLS")
    http.add_argument(
        "--http-credentials",
        metavar="FILE",
        help="who may use it: a user:password or a token a line; without it nobody makes calls. SIGHUP reads it again",
    )
    http.add_argument(
        "--http-certificate", metavar="FILE", help="PEM certificate (chain) for TLS. SIGHUP reads it again"
    )
    http.add_argument("--http-key", metavar="FILE", help="its key, when that is in a file of its own")


def _log_level(text: str) -> str:
    if text.startswith("@"):
        return "@" + os.path.abspath(text[1:])
    if text.upper() not in _LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(_LEVELS)}")
    return text.upper()


def _seconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > 3600:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0 to 3600")
    return int(text)


def _microseconds(text: str) -> int:
    if not text.isascii() or not text.isdigit() or int(text) > MAX_SPIN_MICROSECONDS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of microseconds from 0 to {MAX_SPIN_MICROSECONDS}")
    return int(text)


def _add_rpc(commands: Any) -> None:
    parser = commands.add_parser(
        "rpc",
        help="call a method of a running target",
        description="Call one method and print its result as JSON. Exit status: 0 the result is printed, "
        "1 the target refused, 2 it was not reached.",
        allow_abbrev=False,
    )
    parser.set_defaults(command=rpc)
    parser.add_argument("-s", "--socket", default=DEFAULT_SOCKET, help="RPC socket (default: %(default)s)")
    parser.add_argument(
        "-t", "--timeout", type=float, metavar="SECONDS", default=DEFAULT_TIMEOUT, help="default: %(default)g"
    )
    parser.add_argument("method", metavar="METHOD", help="such as iscsi_get_target_nodes; rpc_get_methods lists them")
    parser.add_argument(
        "params", metavar="JSON", nargs="?", help="the parameters, an object; - reads it from standard input"
    )


if __name__ == "__main__":
    raise SystemExit(main())
