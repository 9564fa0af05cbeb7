"""Gymnasium environments; make them with `gymnasium.make` after ``import homeostasis_gym``."""
