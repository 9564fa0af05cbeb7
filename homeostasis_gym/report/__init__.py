"""Figures and the self-contained page of a run."""

from homeostasis_gym.report.page import write_report

__all__ = ["write_report"]
