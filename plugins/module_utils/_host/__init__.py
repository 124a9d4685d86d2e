# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host has and who uses it. PRIVATE to the collection.

Python 3.8 can import what is here, so that a host with an old Python gets a sentence instead of a traceback.
"""
