"""Why does correcting what falls fastest keep most runs whole? The rule with parts of its view taken away.

The rule `falling` corrects the value that the interaction lowers most. Here it judges by an interaction from
which some couplings are left out, while the agents live with all of them; beside it stands the rule that
corrects the lower of Power and Benevolence, so that Self-direction is never corrected either. Printed are
also how the rule compares with `homeostatic` in its corrections and its utilities, and how long it lasts.

    python scripts/study_falling.py
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core import schedules
from homeostasis_gym.core.value_graph import (
    CollapseRule,
    ValueGraphParams,
    initial_state,
    interact,
    outcomes,
    reference,
    simulate,
)
from homeostasis_gym.experiments.alice_bob import Rate

Floats = NDArray[np.float64]
ZEROS = ((0.0, 0.0, 0.0),) * 3


def falling(
    seen: ValueGraphParams,
) -> Callable[[Floats, Floats, Floats, NDArray[np.int64]], NDArray[np.int64]]:
    """The value that the interaction `seen` lowers most, for the agents `who`."""

    def choose(v: Floats, u: Floats, after: Floats, who: NDArray[np.int64]) -> NDArray[np.int64]:
        change = interact(seen, v, u)[0] - v
        return change[np.arange(len(v)), who].argmin(axis=1)

    return choose


def lower_of_power_and_benevolence(
    v: Floats, u: Floats, after: Floats, who: NDArray[np.int64]
) -> NDArray[np.int64]:
    own = after[np.arange(len(v)), who]
    return np.where(own[:, 0] <= own[:, 2], 0, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=0.025)
    parser.add_argument("--seeds", type=int, default=400)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hold", type=int, default=20, help="steps that a collapse must last")
    arguments = parser.parse_args()

    params = reference(rate=arguments.rate)
    power_alone = ((-0.5, 0.0, 0.0), (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    cross_alone = ((0.0, -0.5, 0.0), (-0.5, 0.0, 0.0), (0.0, 0.0, 0.0))
    rules = {
        "the whole interaction": falling(params),
        "its own part alone": falling(replace(params, between_clipped=ZEROS, between_unclipped=ZEROS)),
        "all but the other's Power on Power": falling(replace(params, between_clipped=cross_alone)),
        "all but Power and Self-direction across": falling(replace(params, between_clipped=power_alone)),
        "all but the other's Benevolence": falling(replace(params, between_unclipped=ZEROS)),
        "(the lower of Power and Benevolence)": lower_of_power_and_benevolence,
    }
    n = arguments.seeds
    turns = schedules.random(np.arange(n), arguments.steps).astype(np.int64)
    runs = np.arange(n)
    print(
        "| the rule sees | runs without collapse | corrections of Self-direction | "
        "median Power at the end | median Benevolence |"
    )
    print("|---|---|---|---|---|")
    for name, choose in rules.items():
        v, u = (np.repeat(start[None], n, axis=0) for start in initial_state(params))
        below = np.zeros((n, 2), dtype=np.int64)
        collapsed = np.zeros(n, dtype=bool)
        second = 0
        for t in range(arguments.steps):
            who = turns[:, t]
            after, felt = interact(params, v, u)
            k = choose(v, u, after, who)
            second += np.count_nonzero(k == 1)
            off = 10.0 - after[runs, who, k]
            after[runs, who, k] += np.clip(off, -params.max_step, params.max_step)
            v, u = after, felt
            below = np.where((v < 0.0).any(axis=2), below + 1, 0)
            collapsed |= (below >= arguments.hold).any(axis=1)
        power, benevolence = (np.median(v[:, :, j]) for j in (0, 2))
        print(
            f"| {name} | {Rate.of(~collapsed)} | {second / (n * arguments.steps):.3f} | "
            f"{power:.1f} | {benevolence:.1f} |"
        )

    few = np.arange(40)
    for strategy in ("falling", "homeostatic"):
        own = replace(params, rebalancing=strategy)
        run = simulate(own, schedules.random(few, 1000), seeds=few)
        total = np.median(run.utilities.sum(axis=(1, 2, 3)))
        print(
            f"{strategy}: utilities of 1000 steps add up to {total:.0f} (median of 40 runs), "
            f"{np.mean(run.chosen == 1):.1%} of the corrections go to Self-direction"
        )
    many = np.arange(200)
    for rate in (0.02, 0.025, 0.03):
        own = reference(rate=rate, rebalancing="falling")
        rule = CollapseRule(hold=arguments.hold)
        found = outcomes(own, lambda seeds: schedules.random(seeds, 10000), many, rule=rule)
        print(f"falling, rate {rate:g}: whole after 10000 steps {Rate.of(found.collapsed() == 0)}")


if __name__ == "__main__":
    main()
