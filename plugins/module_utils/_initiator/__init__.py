# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The initiator's side of a host, and a small initiator in Python that needs no kernel module.

PRIVATE to the collection. Nothing here shares code with the engine: what it finds is what a stranger would find.
"""
