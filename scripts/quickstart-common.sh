# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# shellcheck shell=bash

# What quickstart.sh and quickstart-down.sh share; sourced from the top of the checkout.
# Everything that Ansible, pip and the modules write goes below build/, so that nothing is left anywhere else.

home=$PWD/build/quickstart
controller=$home/controller
portal=${PORTAL:-127.0.0.1:3260}

die() {
    echo "$*" >&2
    exit 1
}

prepare() {
    # Settings of the user's own Ansible would reach into this run.
    local name
    for name in ${!ANSIBLE_*} PYTHONPATH; do unset "$name"; done
    mkdir -p "$controller/tmp" 2>/dev/null || die "$controller cannot be made. Is the checkout on a full or read-only file system?"
    : >"$controller/ansible.cfg"
    export TMPDIR=$controller/tmp PIP_CACHE_DIR=$PWD/build/cache/pip
    export ANSIBLE_CONFIG=$controller/ansible.cfg ANSIBLE_HOME=$controller/ansible
    export ANSIBLE_LOCAL_TEMP=$controller/tmp ANSIBLE_REMOTE_TMP=$controller/tmp/remote
    export ANSIBLE_COLLECTIONS_PATH=$controller/collections
    export ANSIBLE_CALLBACK_RESULT_FORMAT=yaml
    scripts/venv.sh run
    install_collection
}

# The collection as users get it: built from the checkout, then installed; again when a source is newer.
install_collection() {
    local log=$controller/install.log stamp=$controller/installed sources=(galaxy.yml meta playbooks plugins roles)
    if [ -e "$stamp" ] && [ -z "$(find "${sources[@]}" -newer "$stamp" ! -name '*.pyc' ! -name __pycache__ -print -quit)" ]; then
        return
    fi
    touch "$stamp.new"
    if ! {
        build/venv/bin/ansible-galaxy collection build --force --output-path "$controller/dist" . &&
            build/venv/bin/ansible-galaxy collection install --force --offline \
                --collections-path "$controller/collections" "$controller"/dist/openlun-iscsi-*.tar.gz
    } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        die "The collection could not be installed from this checkout: see $log."
    fi
    mv "$stamp.new" "$stamp"
}

# play NAME: run a playbook of the collection; when it fails, the failed task's own sentence is the last word.
play() {
    local log=$controller/play.log said
    local variables="{\"quickstart_home\": \"$home\", \"quickstart_portal\": \"$portal\"}"
    if build/venv/bin/ansible-playbook -i localhost, "openlun.iscsi.$1" -e "$variables" 2>&1 | tee "$log"; then
        return
    fi
    said=$(sed -nE 's/^\[ERROR\]: (Task failed: )?((Module|Action) failed: )?//p' "$log" | tail -n 1)
    case "$said" in
        *'the port is taken by'*) said="$said For instance: make quickstart PORTAL=127.0.0.1:3261" ;;
    esac
    die "make quickstart: ${said:-the play $1 failed; its words are above.}"
}
