"""The dynamics of the value graph: every formula once, in loops over blocks of runs.

All state arrays stand structure-of-arrays, the run last: values ``v[agent, value, run]``. The inner
loops therefore run over neighbouring memory and are vectorised by the compiler, and one run is
simply a block of length one: a single environment, a recorded simulation and an ensemble of
thousands call the same functions and agree to the last bit.

No function here checks its arguments; `homeostasis_gym.core.value_graph.simulation` does.
"""

from __future__ import annotations

import math
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core._jit import formula, kernel
from homeostasis_gym.core.benchmark import FORBIDDEN, OUT_OF_RANGE, mark_out_of_range

__all__ = [
    "BLOCK",
    "DECAYS",
    "RULES",
    "STRATEGIES",
    "UTILITIES",
    "Graph",
    "assist_kernel",
    "choose_kernel",
    "interact_kernel",
    "outcome_kernel",
    "record_kernel",
    "utility_kernel",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

#: Runs that are advanced together: their state stays in the first-level cache.
BLOCK: Final = 256

UTILITIES: Final = {
    "linear": 0,
    "sigmoid": 1,
    "concave": 2,
    "prospect": 3,
    "linear_homeostasis": 4,
    "squared_homeostasis": 5,
    "bounded": 6,
}
DECAYS: Final = {"none": 0, "constant": 1, "multiplicative": 2}
STRATEGIES: Final = {
    "none": 0,
    "homeostatic": 1,
    "boosting": 2,
    "throttling": 3,
    "round_robin": 4,
    "lowest_utility": 5,
    "proportional": 6,
    "memory": 7,
    "lookahead": 8,
    "random": 9,
    "falling": 10,
    "yielding": 11,
}
RULES: Final = {"negative": 0, "decline": 1}

# The codes once more as plain names, because compiled code cannot look into a dictionary.
_LINEAR: Final = 0
_SIGMOID: Final = 1
_CONCAVE: Final = 2
_PROSPECT: Final = 3
_LINEAR_HOMEOSTASIS: Final = 4
_SQUARED_HOMEOSTASIS: Final = 5
_CONSTANT: Final = 1
_MULTIPLICATIVE: Final = 2
_NONE: Final = 0
_HOMEOSTATIC: Final = 1
_BOOSTING: Final = 2
_THROTTLING: Final = 3
_ROUND_ROBIN: Final = 4
_LOWEST_UTILITY: Final = 5
_PROPORTIONAL: Final = 6
_MEMORY: Final = 7
_LOOKAHEAD: Final = 8
_RANDOM: Final = 9
_FALLING: Final = 10
_YIELDING: Final = 11
_NEGATIVE: Final = 0

# exp of more than this overflows a double.
_EXP_LIMIT: Final = 700.0

# log(m) for m in [sqrt(1/2), sqrt(2)): with s = f / (2 + f), f = m - 1, it is f - f^2/2 + s (f^2/2 + R(s^2)).
# R is the minimax polynomial that Sun published with its freely distributable mathematical library.
_LOG_OFFSET: Final = 0x3FE6A09E667F3BCD
_LN2_HIGH: Final = 6.93147180369123816490e-01
_LN2_LOW: Final = 1.90821492927058770002e-10
_L1: Final = 6.666666666666735130e-01
_L2: Final = 3.999999999940941908e-01
_L3: Final = 2.857142874366239149e-01
_L4: Final = 2.222219843214978396e-01
_L5: Final = 1.818357216161805012e-01
_L6: Final = 1.531383769920937332e-01
_L7: Final = 1.479819860511658591e-01


class Graph(NamedTuple):
    """The parameters as compiled code reads them.

    Attributes:
        rate: Interaction rate.
        utility: Code of the utility function.
        row_start: Per row of couplings, that is per value acted on in one matrix, where its
            couplings begin; the end of the last stands behind. ``(rows + 1,)``.
        row_value: The value that a row acts on. ``(rows,)``.
        row_between: 1 where a row acts on the other agents, 0 inside the agent. ``(rows,)``.
        row_clip: 1 where only the positive part of the utility acts. ``(rows,)``.
        source: Per coupling: the value that acts. ``(couplings,)``.
        weight: Per coupling: its strength. ``(couplings,)``.
        low: Lower edge of the target band. ``(values,)``.
        high: Upper edge of the target band. ``(values,)``.
        max_step: Greatest correction.
        decay: Code of the kind of decay.
        decay_rate: Its strength.
        incentive: What an outside incentive adds per step. ``(agents, values)``.
        incentive_start: First step (counted from 0) of the incentive.
        incentive_stop: Step after the last of the incentive.
        strategy: Code of each agent's strategy. ``(agents,)``.
        retention: How much of its memory a remembering strategy keeps per step.
    """

    rate: float
    utility: int
    row_start: Ints
    row_value: Ints
    row_between: Ints
    row_clip: Ints
    source: Ints
    weight: Floats
    low: Floats
    high: Floats
    max_step: float
    decay: int
    decay_rate: float
    incentive: Floats
    incentive_start: int
    incentive_stop: int
    strategy: Ints
    retention: float


@formula
def _log(y: Floats, bits: Ints, out: Floats) -> None:
    """Natural logarithm of every element of `y` (normal, positive; overwritten) into `out`.

    `bits` views the memory of `y` as integers. Written out in plain arithmetic, because a call of
    the C library per element would keep the loop from being vectorised.
    """
    for i in range(y.size):
        k = (bits[i] - _LOG_OFFSET) >> 52
        bits[i] = bits[i] - (k << 52)
        out[i] = float(k)
    for i in range(y.size):
        k_float = out[i]
        f = y[i] - 1.0
        half = 0.5 * f * f
        # Not the operator: Numba gives that one Python's check for a zero, and the loop a branch.
        s = np.divide(f, 2.0 + f)
        z = s * s
        tail = z * (_L1 + z * (_L2 + z * (_L3 + z * (_L4 + z * (_L5 + z * (_L6 + z * _L7))))))
        out[i] = k_float * _LN2_HIGH - ((half - (s * (half + tail) + k_float * _LN2_LOW)) - f)


@formula
def _deviation(x: float, low: float, high: float) -> float:
    """Signed distance from the target band: 0 inside, negative below."""
    return max(x - high, 0.0) + min(x - low, 0.0)


@formula
def _signed(size: float, x: float) -> float:
    """`size` with the sign of `x`, and 0 at 0."""
    if x > 0.0:
        return size
    return -size if x < 0.0 else 0.0


@formula
def _utilities(
    g: Graph, old: Floats, new: Floats, u: Floats, scratch: Floats, bits: Ints, logs: Floats
) -> None:
    """Overwrite the utilities `u` with those of the levels `new` (which stood at `old` before)."""
    n_agents, n_values, n_runs = new.shape
    v = new.reshape(-1)
    before = old.reshape(-1)
    out = u.reshape(-1)
    n = v.size
    if g.utility == _LINEAR:
        for i in range(n):
            out[i] = v[i]
    elif g.utility == _SIGMOID:
        for i in range(n):
            scratch[i] = 1.0 + abs(v[i])
        _log(scratch, bits, logs)
        for i in range(n):
            out[i] = logs[i] if v[i] >= 0.0 else -logs[i]
    elif g.utility == _CONCAVE:
        for i in range(n):
            scratch[i] = 1.0 + max(v[i], 0.0)
        _log(scratch, bits, logs)
        for i in range(n):
            out[i] = logs[i]
            if v[i] < 0.0:
                out[i] = 1.0 - math.exp(min(-v[i], _EXP_LIMIT))
    elif g.utility == _PROSPECT:
        for i in range(n):
            scratch[i] = 1.0 + abs(v[i] - before[i])
        _log(scratch, bits, logs)
        for i in range(n):
            gain = logs[i] if v[i] >= before[i] else -2.0 * logs[i]
            out[i] = 0.5 * out[i] + gain
    elif g.utility == _LINEAR_HOMEOSTASIS or g.utility == _SQUARED_HOMEOSTASIS:
        for a in range(n_agents):
            for j in range(n_values):
                for b in range(n_runs):
                    off = _deviation(new[a, j, b], g.low[j], g.high[j])
                    if g.utility == _LINEAR_HOMEOSTASIS:
                        u[a, j, b] = -0.1 * abs(off)
                    else:
                        u[a, j, b] = -0.01 * off * off
    else:
        for i in range(n):
            out[i] = np.divide(v[i], 1.0 + abs(v[i]))


@formula
def _interact(
    g: Graph,
    t: int,
    noise: Floats,
    v: Floats,
    u: Floats,
    old: Floats,
    clipped: Floats,
    change: Floats,
    scratch: Floats,
    bits: Ints,
    logs: Floats,
) -> None:
    """One interaction phase: levels `v` and utilities `u` are overwritten, `old` keeps the levels.

    `noise` has shape ``(agents, values, runs)``, or no runs at all where there is none.
    """
    n_agents, n_values, n_runs = v.shape
    for a in range(n_agents):
        for j in range(n_values):
            for b in range(n_runs):
                clipped[a, j, b] = max(u[a, j, b], 0.0)
                old[a, j, b] = v[a, j, b]
    # One row after the other is added to the levels, as the reference adds one matrix after the
    # other: the dynamics amplify rounding, and any other order ends elsewhere after 1000 steps.
    for a in range(n_agents):
        for row in range(g.row_value.size):
            between = g.row_between[row] == 1
            for b in range(n_runs):
                change[b] = 0.0
            for c in range(n_agents):
                if between == (c == a):
                    continue
                for e in range(g.row_start[row], g.row_start[row + 1]):
                    acting = clipped[c, g.source[e]] if g.row_clip[row] else u[c, g.source[e]]
                    weight = g.weight[e]
                    for b in range(n_runs):
                        change[b] += weight * acting[b]
            level = v[a, g.row_value[row]]
            for b in range(n_runs):
                level[b] += g.rate * change[b]
    for a in range(n_agents):
        for j in range(n_values):
            if g.decay == _CONSTANT:
                for b in range(n_runs):
                    x = old[a, j, b]
                    v[a, j, b] -= _signed(min(g.decay_rate, abs(x)), x)
            elif g.decay == _MULTIPLICATIVE:
                for b in range(n_runs):
                    v[a, j, b] -= g.decay_rate * old[a, j, b]
            if g.incentive[a, j] != 0.0 and g.incentive_start <= t < g.incentive_stop:
                for b in range(n_runs):
                    v[a, j, b] += g.incentive[a, j]
            if noise.shape[2] > 0:
                for b in range(n_runs):
                    v[a, j, b] += noise[a, j, b]
    _utilities(g, old, v, u, scratch, bits, logs)


@formula
def _draw(n: int, words: NDArray[np.uint8], cursor: Ints, b: int) -> int:
    """A number below `n` from the run's stream of random bytes, by masked rejection.

    This is what NumPy's legacy generator does with the low bits of its 32-bit words.
    """
    mask = 1
    while mask < n - 1:
        mask = 2 * mask + 1
    length = words.shape[1]
    if length == 0:
        return 0
    while True:
        found = int(words[b, cursor[b] % length]) & mask
        cursor[b] += 1
        if found < n:
            return found


@formula
def _settle(score: Floats, least: float, nth: int) -> int:
    """Index of the `nth` score that is at least `least`."""
    found = 0
    for j in range(score.size):
        if score[j] >= least:
            if nth == 0:
                return j
            nth -= 1
            found = j
    return found


@formula
def _look_ahead(
    g: Graph,
    t: int,
    v: Floats,
    u: Floats,
    a: int,
    b: int,
    score: Floats,
    v1: Floats,
    u1: Floats,
    old: Floats,
    clipped: Floats,
    change: Floats,
    scratch: Floats,
    bits: Ints,
    logs: Floats,
) -> None:
    """Score every value by what its correction leads to: minus the squared distance from target.

    A correction reaches the utility in the next interaction and other values in the one after, so
    two interaction phases are computed, without noise and without anybody else's correction.
    """
    n_agents, n_values = v.shape[0], v.shape[1]
    quiet = np.empty((n_agents, n_values, 0))
    for k in range(n_values):
        for c in range(n_agents):
            for j in range(n_values):
                v1[c, j, 0] = v[c, j, b]
                u1[c, j, 0] = u[c, j, b]
        off = _deviation(v1[a, k, 0], g.low[k], g.high[k])
        v1[a, k, 0] -= _signed(min(g.max_step, abs(off)), off)
        for ahead in range(1, 3):
            _interact(g, t + ahead, quiet, v1, u1, old, clipped, change, scratch, bits, logs)
        total = 0.0
        for j in range(n_values):
            off = _deviation(v1[a, j, 0], g.low[j], g.high[j])
            total += off * off
        score[k] = -total


@formula
def _correct(
    g: Graph,
    t: int,
    apply: bool,
    who: NDArray[np.int8],
    picks: NDArray[np.int8],
    v: Floats,
    u: Floats,
    last: Floats,
    turns: Ints,
    memory: Floats,
    words: NDArray[np.uint8],
    cursor: Ints,
    index: NDArray[np.int8],
    tied: NDArray[np.int8],
    amounts: Floats,
    score: Floats,
    v1: Floats,
    u1: Floats,
    old1: Floats,
    clipped1: Floats,
    change1: Floats,
    scratch1: Floats,
    bits1: Ints,
    logs1: Floats,
) -> None:
    """Choose the correction of agent ``who[b]`` in every run b, and apply it if asked to.

    The value goes to `index` (-1 where nothing was chosen or several were corrected), how many
    values were equally good to `tied`, and what the correction adds to ``amounts[value, run]``.
    """
    n_agents, n_values, n_runs = v.shape
    for b in range(n_runs):
        a = int(who[b])
        index[b] = -1
        tied[b] = 0
        for j in range(n_values):
            amounts[j, b] = 0.0
        if a < 0:
            continue
        turn = turns[a, b]
        if apply:
            turns[a, b] = turn + 1
        strategy = g.strategy[a]
        k = int(picks[b]) if picks.size else -1
        if k < 0:
            if strategy == _NONE:
                continue
            if strategy == _PROPORTIONAL:
                total = 0.0
                for j in range(n_values):
                    total += abs(_deviation(v[a, j, b], g.low[j], g.high[j]))
                if total > 0.0:
                    # Never overshoots: once all deviations sum to less than a step, all are undone.
                    factor = min(g.max_step / total, 1.0)
                    for j in range(n_values):
                        amounts[j, b] = -factor * _deviation(v[a, j, b], g.low[j], g.high[j])
                        if apply:
                            v[a, j, b] += amounts[j, b]
                continue
            if strategy == _ROUND_ROBIN:
                k = turn % n_values
                tied[b] = 1
            elif strategy == _RANDOM:
                k = _draw(n_values, words, cursor, b)
                tied[b] = n_values
        if k < 0:
            if strategy == _LOOKAHEAD:
                _look_ahead(g, t, v, u, a, b, score, v1, u1, old1, clipped1, change1, scratch1, bits1, logs1)
            best = -np.inf
            for j in range(n_values):
                x = v[a, j, b]
                off = _deviation(x, g.low[j], g.high[j])
                good = abs(off)
                if strategy == _BOOSTING:
                    good = -off
                elif strategy == _THROTTLING:
                    good = off
                elif strategy == _LOWEST_UTILITY:
                    good = -u[a, j, b]
                elif strategy == _MEMORY:
                    good = abs(memory[a, j, b])
                elif strategy == _LOOKAHEAD:
                    good = score[j]
                elif strategy == _FALLING:
                    good = last[a, j, b] - x
                elif strategy == _YIELDING and n_agents > 1:
                    # Off target, less what the correction would add to a lead over the others.
                    others = 0.0
                    for c in range(n_agents):
                        if c != a:
                            others += v[c, j, b]
                    ahead = x - others / (n_agents - 1)
                    good -= max(_signed(1.0, -off) * ahead, 0.0)
                score[j] = good
                if good > best:
                    best = good
                    k = j
            # The tolerance of `numpy.isclose`, inside which the reference draws one of the tied.
            least = best - (1e-8 + 1e-5 * abs(best))
            if strategy == _LOOKAHEAD:
                # Sums of squares far from 0, whose differences are what matters.
                least = best - 1e-12 * abs(best)
            n_tied = 0
            for j in range(n_values):
                n_tied += 1 if score[j] >= least else 0
            if n_tied > 1:
                k = _settle(score, least, _draw(n_tied, words, cursor, b))
            tied[b] = n_tied
        off = _deviation(v[a, k, b], g.low[k], g.high[k])
        if strategy == _BOOSTING:
            off = min(off, 0.0)
        elif strategy == _THROTTLING:
            off = max(off, 0.0)
        index[b] = k
        amounts[k, b] = -_signed(min(g.max_step, abs(off)), off)
        if apply:
            v[a, k, b] += amounts[k, b]


@formula
def _off_target(g: Graph, v: Floats, memory: Floats) -> None:
    """Update the fading mean of every deviation, for the strategy that remembers."""
    n_agents, n_values, n_runs = v.shape
    for a in range(n_agents):
        for j in range(n_values):
            for b in range(n_runs):
                off = _deviation(v[a, j, b], g.low[j], g.high[j])
                memory[a, j, b] = g.retention * memory[a, j, b] + (1.0 - g.retention) * off


@formula
def _watch(
    rule: int,
    level: float,
    hold: int,
    t: int,
    v: Floats,
    peak: Floats,
    spell: NDArray[np.int32],
    onset: NDArray[np.int32],
) -> None:
    """Note the step (from 1) at which each value enters the collapse that lasts `hold` steps."""
    x = v.reshape(-1)
    top = peak.reshape(-1)
    run = spell.reshape(-1)
    first = onset.reshape(-1)
    if rule == _NEGATIVE:
        for i in range(x.size):
            run[i] = run[i] + 1 if x[i] < level else 0
    else:
        for i in range(x.size):
            top[i] = max(top[i], x[i])
            run[i] = run[i] + 1 if (top[i] > 0.0 and x[i] < (1.0 - level) * top[i]) else 0
    begun = t + 2 - hold
    for i in range(x.size):
        first[i] = begun if (first[i] == 0 and run[i] >= hold) else first[i]


@kernel
def utility_kernel(g: Graph, old: Floats, new: Floats, u: Floats) -> None:
    """Overwrite `u` with the utilities of the levels `new`, each ``(agents, values, runs)``."""
    scratch = np.empty(new.size)
    _utilities(g, old, new, u, scratch, scratch.view(np.int64), np.empty(new.size))


@kernel
def interact_kernel(g: Graph, t: int, noise: Floats, v: Floats, u: Floats) -> None:
    """One interaction phase in place; shapes as in `_interact`."""
    scratch = np.empty(v.size)
    _interact(
        g,
        t,
        noise,
        v,
        u,
        np.empty_like(v),
        np.empty_like(v),
        np.empty(v.shape[2]),
        scratch,
        scratch.view(np.int64),
        np.empty(v.size),
    )


@kernel
def choose_kernel(
    g: Graph,
    t: int,
    v: Floats,
    u: Floats,
    last: Floats,
    turns: Ints,
    memory: Floats,
    words: NDArray[np.uint8],
    cursor: Ints,
    index: NDArray[np.int8],
    amounts: Floats,
) -> None:
    """What every agent would correct: `index` ``(agents, runs)``, `amounts` ``(agents, values, runs)``.

    Nothing but `cursor` is changed.
    """
    n_agents, n_values, n_runs = v.shape
    n = n_agents * n_values
    scratch1 = np.empty(n)
    bits1 = scratch1.view(np.int64)
    logs1 = np.empty(n)
    small = np.empty((4, n_agents, n_values, 1))
    change1 = np.empty(1)
    score = np.empty(n_values)
    who = np.empty(n_runs, dtype=np.int8)
    picks = np.empty(0, dtype=np.int8)
    tied = np.empty(n_runs, dtype=np.int8)
    for a in range(n_agents):
        who[:] = a
        _correct(
            g,
            t,
            False,
            who,
            picks,
            v,
            u,
            last,
            turns,
            memory,
            words,
            cursor,
            index[a],
            tied,
            amounts[a],
            score,
            small[0],
            small[1],
            small[2],
            small[3],
            change1,
            scratch1,
            bits1,
            logs1,
        )


@kernel
def record_kernel(
    g: Graph,
    start: int,
    v: Floats,
    u: Floats,
    who: NDArray[np.int8],
    picks: NDArray[np.int8],
    noise: Floats,
    words: NDArray[np.uint8],
    turns: Ints,
    memory: Floats,
    cursor: Ints,
    values: Floats,
    utilities: Floats,
    index: NDArray[np.int8],
    amounts: Floats,
    tied: NDArray[np.int8],
) -> None:
    """Advance the runs and keep everything.

    Args:
        g: The parameters.
        start: Number of the first step, from 0.
        v: Levels ``(agents, values, runs)``; overwritten with the final ones.
        u: Utilities; likewise.
        who: Agent corrected, -1 for nobody. ``(steps, runs)``.
        picks: Value to correct, -1 for the agent's own choice. ``(steps, runs)``.
        noise: ``(steps, agents, values, runs)``, or with no runs where there is none.
        words: Random bytes that settle ties. ``(runs, bytes)``.
        turns: Corrections that each agent has had. ``(agents, runs)``; overwritten.
        memory: Fading mean of each deviation, like `v`; overwritten.
        cursor: Place in each run's random bytes. ``(runs,)``; overwritten.
        values: Levels after each step's correction. ``(steps, agents, values, runs)``.
        utilities: Utilities after each step's interaction. As `values`.
        index: Value chosen. ``(steps, runs)``.
        amounts: What was added to the corrected agent's values. ``(steps, values, runs)``.
        tied: How many values were equally good. ``(steps, runs)``.
    """
    n_agents, n_values, n_runs = v.shape
    n = n_agents * n_values
    old = np.empty_like(v)
    clipped = np.empty_like(v)
    change = np.empty(n_runs)
    scratch = np.empty(v.size)
    bits = scratch.view(np.int64)
    logs = np.empty(v.size)
    scratch1 = np.empty(n)
    bits1 = scratch1.view(np.int64)
    logs1 = np.empty(n)
    small = np.empty((4, n_agents, n_values, 1))
    change1 = np.empty(1)
    score = np.empty(n_values)
    for t in range(who.shape[0]):
        _interact(g, start + t, noise[t], v, u, old, clipped, change, scratch, bits, logs)
        _off_target(g, v, memory)
        _correct(
            g,
            start + t,
            True,
            who[t],
            picks[t],
            v,
            u,
            old,
            turns,
            memory,
            words,
            cursor,
            index[t],
            tied[t],
            amounts[t],
            score,
            small[0],
            small[1],
            small[2],
            small[3],
            change1,
            scratch1,
            bits1,
            logs1,
        )
        for a in range(n_agents):
            for j in range(n_values):
                for b in range(n_runs):
                    values[t, a, j, b] = v[a, j, b]
                    utilities[t, a, j, b] = u[a, j, b]


@kernel
def outcome_kernel(
    g: Graph,
    v: Floats,
    u: Floats,
    who: NDArray[np.int8],
    noise: Floats,
    words: NDArray[np.uint8],
    rule: int,
    level: float,
    hold: int,
    cursor: Ints,
    onset: NDArray[np.int32],
) -> None:
    """Advance the runs and keep only when each value collapsed, and the final state.

    Args:
        g: The parameters.
        v: Levels ``(agents, values, runs)``; overwritten with the final ones.
        u: Utilities; likewise.
        who: Agent corrected, -1 for nobody. ``(steps, runs)``.
        noise: ``(steps, agents, values, runs)``, or with no runs where there is none.
        words: Random bytes that settle ties. ``(runs, bytes)``.
        rule: Code of the collapse rule.
        level: Its level: the threshold, or the fraction of the peak that must be lost.
        hold: For how many steps in a row it must hold.
        cursor: Place in each run's random bytes; past their end the run needs more. ``(runs,)``;
            overwritten.
        onset: First step (from 1) of each value's collapse, 0 for never. Like `v`; zeros on entry.
    """
    n_agents, n_values, n_runs = v.shape
    n = n_agents * n_values
    old = np.empty_like(v)
    clipped = np.empty_like(v)
    change = np.empty(n_runs)
    scratch = np.empty(v.size)
    bits = scratch.view(np.int64)
    logs = np.empty(v.size)
    scratch1 = np.empty(n)
    bits1 = scratch1.view(np.int64)
    logs1 = np.empty(n)
    small = np.empty((4, n_agents, n_values, 1))
    change1 = np.empty(1)
    score = np.empty(n_values)
    turns = np.zeros((n_agents, n_runs), dtype=np.int64)
    memory = np.zeros_like(v)
    picks = np.empty(0, dtype=np.int8)
    index = np.empty(n_runs, dtype=np.int8)
    tied = np.empty(n_runs, dtype=np.int8)
    amounts = np.empty((n_values, n_runs))
    peak = v.copy()
    spell = np.zeros(v.shape, dtype=np.int32)
    remembers = False
    for a in range(n_agents):
        remembers = remembers or g.strategy[a] == _MEMORY
    for t in range(who.shape[0]):
        _interact(g, t, noise[t], v, u, old, clipped, change, scratch, bits, logs)
        if remembers:
            _off_target(g, v, memory)
        _correct(
            g,
            t,
            True,
            who[t],
            picks,
            v,
            u,
            old,
            turns,
            memory,
            words,
            cursor,
            index,
            tied,
            amounts,
            score,
            small[0],
            small[1],
            small[2],
            small[3],
            change1,
            scratch1,
            bits1,
            logs1,
        )
        _watch(rule, level, hold, t, v, peak, spell, onset)


@kernel
def assist_kernel(
    g: Graph,
    v: Floats,
    u: Floats,
    change: Floats,
    turn: Floats,
    action: NDArray[np.int64],
    units: int,
    limit: int,
    flags: NDArray[np.uint8],
) -> int:
    """One step with corrections chosen from outside: the correction first, then the interaction.

    Args:
        g: The parameters.
        v: Levels ``(agents, values, runs)``; overwritten.
        u: Utilities; likewise.
        change: Overwritten with what the interaction has added to each level. Like `v`.
        turn: Agent that may be corrected, -1 for nobody. ``(runs,)``.
        action: Units of correction towards the target for each value. ``(runs, values)``.
        units: Units that make a whole correction, and the most in sum.
        limit: Most units of one value in one action.
        flags: Gets FORBIDDEN where the sum is greater; nothing is corrected then. OUT_OF_RANGE where an
            action is outside the action space; then no run moves. ``(runs,)``.

    Returns:
        All flags, or-ed together.
    """
    n_agents, n_values, n_runs = v.shape
    if mark_out_of_range(action, limit, flags):
        return OUT_OF_RANGE
    seen = 0
    for b in range(n_runs):
        total = 0
        for j in range(n_values):
            total += action[b, j]
        if total > units:
            flags[b] = FORBIDDEN
            seen = FORBIDDEN
            continue
        a = int(turn[b])
        if a < 0:
            continue
        for j in range(n_values):
            off = _deviation(v[a, j, b], g.low[j], g.high[j])
            size = g.max_step if action[b, j] == units else g.max_step * action[b, j] / units
            v[a, j, b] -= _signed(min(size, abs(off)), off)
    scratch = np.empty(v.size)
    old = np.empty_like(v)
    _interact(
        g,
        0,
        np.empty((n_agents, n_values, 0)),
        v,
        u,
        old,
        np.empty_like(v),
        np.empty(n_runs),
        scratch,
        scratch.view(np.int64),
        np.empty(v.size),
    )
    for a in range(n_agents):
        for j in range(n_values):
            for b in range(n_runs):
                change[a, j, b] = v[a, j, b] - old[a, j, b]
    return seen
