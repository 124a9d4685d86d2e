# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: volume_hosts
short_description: The hosts of volumes, as the inventory describes them
version_added: 0.2.0
author:
  - openlun.iscsi contributors (@openlun)
description:
  - Finds the hosts that volumes name, and what has to be known of them to let them in.
  - The name of the initiator is C(iscsi_initiator_name), or what the host's own facts say.
  - The addresses are C(iscsi_initiator_addresses), or all that its facts name, but those of the loopback and of single
    links. It is an empty list if nobody knows them.
  - What a host proves itself with is C(iscsi_initiator_chap), which has C(user) and C(secret), and C(muser) and
    C(msecret) for mutual CHAP.
positional: volumes
options:
  _input:
    description: The variables of all hosts, C(hostvars).
    type: dict
    required: true
  volumes:
    description: The volumes.
    type: list
    elements: dict
    required: true
seealso:
  - plugin: openlun.iscsi.volumes
    plugin_type: filter
"""

EXAMPLES = r"""
- name: Volumes for hosts of the inventory
  openlun.iscsi.target_config:
    bdevs: "{{ expanded.bdevs }}"
    auth_groups: "{{ expanded.auth_groups }}"
    initiator_groups: "{{ expanded.initiator_groups }}"
    target_nodes: "{{ expanded.target_nodes }}"
  vars:
    expanded: "{{ iscsi_volumes | openlun.iscsi.volumes(hostvars | openlun.iscsi.volume_hosts(iscsi_volumes)) }}"
    iscsi_volumes:
      - {name: pgdata, size: 20GiB, hosts: [db1, db2]}
"""

RETURN = r"""
_value:
  description: The option O(openlun.iscsi.volumes#filter:hosts) of P(openlun.iscsi.volumes#filter).
  type: dict
"""

import ipaddress
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


def volume_hosts(hostvars: Mapping[str, Any], volumes: Sequence[Any]) -> dict[str, dict[str, Any]]:
    """Hosts that the inventory lacks are left out: whoever expands the volumes says so."""
    return {name: _host(hostvars[name]) for name in _named(volumes) if name in hostvars}


def _named(volumes: Sequence[Any]) -> list[str]:
    names: dict[str, None] = {}
    for volume in volumes:
        hosts = volume.get("hosts") if isinstance(volume, Mapping) else None
        names.update(dict.fromkeys(map(str, hosts if isinstance(hosts, (list, tuple)) else ())))
    return list(names)


def _host(variables: Mapping[str, Any]) -> dict[str, Any]:
    facts = variables.get("ansible_facts") or {}
    addresses = variables.get("iscsi_initiator_addresses")
    found = {
        "initiator": variables.get("iscsi_initiator_name") or facts.get("iscsi_iqn") or "",
        "addresses": list(_of_facts(facts)) if addresses is None else list(addresses),
    }
    proofs = variables.get("iscsi_initiator_chap")
    return {**found, **proofs} if isinstance(proofs, Mapping) else found


def _of_facts(facts: Mapping[str, Any]) -> Iterable[str]:
    """Addresses that others can see, in an order that does not change."""
    told = {*(facts.get("all_ipv4_addresses") or ()), *(facts.get("all_ipv6_addresses") or ())}
    parsed = (ipaddress.ip_address(str(address)) for address in told)
    seen = (address for address in parsed if not (address.is_link_local or address.is_loopback))
    return map(str, sorted(seen, key=lambda address: (address.version, int(address))))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        return {"volume_hosts": volume_hosts}
