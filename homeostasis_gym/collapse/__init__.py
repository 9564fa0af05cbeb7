"""Instruments: from recorded trajectories to flips, indices, regret and their statistics."""

from homeostasis_gym.collapse.flip import Flip, FlipDetector
from homeostasis_gym.collapse.modes import MODES, Mode
from homeostasis_gym.collapse.rules import Rules
from homeostasis_gym.collapse.scoring import EpisodeScore, StepMarks, score, step_marks
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.collapse.subject import Subject, register_rules, rules_for, subject_from_dict
from homeostasis_gym.collapse.summary import AgentSummary, summarize

__all__ = [
    "MODES",
    "AgentSummary",
    "EpisodeScore",
    "Flip",
    "FlipDetector",
    "Mode",
    "Rules",
    "ScoreSettings",
    "StepMarks",
    "Subject",
    "register_rules",
    "rules_for",
    "score",
    "step_marks",
    "subject_from_dict",
    "summarize",
]
