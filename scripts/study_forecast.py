"""How early can a flip be seen coming in recorded trials?

    python scripts/study_forecast.py RUN_OR_LOG [RUN_OR_LOG ...]

Prints the AUC of the forecaster and of two trivial ones for several horizons, each with its interval over
trials, and the lead times. The recorded trials that it was written for are few; read the intervals first.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from homeostasis_gym.collapse.forecast import forecast, forecast_data
from homeostasis_gym.imports import read_logs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="run folders and logs alike")
    parser.add_argument("--horizons", type=int, nargs="+", default=[5, 10, 20])
    parser.add_argument("--benchmarks", nargs="+", default=["mohon", "mobuo"], help="which to take")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    trajectories = [t for path in arguments.files for t in read_logs(path)]
    chosen = [t for t in trajectories if t.header.benchmark.get("name") in arguments.benchmarks]
    results = []
    for horizon in arguments.horizons:
        data = forecast_data(chosen, horizon)
        results.append(forecast(data, horizon))
    if arguments.json:
        print(json.dumps([result.to_dict() for result in results]))
        return
    first = results[0]
    print(f"{first.trials} distinct trials, {first.flips} of them flip later, {first.steps} steps at risk")
    for result in results:
        print(
            f"\nonset within the next {result.horizon} steps (true of {100 * result.base_rate:.1f} % of them)"
        )
        for name, auc in result.auc.items():
            low, high = result.auc_interval[name] or (float("nan"), float("nan"))
            print(f"  AUC {name:8} {auc:.3f}  [{low:.3f}, {high:.3f}]")
        print(f"  average precision of the model {result.average_precision:.3f}")
        print(
            f"  alarm at {100 * result.threshold_share:.0f} % of quiet steps: "
            f"{result.detected} of {result.flips} flips seen ahead, lead times {sorted(result.lead_times)}, "
            f"{100 * (result.false_alarms or 0):.0f} % of quiet trials alarmed"
        )
    weights = sorted(results[-1].weights.items(), key=lambda item: -abs(item[1]))
    print("\nweights:", ", ".join(f"{name} {value:+.2f}" for name, value in weights))


if __name__ == "__main__":
    main()
