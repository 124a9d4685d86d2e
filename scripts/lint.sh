#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Static checks. Runs all of them, names those that failed, and fails if one did.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
PATH="$PWD/build/venv/bin:$PATH"
export ANSIBLE_COLLECTIONS_PATH="$PWD/build/collections" ANSIBLE_HOME="$PWD/build/cache/ansible" ANSIBLE_NOCOLOR=1
collection=build/collections/ansible_collections/openlun/iscsi
failed=()

check() {
    local name=$1
    shift
    local output
    if output=$("$@" 2>&1); then
        echo "ok      $name"
    else
        printf 'FAILED  %s\n%s\n' "$name" "$output"
        failed+=("$name")
    fi
}

check "ruff check" ruff check --quiet .
check "ruff format" ruff format --quiet --diff .
check "mypy" mypy --no-error-summary "$collection/plugins" tests molecule
check "shellcheck" shellcheck .ci/run scripts/*.sh
check "reuse" reuse lint --quiet
check "changelog" antsibull-changelog lint
check "ansible-lint" ansible-lint --offline --nocolor -q
check "documentation" antsibull-docs lint-collection-docs --plugin-docs --validate-collection-refs=all --skip-rstcheck .

# What Galaxy does with an upload; ansible-lint and flake8 have had their say above.
galaxy_import() {
    local work=build/cache/galaxy-import
    mkdir -p "$work"
    ansible-galaxy collection build --force --output-path "$work" . || return
    printf '[galaxy-importer]\nRUN_ANSIBLE_LINT = False\nRUN_FLAKE8 = False\n' >"$work/config"
    cd "$work" && GALAXY_IMPORTER_CONFIG=config python -m galaxy_importer.main openlun-iscsi-*.tar.gz
}
check "galaxy import" galaxy_import

if [ ${#failed[@]} -gt 0 ]; then
    printf 'lint failed: %s\n' "${failed[*]}"
    exit 1
fi
