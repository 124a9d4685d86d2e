# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The modules for PCI devices as processes on this host, whose devices stay as they are."""

from __future__ import annotations

import os

import pytest
from module_process import run_module

NOWHERE = "ffff:ff:1f.7"

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives devices another driver")


def test_the_devices_of_this_host_are_listed() -> None:
    found = run_module("pci_device_info")
    assert {"vfio-pci", "uio_pci_generic", "igb_uio"} == set(found["drivers"])
    assert run_module("pci_device_info", devices=[{"address": NOWHERE}])["devices"] == []


@as_root
def test_a_device_that_is_not_there_is_named() -> None:
    said = run_module("pci_driver", check=True, fails=True, devices=[{"address": NOWHERE}])
    assert said["msg"].startswith(f"address {NOWHERE}: this host has no such device. It has ")
    assert said["problems"] == [said["msg"].removesuffix(" Nothing was changed.")]


@as_root
def test_a_device_that_is_not_there_can_be_given_back() -> None:
    done = run_module("pci_driver", devices=[{"address": NOWHERE, "driver": "kernel"}])
    assert (done["changed"], done["actions"], done["devices"]) == (False, [], [])


def test_a_device_needs_a_name() -> None:
    said = run_module("pci_driver", check=True, fails=True, devices=[{"driver": "vfio-pci"}])
    assert "one of the following is required: address, serial, model, wwid, class" in said["msg"]
