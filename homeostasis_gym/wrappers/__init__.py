"""Wrappers for scalar environments; those for vector environments are in `homeostasis_gym.wrappers.vector`.

Each keeps the vector reward of the step in ``info["vector_reward"]``.
"""

from homeostasis_gym.wrappers._scalar import (
    ContinuousActions,
    DiscreteActions,
    NormalizedObservation,
    Scalarized,
    TextObservation,
)

__all__ = [
    "ContinuousActions",
    "DiscreteActions",
    "NormalizedObservation",
    "Scalarized",
    "TextObservation",
]
