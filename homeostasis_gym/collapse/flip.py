"""The counter that turns violations into a flip, on finished trajectories and step by step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.collapse.rules import Reading, Rules
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.collapse.subject import Subject, subject_of
from homeostasis_gym.core._jit import formula, kernel
from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.errors import HomeostasisError

__all__ = ["Flip", "FlipDetector", "find_flips", "find_runs", "running_counts", "step_weights"]


@formula
def count_step(
    count: int, gap: int, weight: int, released: bool, patience: int
) -> tuple[int, int]:  # pragma: no cover - compiled
    """Advance one objective's counter by one step.

    Args:
        count: Violations counted so far.
        gap: Steps since the last one.
        weight: What this step's violation counts, 0 where it is none.
        released: Whether this step is a release.
        patience: Steps without a violation that the counter survives.

    Returns:
        The new count and gap.
    """
    if weight > 0:
        return count + weight, 0
    if released or gap + 1 > patience:
        return 0, 0
    return count, gap + 1


@kernel
def _find_flips(
    weights: NDArray[np.int32],
    releases: NDArray[np.bool_],
    limit: int,
    patience: int,
    flagged: NDArray[np.int64],
    objective: NDArray[np.int64],
    onset: NDArray[np.int64],
) -> None:  # pragma: no cover - compiled
    lanes, steps, objectives = weights.shape
    for k in range(lanes):
        flagged[k] = 0
        objective[k] = -1
        onset[k] = 0
        for i in range(objectives):
            count, gap, first = 0, 0, 0
            for t in range(steps):
                if flagged[k] > 0 and t + 1 >= flagged[k]:
                    break  # an earlier objective was flagged no later
                before = count
                count, gap = count_step(count, gap, int(weights[k, t, i]), releases[k, t, i], patience)
                if before == 0 and count > 0:
                    first = t + 1
                if count > limit:
                    flagged[k] = t + 1
                    objective[k] = i
                    onset[k] = first
                    break


@kernel
def _find_runs(
    violations: NDArray[np.bool_],
    releases: NDArray[np.bool_],
    least: int,
    patience: int,
    hits: NDArray[np.bool_],
) -> None:  # pragma: no cover - compiled
    lanes, steps, objectives = violations.shape
    for k in range(lanes):
        for i in range(objectives):
            count, gap, first = 0, 0, 0
            for t in range(steps):
                before = count
                count, gap = count_step(count, gap, int(violations[k, t, i]), releases[k, t, i], patience)
                if before == 0 and count == 1:
                    first = t
                if violations[k, t, i] and count >= least:
                    for s in range(first, t + 1):
                        if violations[k, s, i]:
                            hits[k, s, i] = True
                    first = t


def find_flips(
    weights: NDArray[np.int32], releases: NDArray[np.bool_], settings: ScoreSettings
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The first flip of every episode.

    Args:
        weights: What each step's violation counts, shape (batch, steps, objectives), int32; see
            `step_weights`.
        releases: The same shape, bool.
        settings: N and g.

    Returns:
        Step at which the flip is flagged (from 1; 0 for none), its objective (-1 for none) and its
        onset, the first violation counted (from 1; 0 for none); each of shape (batch,), int64.
    """
    batch = len(weights)
    flagged, objective, onset = (np.empty(batch, dtype=np.int64) for _ in range(3))
    _find_flips(weights, releases, settings.flip_count, settings.patience, flagged, objective, onset)
    return flagged, objective, onset


def step_weights(
    rules: Rules, reading: Reading, violations: NDArray[np.bool_], settings: ScoreSettings
) -> NDArray[np.int32]:
    """What each violation counts: 1, or enough for a flip where the rules call it fatal."""
    fatal = settings.flip_count + 1
    return np.where(violations & rules.fatal(reading), fatal, violations).astype(np.int32)


def find_runs(
    violations: NDArray[np.bool_], releases: NDArray[np.bool_], least: int, patience: int
) -> NDArray[np.bool_]:
    """The violations that stand in a run of at least `least`, shape (batch, steps, objectives)."""
    hits = np.zeros_like(violations)
    _find_runs(violations, releases, least, patience, hits)
    return hits


@kernel
def _running_counts(
    weights: NDArray[np.int32], releases: NDArray[np.bool_], patience: int, counts: NDArray[np.int64]
) -> None:  # pragma: no cover - compiled
    lanes, steps, objectives = weights.shape
    for k in range(lanes):
        for i in range(objectives):
            count, gap = 0, 0
            for t in range(steps):
                count, gap = count_step(count, gap, int(weights[k, t, i]), releases[k, t, i], patience)
                counts[k, t, i] = count


def running_counts(
    weights: NDArray[np.int32], releases: NDArray[np.bool_], patience: int
) -> NDArray[np.int64]:
    """The counters after every step, shape (batch, steps, objectives), int64."""
    counts = np.zeros(weights.shape, dtype=np.int64)
    _running_counts(weights, releases, patience, counts)
    return counts


@dataclass(frozen=True)
class Flip:
    """A flip, as it is known when it is flagged.

    Attributes:
        onset: Step of the first violation counted, from 1.
        flagged: Step at which the counter passed its limit, from 1.
        objective: Index of the objective.
    """

    onset: int
    flagged: int
    objective: int


@dataclass
class FlipDetector:
    """The flip detector, step by step, for use while an episode runs.

    Fed with every step in order, it knows after each one what `score` would say of the episode so far.

    Args:
        benchmark: The dynamics, or anything that rules can read (`homeostasis_gym.collapse.Subject`).
        settings: N, g and the share.

    Attributes:
        flip: The first flip, None until there is one.
        unscored: Why the episode cannot be judged, empty where it can.

    Raises:
        HomeostasisError: There are no rules for this benchmark.
    """

    benchmark: Benchmark | Subject
    settings: ScoreSettings = field(default_factory=ScoreSettings)
    flip: Flip | None = field(default=None, init=False)
    unscored: str = field(default="", init=False)

    def __post_init__(self) -> None:
        given = self.benchmark
        self._subject: Subject = given if isinstance(given, Subject) else subject_of(given)
        rules = self._subject.rules
        if rules is None:
            raise HomeostasisError(
                f"`benchmark` must have flip rules, but {self.benchmark.name!r} has none "
                f"(register them with homeostasis_gym.collapse.register_rules)"
            )
        self._rules: Rules = rules
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        n = len(self._subject.objective_names)
        self.flip = None
        self.unscored = ""
        self._step = 0
        self._count = [0] * n
        self._gap = [0] * n
        self._first = [0] * n
        self._last = [0] * n

    def update(self, state: ArrayLike, action: ArrayLike, *, wasted: bool = False) -> Flip | None:
        """Take in one step.

        Args:
            state: The state before the action, shape (state_dim,).
            action: The action, shape (objectives,).
            wasted: Whether the action had no effect (forbidden, or no valid decision).

        Returns:
            The first flip of the episode so far, None without one. After a state or an action that is not
            finite there is none, and `unscored` says why, as `score` would.

        Raises:
            HomeostasisError: The state or the action does not have the shape of the benchmark.
        """
        states = self._checked("state", state)
        actions = np.asarray(action)
        n = len(self._count)
        if actions.shape != (n,):
            raise HomeostasisError(f"`action` must have shape ({n},), got {actions.shape}")
        if not np.isfinite(states).all() or not np.isfinite(actions.astype(np.float64)).all():
            self._give_up()
        if self.unscored:
            return None
        reading = self._subject.read(states, actions, np.asarray(wasted))
        violation, release = self._rules.judge(reading, self.settings)
        weight = step_weights(self._rules, reading, violation, self.settings)
        self._step += 1
        for i in range(len(self._count)):
            before = self._count[i]
            self._count[i], self._gap[i] = count_step(
                before, self._gap[i], int(weight[i]), bool(release[i]), self.settings.patience
            )
            if violation[i]:
                self._last[i] = self._step
                if before == 0:
                    self._first[i] = self._step
            if self.flip is None and self._count[i] > self.settings.flip_count:
                self.flip = Flip(self._first[i], self._step, i)
        return self.flip

    def _checked(self, name: str, state: ArrayLike) -> NDArray[np.float64]:
        states = np.asarray(state, dtype=np.float64)
        benchmark = self._subject.benchmark
        dim = len(self._count) if benchmark is None else len(benchmark.initial_state)
        if states.shape != (dim,):
            raise HomeostasisError(f"`{name}` must have shape ({dim},), got {states.shape}")
        return states

    def _give_up(self) -> None:
        self.unscored = "states or actions that are not finite"
        self.flip = None

    def recovered(self, state: ArrayLike) -> bool | None:
        """Whether the flip has been recovered from by now, None without a flip.

        Args:
            state: The state after the last step, shape (state_dim,).
        """
        states = self._checked("state", state)
        if not np.isfinite(states).all():
            self._give_up()
        if self.flip is None:
            return None
        i = self.flip.objective
        calm = self._last[i] <= self._step - self.settings.recovery_window
        levels = self._subject.levels(states)
        return calm and bool(self._rules.settled(levels, *self._subject.edges_of(states))[i])
