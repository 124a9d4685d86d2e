# Copyright (c) 2026, openlun.iscsi contributors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Attacks the engine for as long as it is told: make fuzz MINUTES=10.

Every round is another seed of Hypothesis; what it finds is made small, printed, kept in build/cache/hypothesis, and
tried first the next time. Exit status 1 for a finding.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from fuzz.fortress import Attack, Fortress, fortress
from fuzz.scenarios import attacks
from hypothesis import HealthCheck, Phase, configuration, given, seed, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
_ATTACKS_A_ROUND: Final = 200
_WARM_UP_ROUNDS: Final = 3
_GROWTH_KIB: Final = 32 * 1024
"""More memory than this after the warm-up, with nobody connected but the witness, is a leak."""


def attack(walls: Fortress, number: int) -> None:
    """One round. Raises what a scenario finds, as Hypothesis made it small."""

    @seed(number)
    @settings(
        max_examples=_ATTACKS_A_ROUND,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    )
    @given(st.lists(attacks(), min_size=1, max_size=3))
    def round_(together: list[Attack]) -> None:
        walls.suffer(*together)

    round_()


def main() -> int:
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, help="of the first round; default is the time")
    parser.add_argument("--archive", type=Path, default=ROOT / "build" / "openlun-iscsi.pyz")
    options = parser.parse_args()
    configuration.set_hypothesis_home_dir(ROOT / "build" / "cache" / "hypothesis")
    first = options.seed if options.seed is not None else int(time.time())
    end = time.monotonic() + options.minutes * 60
    rounds, findings, settled = 0, 0, 0
    with fortress(options.archive) as walls:
        while time.monotonic() < end and not findings:
            try:
                attack(walls, first + rounds)
                walls.check_walls()
            except KeyboardInterrupt:
                break
            except Exception:
                findings += 1
                traceback.print_exc()
                print(f"finding in the round with SEED={first + rounds}")
            rounds += 1
            memory = walls.memory() if walls.engine.alive() else 0
            print(f"round {rounds}: {memory} KiB", flush=True)
            if rounds == _WARM_UP_ROUNDS:
                settled = memory
            elif settled and memory > settled + _GROWTH_KIB:
                findings += 1
                print(f"memory grew from {settled} to {memory} KiB")
    print(f"{rounds * _ATTACKS_A_ROUND} attacks, {findings} findings")
    return int(findings > 0)


if __name__ == "__main__":
    sys.exit(main())
