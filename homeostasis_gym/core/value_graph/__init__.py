"""The value graph of ALICE and BOB: values that act on each other within and between agents.

Arrays in, arrays out. `simulate` keeps everything of a run or a batch; `outcomes` runs ensembles and
keeps only when what collapsed; `step` and `interact` are single steps from a given state.
"""

from homeostasis_gym.core.value_graph.benchmark import ValueGraph, ValueGraphSeat
from homeostasis_gym.core.value_graph.kernels import DECAYS as _DECAYS
from homeostasis_gym.core.value_graph.kernels import STRATEGIES as _STRATEGIES
from homeostasis_gym.core.value_graph.kernels import UTILITIES as _UTILITIES
from homeostasis_gym.core.value_graph.params import (
    PRESETS,
    SCHEDULE_OF_PRESET,
    SCHWARTZ_VALUES,
    ValueGraphParams,
    article,
    circumplex,
    preset,
    reference,
    with_parameter,
)
from homeostasis_gym.core.value_graph.simulation import (
    CollapseRule,
    Outcomes,
    ScheduleSource,
    Simulation,
    initial_state,
    interact,
    noise_path,
    outcomes,
    simulate,
    step,
    tie_bytes,
)

#: Names of the rebalancing strategies, of the utility functions and of the kinds of decay.
STRATEGIES = tuple(_STRATEGIES)
UTILITIES = tuple(_UTILITIES)
DECAYS = tuple(_DECAYS)

__all__ = [
    "DECAYS",
    "PRESETS",
    "SCHEDULE_OF_PRESET",
    "SCHWARTZ_VALUES",
    "STRATEGIES",
    "UTILITIES",
    "CollapseRule",
    "Outcomes",
    "ScheduleSource",
    "Simulation",
    "ValueGraph",
    "ValueGraphParams",
    "ValueGraphSeat",
    "article",
    "circumplex",
    "initial_state",
    "interact",
    "noise_path",
    "outcomes",
    "preset",
    "reference",
    "simulate",
    "step",
    "tie_bytes",
    "with_parameter",
]
