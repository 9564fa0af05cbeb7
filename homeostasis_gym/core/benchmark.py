"""What all benchmarks share: parameters in a frozen dataclass, one kernel, pure functions on batches.

Layout inside: components first, lanes (the batch) last, which lets the compiled loop run over lanes
without strides. Layout outside: any leading batch shape, components last, as users expect.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from inspect import isabstract
from typing import Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from homeostasis_gym.core._jit import formula
from homeostasis_gym.core.noise import NoiseShape, rows_from_keys
from homeostasis_gym.errors import HomeostasisError, UnknownNameError

__all__ = [
    "FORBIDDEN",
    "OUT_OF_RANGE",
    "TERMINATED",
    "Benchmark",
    "Episodes",
    "NoisyBenchmark",
    "Policy",
    "benchmark_from_dict",
    "benchmark_to_dict",
    "mark_out_of_range",
    "objective_names",
    "simulate",
]

# Bits of a step's flag.
TERMINATED = 1
"""The episode ended by the dynamics (not by its length)."""
FORBIDDEN = 2
"""The rules of the benchmark forbid the action: a wasted turn."""
OUT_OF_RANGE = 4
"""The action lies outside the action space: the environment refuses it with an error."""

Policy: TypeAlias = Callable[[NDArray[np.float64], int], NDArray[np.int64]]
"""A handwritten policy: (states (..., state_dim), step counted from 0) -> actions (..., n), int64.

A state begins with the levels, and so does an observation: where the agent sees less than the state
(see `Benchmark.observe`), a policy accepts the observation as well.
"""

NO_LIMIT = 2**31 - 1
"""Largest count of units in one action where the benchmark itself sets no limit."""


MOST_SHOCK = 1e9
"""Largest shock: levels of whole numbers stay exact over a million steps of it."""


def objective_names(count: int) -> tuple[str, ...]:
    """Names A, B, C, ... of `count` objectives; after Z they go on with O27, O28, ..."""
    return tuple(chr(ord("A") + i) if i < 26 else f"O{i + 1}" for i in range(count))


@dataclass(frozen=True, kw_only=True)
class Benchmark(ABC):
    """Parameters and dynamics of one benchmark.

    Subclasses are frozen dataclasses whose fields are plain numbers, strings or tuples, so that a
    benchmark can be hashed, compared, pickled and written to JSON.

    Args:
        episode_length: Steps until the episode is truncated.
        max_consumption: Most units of one objective in one action; None is the published benchmark
            without an upper limit (as far as 2**31 - 1).
    """

    name: ClassVar[str]
    """Short name, the same in prompts, records and the command line."""
    reference_policy: ClassVar[str]
    """Name of the strongest handwritten policy, against which regret is measured."""
    shadow_policy: ClassVar[str]
    """Name of the handwritten policy whose shadow run cancels the noise in the Runaway Index."""
    fully_observed: ClassVar[bool] = True
    """Whether the observation is the state; otherwise environments put the state into their infos."""

    episode_length: int = 100
    max_consumption: int | None = 10

    def __post_init__(self) -> None:
        check_integer("episode_length", self.episode_length, 1)
        if self.max_consumption is not None:
            check_integer("max_consumption", self.max_consumption, 1, NO_LIMIT)

    # What a subclass says of itself.

    @property
    @abstractmethod
    def objective_names(self) -> tuple[str, ...]:
        """Names of the objectives, one per component of the action."""

    @property
    @abstractmethod
    def reward_names(self) -> tuple[str, ...]:
        """Names of the reward's components, in their order."""

    @property
    @abstractmethod
    def reward_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper bound of every component of the reward."""

    @property
    @abstractmethod
    def observation_names(self) -> tuple[str, ...]:
        """Names of the observation's components, in their order."""

    @property
    @abstractmethod
    def observation_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper bound of every component of the observation."""

    @property
    def noise_low(self) -> tuple[int, ...]:
        """Smallest ordinary noise of each channel, inclusive; empty without noise."""
        return ()

    @property
    def noise_high(self) -> tuple[int, ...]:
        """Largest ordinary noise of each channel, inclusive; empty without noise."""
        return ()

    @property
    @abstractmethod
    def initial_state(self) -> tuple[float, ...]:
        """The state before the first step."""

    @property
    @abstractmethod
    def policies(self) -> Mapping[str, Policy]:
        """The handwritten policies, by name."""

    @abstractmethod
    def advance(
        self,
        state: NDArray[np.float64],
        action: NDArray[np.int64],
        noise: NDArray[np.float64],
        rewards: NDArray[np.float64],
        flags: NDArray[np.uint8],
    ) -> int:
        """One step of every lane, in place; everything else is built on this.

        Args:
            state: Shape (state_dim, lanes), float64; overwritten by the next state.
            action: Shape (lanes, objectives), int64.
            noise: What each lane meets in this step, shape (channels, lanes), float64.
            rewards: Shape (reward_dim, lanes), float64; written.
            flags: Shape (lanes,), uint8; written, a sum of TERMINATED, FORBIDDEN and OUT_OF_RANGE.

        Returns:
            All lanes' flags, or-ed together. With OUT_OF_RANGE among them no lane has moved, so that
            a refused batch of actions loses nothing.
        """

    def observe(self, state: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the agent sees of a state: (state_dim, ...) -> a fresh (observation_dim, ...)."""
        return state.copy()

    def levels(self, states: NDArray[np.float64]) -> NDArray[np.float64]:
        """The level of each objective in a batch of states: (..., state_dim) -> (..., objectives)."""
        return states

    def rendered(
        self, states: NDArray[np.float64]
    ) -> tuple[
        tuple[str, ...],
        NDArray[np.float64],
        tuple[NDArray[np.float64], NDArray[np.float64]] | None,
    ]:
        """What a picture of an episode shows, line by line: by default every objective's level and band.

        Args:
            states: Shape (steps, state_dim).

        Returns:
            Names of the lines, their levels (steps, lines), and the edges of their bands (both like the
            levels) or None.
        """
        levels = self.levels(states)
        return self.objective_names[: levels.shape[-1]], levels, self.bands(states)

    def bands(self, states: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
        """Lower and upper edge of each objective's band, None where there are no bands.

        Args:
            states: Shape (..., state_dim); a band may depend on the state.

        Returns:
            Two arrays of shape (..., objectives).
        """
        return None

    @property
    def normalized_bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Lower and upper bound of every component of a normalised observation."""
        inf = float("inf")
        return (-inf,) * self.observation_dim, (inf,) * self.observation_dim

    def normalize(self, observation: ArrayLike) -> NDArray[np.float64]:
        """An observation in units in which good play stays near 0 or within 0..1, for learners.

        Args:
            observation: Shape (..., observation_dim).

        Returns:
            Fresh array of shape (..., len(normalized_bounds[0])), float64.
        """
        return np.array(observation, dtype=np.float64)

    def why_forbidden(self, observation: NDArray[np.float64], action: NDArray[np.int64]) -> str:
        """Say which rule forbids an action of the action space, empty where it is allowed.

        Args:
            observation: What the agent saw, shape (observation_dim,).
            action: What it wants to do, shape (objectives,).
        """
        return ""

    # What follows from it.

    @property
    def objectives(self) -> int:
        """Number of objectives."""
        return len(self.objective_names)

    @property
    def reward_dim(self) -> int:
        """Number of components of the reward."""
        return len(self.reward_names)

    @property
    def observation_dim(self) -> int:
        """Number of components of the observation."""
        return len(self.observation_names)

    @property
    def noise_channels(self) -> int:
        """Number of noise channels."""
        return len(self.noise_low)

    @cached_property
    def action_limit(self) -> int:
        """Most units of one objective in one action."""
        return NO_LIMIT if self.max_consumption is None else self.max_consumption

    @cached_property
    def noise_shape(self) -> NoiseShape:
        """What the noise looks like."""
        return NoiseShape(self.noise_low, self.noise_high)

    def noise_paths(self, keys: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Spread one key per episode over its noise path.

        Args:
            keys: Shape (batch,), uint64.

        Returns:
            Shape (episode_length, channels, batch), float64.
        """
        clock = np.zeros(len(keys), dtype=np.int64)
        return rows_from_keys(keys, clock, self.episode_length, self.noise_shape)

    def policy(self, name: str) -> Policy:
        """A handwritten policy by name.

        Raises:
            UnknownNameError: This benchmark has no policy of that name.
        """
        if name not in self.policies:
            raise UnknownNameError(
                f"`policy` must be one of {', '.join(self.policies)} for {self.name}, got {name!r}"
            )
        return self.policies[name]

    def step(
        self, state: ArrayLike, action: ArrayLike, noise: ArrayLike = ()
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]:
        """One step as a pure function on arrays of any leading batch shape.

        Args:
            state: Shape (..., state_dim).
            action: Shape (..., objectives), whole numbers.
            noise: Shape (..., channels), or empty for a benchmark without noise.

        Returns:
            Next state (..., state_dim) and reward (..., reward_dim), float64, and flags (...), uint8.

        Raises:
            HomeostasisError: An action is out of range, or the noise does not fit.
        """
        states = np.asarray(state, dtype=np.float64)
        batch = states.shape[:-1]
        lanes = int(np.prod(batch, dtype=np.int64))
        columns = np.ascontiguousarray(states.reshape(lanes, -1).T)
        if np.shares_memory(columns, states):
            columns = columns.copy()
        actions = np.ascontiguousarray(
            np.broadcast_to(as_units(action), (*batch, self.objectives)).reshape(lanes, -1)
        )
        channels = self.noise_channels
        row = np.empty((channels, lanes))
        if channels:
            if np.shape(noise)[-1:] != (channels,):
                raise HomeostasisError(f"`noise` must have shape (..., {channels}), got {np.shape(noise)}")
            row[:] = (
                np.broadcast_to(np.asarray(noise, dtype=np.float64), (*batch, channels))
                .reshape(lanes, channels)
                .T
            )
        rewards = np.empty((self.reward_dim, lanes))
        flags = np.empty(lanes, dtype=np.uint8)
        if self.advance(columns, actions, row, rewards, flags) & OUT_OF_RANGE:
            raise out_of_range(actions, flags, self.action_limit)
        return (
            columns.T.reshape(*batch, -1),
            rewards.T.reshape(*batch, -1),
            flags.reshape(batch),
        )


def benchmark_to_dict(benchmark: Benchmark) -> dict[str, Any]:
    """A benchmark as plain data: its name and its parameters."""
    return {"name": benchmark.name, **asdict(benchmark)}


def benchmark_from_dict(data: Mapping[str, Any]) -> Benchmark:
    """The benchmark that `benchmark_to_dict` described, lists taken for tuples (as after JSON).

    Raises:
        UnknownNameError: No benchmark of that name.
        HomeostasisError: The parameters do not fit it.
    """
    classes = {c.name: c for c in _subclasses(Benchmark)}  # type: ignore[type-abstract]
    parameters = {k: _tuples(v) for k, v in data.items() if k != "name"}
    if data.get("name") not in classes:
        raise UnknownNameError(
            f"`benchmark` must be one of {', '.join(sorted(classes))}, got {data.get('name')!r}"
        )
    try:
        return classes[data["name"]](**parameters)
    except TypeError as error:
        raise HomeostasisError(f"`benchmark` {data['name']!r}: {error}") from error


def _subclasses(parent: type[Benchmark]) -> Iterator[type[Benchmark]]:
    for child in parent.__subclasses__():
        if not isabstract(child):
            yield child
        yield from _subclasses(child)


def _tuples(value: Any) -> Any:
    return tuple(_tuples(v) for v in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, kw_only=True)
class NoisyBenchmark(Benchmark):
    """A benchmark with noise, and with force-majeure shocks where they are asked for.

    Args:
        shock_probability: Chance of a shock per step and objective, 0 to 1; 0 is the published benchmark.
        shock_size: Size of a shock in levels, at most 1e9; its sign is a fair coin. It adds to the ordinary
            noise, which is the same with and without shocks.
        episode_length: See `Benchmark`.
        max_consumption: See `Benchmark`.
    """

    shock_probability: float = 0.0
    shock_size: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("shock_probability", self.shock_probability, 0.0, 1.0)
        check_number("shock_size", self.shock_size, 0.0, MOST_SHOCK)

    @cached_property
    def noise_shape(self) -> NoiseShape:  # noqa: D102 (inherited)
        return NoiseShape(
            self.noise_low,
            self.noise_high,
            self.shock_probability,
            self.shock_size,
            self.objectives,
        )


@dataclass(frozen=True)
class Episodes:
    """A batch of simulated episodes.

    Attributes:
        states: (batch, steps + 1, state_dim), float64; the first row is the start.
        observations: (batch, steps + 1, observation_dim), float64.
        actions: (batch, steps, objectives), int64.
        rewards: (batch, steps, reward_dim), float64; zeros after an episode's end.
        flags: (batch, steps), uint8, see `Benchmark.advance`.
        lengths: (batch,), int64, steps until the episode ended.
    """

    states: NDArray[np.float64]
    observations: NDArray[np.float64]
    actions: NDArray[np.int64]
    rewards: NDArray[np.float64]
    flags: NDArray[np.uint8]
    lengths: NDArray[np.int64]

    @property
    def scores(self) -> NDArray[np.float64]:
        """Sum of all rewards of each episode, shape (batch,)."""
        total: NDArray[np.float64] = self.rewards.sum(axis=(1, 2))
        return total


def simulate(
    benchmark: Benchmark, policy: Policy, noise: NDArray[np.float64], steps: int | None = None
) -> Episodes:
    """Run a policy on given noise paths, all episodes at once.

    Args:
        benchmark: The dynamics.
        policy: Handwritten policy.
        noise: Noise paths, shape (batch, steps or more, channels); without noise (batch, steps, 0).
        steps: Steps to run, by default as many as the paths hold.

    Returns:
        The episodes. One that terminates early stays in its last state.

    Raises:
        HomeostasisError: The noise has the wrong shape, or the policy leaves the action space.
    """
    paths = np.asarray(noise, dtype=np.float64)
    if paths.ndim != 3 or paths.shape[2] != benchmark.noise_channels:
        raise HomeostasisError(
            f"`noise` must have shape (batch, steps, {benchmark.noise_channels}), got {paths.shape}"
        )
    batch, available = paths.shape[:2]
    length = available if steps is None else steps
    if length > available:
        raise HomeostasisError(f"`noise` must cover {length} steps, got {available}")
    columns = np.ascontiguousarray(paths[:, :length].transpose(1, 2, 0))
    state = np.repeat(np.asarray(benchmark.initial_state)[:, np.newaxis], batch, axis=1)
    flags = np.zeros(batch, dtype=np.uint8)
    reward = np.zeros((benchmark.reward_dim, batch))
    alive = np.ones(batch, dtype=bool)
    lengths = np.full(batch, length, dtype=np.int64)
    states = np.empty((length + 1, *state.shape))
    observations = np.empty((length + 1, benchmark.observation_dim, batch))
    actions = np.zeros((length, batch, benchmark.objectives), dtype=np.int64)
    rewards = np.zeros((length, benchmark.reward_dim, batch))
    all_flags = np.zeros((length, batch), dtype=np.uint8)
    states[0] = state
    observations[0] = benchmark.observe(state)
    for t in range(length):
        # A copy: the policy may return what it was given, and the action is edited below.
        action = np.array(policy(states[t].T, t), dtype=np.int64, order="C")
        before = states[t]
        if benchmark.advance(state, action, columns[t], reward, flags) & OUT_OF_RANGE:
            raise out_of_range(action, flags, benchmark.action_limit)
        if not alive.all():
            state[:, ~alive] = before[:, ~alive]
            reward[:, ~alive] = 0.0
            flags[~alive] = 0
            action[~alive] = 0
        ended = alive & ((flags & TERMINATED) != 0)
        lengths[ended] = t + 1
        alive &= ~ended
        states[t + 1] = state
        observations[t + 1] = benchmark.observe(state)
        actions[t] = action
        rewards[t] = reward
        all_flags[t] = flags
    return Episodes(
        states=states.transpose(2, 0, 1),
        observations=observations.transpose(2, 0, 1),
        actions=actions.transpose(1, 0, 2),
        rewards=rewards.transpose(2, 0, 1),
        flags=all_flags.T,
        lengths=lengths,
    )


@formula
def mark_out_of_range(
    action: NDArray[np.int64], limit: int, flags: NDArray[np.uint8]
) -> bool:  # pragma: no cover - compiled
    """Set every lane's flag to OUT_OF_RANGE or 0, and say whether any lane is out of range."""
    lanes, objectives = action.shape
    flat = action.reshape(lanes * objectives)
    out = 0
    for j in range(lanes * objectives):
        out |= (flat[j] < 0) | (flat[j] > limit)
    flags[:] = 0
    if out == 0:
        return False
    for k in range(lanes):
        for i in range(objectives):
            if action[k, i] < 0 or action[k, i] > limit:
                flags[k] = OUT_OF_RANGE
    return True


def as_units(action: ArrayLike) -> NDArray[np.int64]:
    """Take an action as counts of units.

    Raises:
        HomeostasisError: The action does not consist of whole numbers.
    """
    units = as_array(action)
    if units.dtype != np.int64:
        if not np.issubdtype(units.dtype, np.integer):
            raise HomeostasisError(
                f"`action` must be whole numbers of an integer type, got {units.dtype}: {action!r}"
            )
        if units.dtype == np.uint64 and units.size and units.max() > np.uint64(NO_LIMIT):
            raise HomeostasisError(f"`action` must be at most {NO_LIMIT}, got {units.max()}")
        units = units.astype(np.int64)
    return units


def as_array(action: ArrayLike) -> NDArray[Any]:
    """Take an action as an array of whatever it holds.

    Raises:
        HomeostasisError: Its rows have different lengths.
    """
    try:
        return np.asarray(action)
    except ValueError as error:
        raise HomeostasisError(f"`action` must be an array of numbers, got {action!r} ({error})") from error


def out_of_range(actions: NDArray[np.int64], flags: NDArray[np.uint8], limit: int) -> HomeostasisError:
    """The error for actions outside the action space; names the first of them."""
    lane = int(np.flatnonzero(flags & OUT_OF_RANGE)[0])
    where = f" (environment {lane})" if len(flags) > 1 else ""
    return HomeostasisError(
        f"`action` must be counts of units in [0, {limit}], got {actions[lane].tolist()}{where}"
    )


def check_integer(name: str, value: object, low: int, high: int | None = None) -> None:
    """Raise HomeostasisError unless `value` is an integer in [low, high]."""
    ok = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not ok or value < low or (high is not None and value > high):  # type: ignore[operator]
        upper = "" if high is None else f" and at most {high}"
        raise HomeostasisError(f"`{name}` must be an integer of at least {low}{upper}, got {value!r}")


def check_number(name: str, value: object, low: float, high: float = float("inf")) -> None:
    """Raise HomeostasisError unless `value` is a finite number in [low, high]."""
    ok = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not ok or not (low <= float(value) <= high and np.isfinite(float(value))):  # type: ignore[arg-type]
        bounds = f"in [{low}, {high}]" if high < float("inf") else f"finite and at least {low}"
        raise HomeostasisError(f"`{name}` must be a number {bounds}, got {value!r}")
