# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the role would do on hosts that are not here: check mode with facts that were recorded on each distribution."""

from __future__ import annotations

import re

from distributions import FACTS, foretell
from role_play import Place, Played

KERNEL_PACKAGES = {
    "debian12": None,
    "debian13": None,
    "ubuntu2204": "linux-modules-extra-5.15.0-151-generic",
    "ubuntu2404": "linux-modules-extra-6.8.0-71-generic",
    "el9": "kernel-modules-5.14.0-570.32.1.el9_6.x86_64",
    "el10": "kernel-modules-6.12.0-55.24.1.el10_0.x86_64",
    "fedora42": "kernel-modules-6.15.9-201.fc42.x86_64",
}
PLAYBOOK = "openlun.iscsi.target"


def asked(played: Played) -> dict[str, list[str]]:
    """Host -> what its package manager was asked for."""
    found: dict[str, list[str]] = {host: [] for host in FACTS}
    for host, words in re.findall(r'changed: \[(\w+)\] => \{"asked": "([^"]+)"', played.output):
        found[host].append(words)
    return found


def test_a_run_is_foretold_for_every_distribution(place: Place) -> None:
    port = place.portal.rpartition(":")[2]
    portals = ["{{ ansible_facts.default_ipv4.address }}:" + port]
    name = "{{ ansible_facts.distribution | lower }}-{{ ansible_facts.distribution_major_version }}"
    foretold = foretell(
        place,
        PLAYBOOK,
        iscsi_target_portal_groups=[{"tag": 1, "portals": portals}],
        iscsi_target_nodes=[{**place.variables["iscsi_target_nodes"][0], "name": name}],
    )
    assert {host: (counters["changed"], counters["failed"]) for host, counters in foretold.recap.items()} == (
        dict.fromkeys(FACTS, (3, 0))
    )
    for facts in FACTS.values():
        node = f"{facts['distribution'].lower()}-{facts['distribution_major_version']}"
        assert f"iqn.2016-06.io.spdk:{node}" in foretold.output
    assert not place.home.exists()


def test_packages_are_those_of_the_distribution(place: Place) -> None:
    foretold = foretell(
        place,
        PLAYBOOK,
        *("-v", "--tags", "iscsi_target_install"),
        iscsi_target_engine="spdk",
        iscsi_target_spdk_package="our-spdk",
        iscsi_target_spdk_memory=512,
        iscsi_target_pci_devices=[{"address": "ffff:ff:1f.7", "driver": "kernel"}],  # which no host has
        iscsi_target_hugepages={"2M": 1},
    )
    kernel = {host: [package] if package else [] for host, package in KERNEL_PACKAGES.items()}
    assert asked(foretold) == {
        host: [f"{facts['pkg_mgr']} present {package}" for package in (*kernel[host], "our-spdk")]
        for host, facts in FACTS.items()
    }
    assert not place.home.exists()


def test_nothing_is_installed_for_the_engine_of_the_collection(place: Place) -> None:
    assert asked(foretell(place, PLAYBOOK, "-v", "--tags", "iscsi_target_install")) == {host: [] for host in FACTS}
