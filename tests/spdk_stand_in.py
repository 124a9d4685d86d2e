# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A program that is called like SPDK's iscsi_tgt and forgets like it, with the collection's engine inside.

It takes the options of SPDK's command line and no others, does not start without the file of -c or with one that is
no configuration, saves nothing by itself, and has no method, parameter or answer that SPDK has not. It proves that what
is written for SPDK asks for nothing else; not how SPDK does it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
ARCHIVE: Final = ROOT / "build" / "openlun-iscsi.pyz"

_PROGRAM: Final = """\
#!{python}
import argparse, json, sys

parser = argparse.ArgumentParser(prog="iscsi_tgt", allow_abbrev=False)
parser.add_argument("-r", "--rpc-socket", default="/var/tmp/spdk.sock")
parser.add_argument("-c", "--config", "--json")
parser.add_argument("-m", "--cpumask", default="0x1")
parser.add_argument("-s", "--mem-size", type=int)
parser.add_argument("-u", "--no-pci", action="store_true")
parser.add_argument("--no-huge", action="store_true")
parser.add_argument("--json-ignore-init-errors", action="store_true")
parser.add_argument("--wait-for-rpc", action="store_true")
given = parser.parse_args()
words = ["serve", "-r", given.rpc_socket, "-m", given.cpumask]
if given.config:
    with open(given.config) as file:
        json.load(file)
    words += ["-c", given.config]
if given.json_ignore_init_errors:
    words.append("--json-ignore-init-errors")
if given.wait_for_rpc:
    words.append("--wait-for-rpc")
sys.path[:0] = ["{archive}", "{tests}"]
from openlun_iscsi_engine import service
from openlun_iscsi_engine.main import main
from openlun_iscsi_engine.rpc.method import INVALID_PARAMS, RpcError
from openlun_iscsi_engine.rpc.methods import all_methods
from spdk_limits import limited

service.all_methods = lambda: limited(all_methods(), lambda text: RpcError(INVALID_PARAMS, text))
sys.exit(main(words))
"""


def install(prefix: Path) -> Path:
    """Put the program where a build of SPDK has it; gives its path."""
    program = prefix / "build" / "bin" / "iscsi_tgt"
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(_PROGRAM.format(python=sys.executable, archive=ARCHIVE, tests=ROOT / "tests"))
    program.chmod(0o755)
    return program


if __name__ == "__main__":
    sys.stdout.write(f"{install(Path(sys.argv[1]))}\n")
