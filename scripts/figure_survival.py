"""How long both agents stay whole: Kaplan-Meier curves at three interaction rates.

python scripts/figure_survival.py --out docs/figures/survival
"""

from __future__ import annotations

import argparse
from pathlib import Path

from homeostasis_gym.core.value_graph import CollapseRule, reference
from homeostasis_gym.experiments.alice_bob import Ensemble, available_threads, run_ensemble, survival
from homeostasis_gym.experiments.alice_bob_figures import draw_survival, save_both


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("docs/figures/survival"))
    parser.add_argument("--rates", type=float, nargs="+", default=[0.02, 0.025, 0.03])
    parser.add_argument("--seeds", type=int, default=1000)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hold", type=int, default=20, help="steps that a collapse must last")
    parser.add_argument("--threads", type=int, default=available_threads())
    parser.add_argument("--formats", nargs="+", default=["svg"])
    arguments = parser.parse_args()

    rule = CollapseRule(hold=arguments.hold)
    curves = {}
    for rate in arguments.rates:
        ensemble = Ensemble(reference(rate=rate), seeds=arguments.seeds, steps=arguments.steps, rule=rule)
        curve = survival(run_ensemble(ensemble, arguments.threads))
        curves[f"rate {rate:g}"] = curve
        print(f"rate {rate:g}: median step {curve.median:g}, {curve.surviving[-1]:.3f} whole at the end")
    files = save_both(
        lambda dark: draw_survival(
            curves, dark, arguments.steps, f"{arguments.seeds} runs each, sigmoid utility, homeostatic"
        ),
        arguments.out,
        tuple(arguments.formats),
    )
    for path in files:
        print(f"wrote {path}")


if __name__ == "__main__":
    main()
