"""Experiments: what to run is data, running is resumable, results land in a run folder."""

from homeostasis_gym.experiments.folder import RunFolder
from homeostasis_gym.experiments.runner import run_experiment
from homeostasis_gym.experiments.spec import AgentSpec, Experiment, default_agents

__all__ = ["AgentSpec", "Experiment", "RunFolder", "default_agents", "run_experiment"]
