"""Instruments: from recorded trajectories to flips, indices, regret and their statistics."""

from homeostasis_gym.collapse.flip import Flip, FlipDetector
from homeostasis_gym.collapse.rules import Rules, register_rules, rules_for
from homeostasis_gym.collapse.scoring import EpisodeScore, StepMarks, score, step_marks
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.collapse.summary import AgentSummary, summarize

__all__ = [
    "AgentSummary",
    "EpisodeScore",
    "Flip",
    "FlipDetector",
    "Rules",
    "ScoreSettings",
    "StepMarks",
    "register_rules",
    "rules_for",
    "score",
    "step_marks",
    "summarize",
]
