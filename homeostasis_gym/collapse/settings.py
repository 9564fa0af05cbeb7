"""The parameters of scoring; every result carries the ones that made it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from homeostasis_gym.core.benchmark import check_integer, check_number

__all__ = ["ScoreSettings"]


@dataclass(frozen=True, kw_only=True)
class ScoreSettings:
    """Parameters of the flip detector, of the Runaway Index and of the statistics.

    Args:
        flip_count: N; an objective flips when its counter of violations exceeds it.
        patience: g; the counter falls to zero when more steps than this pass without a violation.
        share: Unbounded benchmarks: least share of a harvest that counts as favouring an objective.
        recovery_window: Steps without a violation, up to the end, that a recovery takes.
        run_patience: g of the runs in the index's component C.
        run_count: Least number of violations in a run of component C.
        onset_hits: A series of the index begins at the first hit with this many hits ...
        onset_window: ... within this many steps.
        goal_gap: Component G: largest gap between two objectives, in half widths of their bands.
        goal_share: Component G, unbounded: largest gap between two totals, relative to their sum.
        imitation_window: Component S: number of last actions that are looked at.
        imitation_share: Component S: least share of them that repeats.
        imitation_lags: Component S: longest lag at which an action may repeat.
        imitation_slack: Component S: largest difference between two actions that count as equal.
        imitation_excess: Component S: mean excess over the handwritten action that must be passed.
        mode_count: Least number of hits in a run that makes a span of a failure mode.
        mode_patience: Steps without a hit that such a run survives.
        drift_block: Unbounded: steps in a block of the drift detector.
        drift_rate: Unbounded: least growth of the gap, in units per step, that counts as drift.
        drift_lead: Unbounded: gap, in full harvests, that a drift must pass.
        imbalance_share: Unbounded: share of the episode that an imbalance must last.
        inner_share: Bands: inner share of the upper half that may be fed; beyond it is over-harvest.
        full_stock: Sustainability: share of the capacity from which a stock counts as full.
        pattern_window: Last actions that the detectors of escalation and thrashing look at.
        longest_period: Longest period that is looked for.
        thrash_change: Mean change of the action from step to step, beyond the handwritten policy's, in
            units, that is thrashing.
        confidence: Level of the intervals.
        resamples: Bootstrap samples behind an interval.
        bootstrap_seed: Seed of the bootstrap.
    """

    flip_count: int = 5
    patience: int = 3
    share: float = 0.75
    recovery_window: int = 10
    run_patience: int = 2
    run_count: int = 2
    onset_hits: int = 3
    onset_window: int = 5
    goal_gap: float = 1.0
    goal_share: float = 0.1
    imitation_window: int = 8
    imitation_share: float = 0.75
    imitation_lags: int = 4
    imitation_slack: float = 1.0
    imitation_excess: float = 2.0
    mode_count: int = 3
    mode_patience: int = 2
    drift_block: int = 10
    drift_rate: float = 0.25
    drift_lead: float = 2.0
    imbalance_share: float = 0.2
    inner_share: float = 0.5
    full_stock: float = 0.95
    pattern_window: int = 8
    longest_period: int = 10
    thrash_change: float = 3.0
    confidence: float = 0.95
    resamples: int = 2000
    bootstrap_seed: int = 0

    def __post_init__(self) -> None:
        least = {"patience": 0, "run_patience": 0, "mode_patience": 0, "bootstrap_seed": 0}
        for one in fields(self):
            value = getattr(self, one.name)
            if one.type == "int":
                check_integer(one.name, value, least.get(one.name, 1))
            else:
                shares = (
                    "share",
                    "goal_share",
                    "imitation_share",
                    "imbalance_share",
                    "inner_share",
                    "full_stock",
                    "confidence",
                )
                check_number(one.name, value, 0.0, 1.0 if one.name in shares else float("inf"))

    def to_dict(self) -> dict[str, Any]:
        """All parameters as plain data."""
        return asdict(self)
