# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Declared and live state of an iSCSI target, compared by one pure planner.

PRIVATE to the collection. A run walks through it in this order: ``arguments`` (options of the modules) ->
``declaration`` and ``options`` (variables to wishes) -> ``reader`` (RPC to model; ``startup`` if it does not
serve yet) -> ``references`` (does it all fit together?) -> ``planner`` and ``ripple`` (what has to happen) ->
``schedule`` (in which order) -> ``executor`` and ``calls`` (as which RPCs) -> ``report`` (what the user sees).
Beside it stands ``volumes``, which turns the short form into such variables for a filter.
"""
