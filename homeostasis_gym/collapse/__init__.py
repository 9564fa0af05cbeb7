"""Instruments: from recorded trajectories to flips, indices, regret and their statistics."""

from homeostasis_gym.collapse.agreement import (
    Agreement,
    Rating,
    cohens_kappa,
    krippendorffs_alpha,
    measure_agreement,
)
from homeostasis_gym.collapse.flip import Flip, FlipDetector
from homeostasis_gym.collapse.modes import MODES, Mode
from homeostasis_gym.collapse.rules import Rules
from homeostasis_gym.collapse.scoring import EpisodeScore, StepMarks, score, step_marks
from homeostasis_gym.collapse.settings import ScoreSettings
from homeostasis_gym.collapse.statistics import (
    Comparison,
    OnsetCurve,
    compare,
    compare_all,
    distinct,
    onset_curve,
    trials_needed,
    wilson_interval,
)
from homeostasis_gym.collapse.subject import Subject, register_rules, rules_for, subject_from_dict
from homeostasis_gym.collapse.summary import AgentSummary, summarize
from homeostasis_gym.collapse.trainings import mean_over_trainings, rate_over_trainings

__all__ = [
    "MODES",
    "AgentSummary",
    "Agreement",
    "Comparison",
    "EpisodeScore",
    "Flip",
    "FlipDetector",
    "Mode",
    "OnsetCurve",
    "Rating",
    "Rules",
    "ScoreSettings",
    "StepMarks",
    "Subject",
    "cohens_kappa",
    "compare",
    "compare_all",
    "distinct",
    "krippendorffs_alpha",
    "mean_over_trainings",
    "measure_agreement",
    "onset_curve",
    "rate_over_trainings",
    "register_rules",
    "rules_for",
    "score",
    "step_marks",
    "subject_from_dict",
    "summarize",
    "trials_needed",
    "wilson_interval",
]
