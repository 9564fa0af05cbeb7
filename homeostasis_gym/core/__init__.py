"""The dynamics: arrays in, arrays out, without Gymnasium and PettingZoo.

Every benchmark is a frozen dataclass of parameters (`Benchmark`) with one compiled kernel; the scalar
environment, the vector environment, the handwritten policies and the metrics all run on it.
"""

from homeostasis_gym.core.benchmark import (
    Benchmark,
    Episodes,
    NoisyBenchmark,
    Policy,
    benchmark_from_dict,
    benchmark_to_dict,
    simulate,
)
from homeostasis_gym.core.mobuo import MOBUO
from homeostasis_gym.core.mobuon import MOBUON
from homeostasis_gym.core.mohon import MOHoN
from homeostasis_gym.core.single import Single
from homeostasis_gym.core.sleepwake import SleepWake
from homeostasis_gym.core.sustainability import Sustainability
from homeostasis_gym.core.value_graph.benchmark import ValueGraph, ValueGraphSeat

__all__ = [
    "MOBUO",
    "MOBUON",
    "Benchmark",
    "Episodes",
    "MOHoN",
    "NoisyBenchmark",
    "Policy",
    "Single",
    "SleepWake",
    "Sustainability",
    "ValueGraph",
    "ValueGraphSeat",
    "benchmark_from_dict",
    "benchmark_to_dict",
    "simulate",
]
