"""Pictures of an episode: levels over time against their bands, as text or as an image."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium.error import DependencyNotInstalled
from numpy.typing import NDArray

from homeostasis_gym.core.benchmark import Benchmark
from homeostasis_gym.errors import HomeostasisError

__all__ = ["check_mode", "render"]

# Colour-blind-safe (Okabe and Ito, 2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def check_mode(render_mode: str | None, metadata: dict[str, Any]) -> None:
    """Refuse a render mode that does not exist.

    Raises:
        HomeostasisError: Unknown render mode.
    """
    if render_mode is not None and render_mode not in metadata["render_modes"]:
        modes = ", ".join(metadata["render_modes"])
        raise HomeostasisError(f"`render_mode` must be None or one of {modes}, got {render_mode!r}")


def render(
    mode: str | None, benchmark: Benchmark, history: list[NDArray[np.float64]], spec: Any
) -> str | NDArray[np.uint8] | None:
    """Draw the states of an episode so far.

    Args:
        mode: The render mode.
        benchmark: Says what the states mean.
        history: One state (state_dim,) per step, the start first.
        spec: The environment's spec, for the title.

    Returns:
        Text, an image (height, width, 3) uint8, or None when there is nothing to draw.
    """
    if mode is None or not history:
        return None
    states = np.asarray(history)
    if mode == "ansi":
        return _text(benchmark, states)
    return _image(benchmark, states, spec.id if spec is not None else benchmark.name)


def _text(benchmark: Benchmark, states: NDArray[np.float64]) -> str:
    names, levels, bands = benchmark.rendered(states)
    step = len(levels) - 1
    lines = [f"step {step}/{benchmark.episode_length}"]
    for i, name in enumerate(names):
        level = float(levels[-1, i])
        line = f"  {name}: {level:8.2f}"
        if bands is not None:
            low, high = float(bands[0][-1, i]), float(bands[1][-1, i])
            line += f"  {_gauge(level, low, high)}  band {low:g} to {high:g}"
            line += "  below" if level < low else "  above" if level > high else ""
        lines.append(line)
    return "\n".join(lines) + "\n"


def _gauge(level: float, low: float, high: float, width: int = 31) -> str:
    """A line three bands wide with the band marked and the level on it."""
    cells = ["."] * width
    third = width // 3
    cells[third], cells[-third - 1] = "[", "]"
    position = third + (level - low) / (high - low) * (width - 2 * third - 1)
    cells[int(np.clip(round(position), 0, width - 1))] = "#"
    return "".join(cells)


def _image(benchmark: Benchmark, states: NDArray[np.float64], title: str) -> NDArray[np.uint8]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise DependencyNotInstalled(
            "rendering needs Matplotlib; install it with: pip install 'homeostasis-gym[report]'"
        ) from error
    names, levels, bands = benchmark.rendered(states)
    figure = Figure(figsize=(6.4, 1.2 + 1.8 * len(names)), dpi=80, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    steps = np.arange(len(levels))
    for i, (name, axis) in enumerate(zip(names, axes, strict=True)):
        colour = COLOURS[i % len(COLOURS)]
        if bands is not None:
            if len(steps) > 1:
                axis.fill_between(steps, bands[0][:, i], bands[1][:, i], color=colour, alpha=0.15)
            axis.axhline(bands[0][-1, i], color=colour, linewidth=0.5)
            axis.axhline(bands[1][-1, i], color=colour, linewidth=0.5)
        axis.plot(steps, levels[:, i], color=colour, marker="." if len(steps) < 40 else "")
        axis.set_ylabel(f"level {name}")
        axis.set_xlim(0, benchmark.episode_length)
    axes[0].set_title(title)
    axes[-1].set_xlabel("step")
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return pixels[:, :, :3].copy()
