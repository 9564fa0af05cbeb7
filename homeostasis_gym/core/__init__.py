"""The dynamics: arrays in, arrays out, without Gymnasium and PettingZoo.

Every benchmark is a frozen dataclass of parameters (`Benchmark`) with one compiled kernel; the scalar
environment, the vector environment, the handwritten policies and the metrics all run on it.
"""

from homeostasis_gym.core.benchmark import (
    Benchmark,
    Episodes,
    Policy,
    benchmark_from_dict,
    benchmark_to_dict,
    simulate,
)
from homeostasis_gym.core.mohon import MOHoN

__all__ = ["Benchmark", "Episodes", "MOHoN", "Policy", "benchmark_from_dict", "benchmark_to_dict", "simulate"]
