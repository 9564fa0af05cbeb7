"""Conformance checks that other people's environments can be put through as well."""

from homeostasis_gym.testing._mo_env import check_mo_env

__all__ = ["check_mo_env"]
