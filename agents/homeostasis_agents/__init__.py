"""Agents for homeostasis-gym: handwritten rules, Stable-Baselines3, language models."""
