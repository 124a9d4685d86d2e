#!/usr/bin/env bash
# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Runs the layers of the tests, whatever one of them says, and ends with what each took.
# ansible-test works on a copy and on one core, so it runs beside the others; it speaks when they are done.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
results=build/results
rm -rf "$results"
mkdir -p "$results"

layer() {
    local name=$1 begin=$SECONDS verdict=ok
    printf '\n== %s ==\n' "$name"
    make --no-print-directory "$name" || verdict=FAILED
    printf '%-12s %-7s %4d s\n' "$name" "$verdict" $((SECONDS - begin)) >"$results/$name"
}

begin=$SECONDS
scripts/venv.sh test && make --no-print-directory packages || exit
printf '%-12s %-7s %4d s\n' preparation ok $((SECONDS - begin)) >"$results/preparation"

layer sanity >build/sanity.log 2>&1 &
for name in lint unit integration; do
    layer "$name"
done
wait
cat build/sanity.log

printf '\n'
cat "$results"/{preparation,lint,unit,integration,sanity}
printf '%-20s %4d s\n' together $((SECONDS - begin))
! grep -q FAILED "$results"/*
