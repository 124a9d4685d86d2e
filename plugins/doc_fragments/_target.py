# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How the modules of the target group reach the engine. PRIVATE to the collection."""

from __future__ import annotations


class ModuleDocFragment:
    """Connection options, the C(state)/C(force) pair and the seealso of the objects' modules."""

    DOCUMENTATION = r"""
options:
  socket:
    description:
      - Unix socket on the managed host on which the target engine answers JSON-RPC.
      - SPDK's own default is V(/var/tmp/spdk.sock).
      - Not together with O(url).
    type: path
    default: /run/openlun-iscsi/rpc.sock
  timeout:
    description:
      - How many seconds the engine may take for one answer.
      - Creating a large preallocated file takes the time the disk needs to write it.
    type: int
    default: 60
  url:
    description:
      - URL of an HTTP server in front of the engine, instead of O(socket), such as V(https://storage1:9009/). The
        module then runs anywhere from where the server can be reached, the controller for instance.
      - The server takes JSON-RPC by POST and knows users by basic authentication, as SPDK's C(rpc_http_proxy.py) does.
      - Needs the Python package C(requests) on the host that runs the module.
      - Proxies and credentials from the environment or a C(.netrc) are not used, and redirects are not followed.
    type: str
  url_username:
    description:
      - User name for O(url). Needs O(url_password).
    type: str
  url_password:
    description:
      - Password for O(url). Over C(http) it travels in clear text; use C(https) beyond the host itself.
    type: str
  validate_certs:
    description:
      - Whether the certificate of an C(https) server has to be valid and trusted.
    type: bool
    default: true
  ca_path:
    description:
      - File with the certificates, in PEM format, that are trusted for O(url).
      - Without it those are trusted that the package C(requests) trusts.
    type: path
seealso:
  - module: openlun.iscsi.engine
  - module: openlun.iscsi.target_config
  - module: openlun.iscsi.target_info
"""

    FORCE = r"""
options:
  force:
    description:
      - Allows steps that lose data, drop sessions or take something away from an object that uses it, and to replace
        what an engine does not change while it serves, which is away meanwhile.
      - Without it the module refuses, and names what and whom such a step would hit.
    type: bool
    default: false
"""

    OBJECT = r"""
options:
  state:
    description:
      - V(present) makes sure that the object exists with the given options. Options that are left out keep what
        is there, or take their default when the object is created.
      - V(absent) removes the object.
    type: str
    choices: [present, absent]
    default: present
  force:
    description:
      - Allows steps that lose data, drop sessions or take something away from an object that uses it, and to replace
        what an engine does not change while it serves, which is away meanwhile.
      - Without it the module refuses, and names what and whom such a step would hit.
    type: bool
    default: false
"""
