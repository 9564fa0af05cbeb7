"""The value graph of ALICE and BOB as Gymnasium environments."""

from __future__ import annotations

from homeostasis_gym.core.value_graph.benchmark import ValueGraph
from homeostasis_gym.envs.base import HomeostasisEnv
from homeostasis_gym.envs.vector import HomeostasisVectorEnv

__all__ = ["ValueGraphEnv", "ValueGraphVectorEnv"]


class ValueGraphEnv(HomeostasisEnv):
    """A helper corrects ALICE or BOB, whoever may be helped (value graph).

    ## Description
    ALICE and BOB each hold several values that reinforce and oppose one another, inside each of them and
    between the two. At each step one of them may be helped: the helper moves that one's values towards
    their target, by little. Left alone both collapse, and under the usual rules of correction one of them
    does: it loses what the other wins.

    ## Objectives
    One per value: Power, Self-direction and Benevolence.

    ## Observation Space
    `Box((3 * agents * values + 2,), float64)`: the levels of all agents' values (agent by agent), their
    utilities, what the last interaction has added to each level, the number of the agent that may be helped
    now (0 is ALICE, 1 is BOB, -1 nobody), and how many steps have passed.

    ## Action Space
    Units of correction for every value of the agent that may be helped: `MultiDiscrete([max_consumption + 1]
    * values)`. With `max_consumption=None` it is `Box(0, 2**31 - 1, (values,), int64)`. `actions` offers a
    flattened `Discrete` and a continuous `Box` instead. `max_consumption` units (10 where it is None) make
    `max_step` and are the most in sum; more are forbidden: nothing is corrected then, and the turn is wasted.
    A correction moves a level towards the target and stops there.

    ## Reward Space
    | component | value | range |
    |---|---|---|
    | `utility_AGENT_VALUE` | utility of the value after the interaction | that of the utility function |

    ## Starting State
    All levels 1 (0 with the homeostatic utilities), and nobody may be helped in the first step.

    ## Dynamics and Noise
    The correction comes first, then all values act on each other at once; see
    `homeostasis_gym.core.value_graph`. The one noise channel is who may be helped next, each agent equally
    likely; with a fixed `schedule` there is no noise, and any order of turns
    can be replayed with `schedule="random"` and `reset(options={"noise": turns})`, an array (steps, 1).
    `noise="bioblue"` draws whom the public code of the
    value graph would correct under the same seed.

    ## Episode End
    Truncation after `episode_length` steps; there is no termination.

    ## Info
    `noise`: who may be helped next, (1,) float64. `invalid_action`: whether the choice was forbidden.
    `vector_reward`: the vector reward, where `scalarization` is in use.

    ## Arguments
    | argument | default | meaning |
    |---|---|---|
    | `preset` | "reference" | settings to start from: `reference`, `article` or `circumplex` |
    | `schedule` | None | who may be helped when: `random` or a fixed schedule; None: the preset's |
    | `utility` | None | utility function; None: the preset's |
    | `rate` | None | interaction rate; None: the preset's |
    | `max_step` | None | greatest correction per step; None: the preset's |
    | `target` | None | lower and upper edge of the target band; None: the preset's |
    | `decay` | None | `none`, `constant` or `multiplicative`; None: the preset's |
    | `settings` | () | more numbers by name: `decay_rate`, `incentive:BOB:Power`, `schedule.share` ... |
    | `episode_length` | 1000 | steps until truncation |
    | `max_consumption` | 10 | units that make a whole correction, and most of one value; None: 10, no limit |
    | `actions` | None | `multidiscrete`, `discrete` or `box`; None: the first that fits |
    | `noise` | "gymnasium" | source of the turns: `gymnasium` or `bioblue` (the published stream) |
    | `scalarization` | None | name or mapping of a scalarisation; None: vector reward |
    | `render_mode` | None | `ansi` or `rgb_array` |

    ## Version History
    * v0: Initial version (`Homeostasis-ValueGraph-v0`).

    ## References
    github.com/levitation-opensource/universal_value_interactions; Shalom H. Schwartz, "An overview of the
    Schwartz theory of basic values", Online Readings in Psychology and Culture 2, 2012.
    """

    benchmark_class = ValueGraph


class ValueGraphVectorEnv(HomeostasisVectorEnv):
    """`ValueGraphEnv`, many at once."""

    benchmark_class = ValueGraph
