"""What stands before the layers of a policy."""

from __future__ import annotations

import gymnasium as gym
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor

__all__ = ["Grid"]


class Grid(BaseFeaturesExtractor):
    """Every number x is shown as sign(x) log(1 + abs(x)) and as its place on a grid between two points of it.

    What pays depends on single units of a level, which a network of few layers learns slowly from one number
    per level, and quickly from this. The logarithm keeps a level that is far out, which the grid no longer
    tells from others, from drowning the rest: what is right for one objective hardly depends on the others.

    Args:
        observation_space: Box of one dimension.
        low: First point of the grid; smaller numbers stand there.
        high: Last point of the grid; larger numbers stand there.
        points: Number of points.
    """

    def __init__(
        self, observation_space: gym.Space[object], low: float = -1.5, high: float = 1.5, points: int = 31
    ) -> None:
        assert isinstance(observation_space, Box) and len(observation_space.shape) == 1
        super().__init__(observation_space, observation_space.shape[0] * (points + 1))
        self.points: torch.Tensor
        self.register_buffer("points", torch.linspace(low, high, points))
        self._low, self._high, self._width = low, high, (high - low) / (points - 1)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        """(batch, n) -> (batch, n * (points + 1))."""
        inside = observations.clamp(self._low, self._high).unsqueeze(-1)
        weight = torch.relu(1.0 - (inside - self.points).abs() / self._width)
        size = observations.sign() * torch.log1p(observations.abs())
        return torch.cat([size, weight.flatten(1)], dim=1)
