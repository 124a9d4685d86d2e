# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine that drives no devices, as systemd runs it: privileges, management over HTTPS, signals, the watchdog."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import pytest
from pdu import initiator
from pdu.initiator import Initiator
from vm.machine import Machine
from vm.target import NODE, SECONDS

if TYPE_CHECKING:
    from testinfra.host import Host

UNIT: Final = "openlun-iscsi.service"
TOKEN: Final = "token-of-the-tests"
BIND_SERVICE: Final = 1 << 10  # CAP_NET_BIND_SERVICE, capability.h
ASYNC: Final = 0x32
HTTPS: Final = """
import ssl, sys, urllib.error, urllib.request
request = urllib.request.Request("https://127.0.0.1:8260" + sys.argv[1])
request.add_header("Authorization", "Bearer " + sys.argv[2])
try:
    with urllib.request.urlopen(request, context=ssl.create_default_context(cafile="/etc/openlun-iscsi.pem")) as answer:
        print(answer.status)
except urllib.error.HTTPError as error:
    print(error.code)
"""
SERVE: Final = [
    ("bdev_malloc_create", {"name": "M", "num_blocks": 2048, "block_size": 512}),
    ("iscsi_create_portal_group", {"tag": 1, "portals": [{"host": "0.0.0.0", "port": "3260"}]}),
    ("iscsi_create_initiator_group", {"tag": 1, "initiators": ["ANY"], "netmasks": ["ANY"]}),
    (
        "iscsi_create_target_node",
        {
            "name": NODE,
            "alias_name": "",
            "pg_ig_maps": [{"pg_tag": 1, "ig_tag": 1}],
            "queue_depth": 8,
            "luns": [{"lun_id": 0, "bdev_name": "M"}],
        },
    ),
]


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(initiator, "TIMEOUT", float(SECONDS))


def _shown(host: Host, name: str) -> str:
    return str(host.check_output("systemctl show -P %s %s", name, UNIT)).strip()


def _https(host: Host, path: str, token: str = TOKEN) -> str:
    return str(host.check_output("python3 -c %s %s %s", HTTPS, path, token)).strip()


def _journal(host: Host) -> str:
    return str(host.check_output("journalctl --no-pager --output=cat --unit=%s", UNIT))


def test_it_is_a_user_of_its_own_who_may_use_low_ports_and_nothing_else(host: Host) -> None:
    pid = _shown(host, "MainPID")
    status = dict(line.split(":\t", 1) for line in host.check_output(f"cat /proc/{pid}/status").splitlines())
    assert _shown(host, "User") == "openlun-iscsi"
    assert "0" not in status["Uid"].split() + status["Gid"].split()
    assert [int(status[name], 16) for name in ("CapEff", "CapBnd", "CapAmb")] == [BIND_SERVICE] * 3
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    seen = host.check_output(f"nsenter --target {pid} --mount findmnt --noheadings --output OPTIONS --target /usr")
    assert "ro" in seen.split(",")


def test_it_is_managed_over_https_by_who_has_the_token(host: Host) -> None:
    assert [_https(host, "/healthz", "none"), _https(host, "/metrics")] == ["200", "200"]
    assert _https(host, "/metrics", "wrong") == "401"
    assert TOKEN not in _journal(host)
    assert host.check_output("stat --format=%a:%U /var/lib/openlun-iscsi/http-credentials") == "600:openlun-iscsi"


def test_a_reload_is_no_restart(host: Host) -> None:
    pid = _shown(host, "MainPID")
    host.check_output("systemctl reload %s", UNIT)
    assert (_shown(host, "ActiveState"), _shown(host, "MainPID")) == ("active", pid)
    assert "SIGHUP: log level, certificates and credentials are read again" in _journal(host)
    assert _https(host, "/healthz") == "200"


def test_a_stop_does_not_wait_for_an_initiator_for_ever(host: Host) -> None:
    calls = json.dumps({"calls": [{"method": method, "params": params} for method, params in SERVE]})
    host.check_output(
        "python3 /opt/openlun-iscsi/openlun-iscsi.pyz rpc -s /run/openlun-iscsi/rpc.sock engine_apply %s", calls
    )
    address, port = Machine("client").portal.split(":")
    with Initiator((address, int(port))).login(NODE) as session:
        host.check_output("systemctl stop %s", UNIT)
        assert session.receive().opcode == ASYNC
    assert (_shown(host, "Result"), _shown(host, "ExecMainStatus")) == ("success", "0")
    assert "its initiator did not log out within 3 s" in _journal(host)


def test_the_watchdog_starts_again_what_hangs(host: Host) -> None:
    directory = f"/run/systemd/system/{UNIT}.d"
    host.check_output(
        f"mkdir -p {directory} && printf '[Service]\\nWatchdogSec=10\\n' >{directory}/short.conf"
        f" && systemctl daemon-reload && systemctl restart {UNIT}"
    )
    host.check_output("kill -STOP %s", _shown(host, "MainPID"))
    host.check_output(
        f'timeout {SECONDS} sh -c \'until test "$(systemctl show -P NRestarts $0)$(systemctl is-active $0)" = 1active;'
        " do sleep 0.5; done' %s",
        UNIT,
    )
    assert "Watchdog timeout" in _journal(host)
    assert "most recent call first" in _journal(host)
    assert _https(host, "/healthz") == "200"
