# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hosts that are not here: check mode with facts that were recorded on each distribution."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from role_play import Place, Played

FACTS: Final[dict[str, dict[str, Any]]] = {
    path.stem: json.loads(path.read_text())
    for path in sorted((Path(__file__).resolve().parent / "unit" / "facts").glob("*.json"))
}
_STAND_IN: Final = """\
import json
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({{"name": {{"type": "list", "elements": "str"}}, "state": {{}}}}, supports_check_mode=True)
module.exit_json(changed=True, asked=" ".join(["{manager}", module.params["state"], *module.params["name"]]))
"""


def foretell(place: Place, playbook: str, *flags: str, fails: bool = False, **variables: Any) -> Played:
    """Check mode on all distributions in one play; their package managers only tell what they were asked for."""
    library = place.directory / "library"
    library.mkdir(exist_ok=True)
    for manager in {facts["pkg_mgr"] for facts in FACTS.values()}:
        (library / f"{manager}.py").write_text(_STAND_IN.format(manager=manager))
    facts = {name: "{{ recorded[inventory_hostname]." + name + " }}" for name in FACTS["el9"]}
    remember = {"ansible.builtin.set_fact": {**facts, "cacheable": True}, "tags": "always"}
    book = place.directory / "recorded.yml"
    plays = [{"hosts": "all", "tasks": [remember]}, {"ansible.builtin.import_playbook": playbook}]
    book.write_text(json.dumps(plays))
    words = ("--check", "--diff", "-M", str(library), *flags)
    return place.play(*words, book=str(book), hosts=",".join(FACTS), fails=fails, recorded=FACTS, **variables)
