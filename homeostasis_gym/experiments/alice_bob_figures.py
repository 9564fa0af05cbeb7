"""Figures of value graphs for papers and dark pages: one drawing, a light and a dark variant.

Colours are those of Okabe and Ito, which people with any colour vision can tell apart; maps use
``cividis``, which is even in lightness for everyone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.core.value_graph import ValueGraphParams
from homeostasis_gym.errors import MissingExtraError
from homeostasis_gym.experiments.alice_bob import PhaseMap, Survival

__all__ = [
    "LABELS",
    "Theme",
    "draw_phase_map",
    "draw_survival",
    "figure",
    "save_both",
    "value_colours",
]

#: What an axis of a phase map says, for the parameters that can vary.
LABELS: Final[Mapping[str, str]] = {
    "rate": "interaction rate (per step)",
    "max_step": "largest correction (level per step)",
    "target": "target (level)",
    "band": "half width of the target band (level)",
    "initial": "initial level",
    "decay_rate": "decay (per step)",
    "noise": "noise (standard deviation of a level, per step)",
    "retention": "memory kept (per step)",
    "schedule.share": "ALICE's share of the turns in the loaded part",
    "schedule.length": "length of the loaded part (steps)",
    "schedule.missed": "missed corrections",
    "schedule.repaid_at": "repaid from (step)",
    "collapse.level": "level of the collapse rule",
    "collapse.hold": "steps that a collapse must last",
}

Theme = dict[str, Any]

_LIGHT: Final[Theme] = {"paper": "#ffffff", "ink": "#1a1a1a", "faint": "#d5d5d5", "soft": "#6b6b6b"}
_DARK: Final[Theme] = {"paper": "#14171c", "ink": "#e8e8e8", "faint": "#3a3f47", "soft": "#a0a6ae"}
# Okabe and Ito, Color Universal Design, 2008. The black one is replaced by the ink of the theme.
_OKABE_ITO: Final = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442")
# The blue and the vermilion lifted, to have the same contrast on a dark page.
_OKABE_ITO_DARK: Final = ("#FF8A3D", "#4DB3FF", "#2BD9A6", "#E59BC4", "#F5B731", "#8FD0F5", "#F0E442")


def value_colours(count: int, dark: bool) -> tuple[str, ...]:
    """One colour per value, repeated where there are more values than colours."""
    palette = _OKABE_ITO_DARK if dark else _OKABE_ITO
    return tuple(palette[i % len(palette)] for i in range(count))


@contextmanager
def figure(dark: bool, **subplots: Any) -> Iterator[tuple[Any, Any, Theme]]:
    """Open a figure in a theme; figure, axes and the theme's colours are handed out.

    Args:
        dark: Whether it is for a dark page.
        **subplots: As for ``matplotlib.pyplot.subplots``.

    Raises:
        MissingExtraError: Matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "pip install 'homeostasis-gym[report]'") from error
    theme = _DARK if dark else _LIGHT
    style: Any = {
        "figure.facecolor": theme["paper"],
        "savefig.facecolor": theme["paper"],
        "axes.facecolor": theme["paper"],
        "axes.edgecolor": theme["soft"],
        "axes.labelcolor": theme["ink"],
        "axes.titlecolor": theme["ink"],
        "text.color": theme["ink"],
        "xtick.color": theme["soft"],
        "ytick.color": theme["soft"],
        "xtick.labelcolor": theme["ink"],
        "ytick.labelcolor": theme["ink"],
        "grid.color": theme["faint"],
        "legend.frameon": False,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9.0,
        "axes.titlesize": 10.0,
        "axes.titlelocation": "left",
        "axes.labelsize": 9.0,
        "lines.linewidth": 1.4,
    }
    size = subplots.pop("figsize", (6.4, 4.0))
    with mpl.rc_context(style):
        canvas = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(canvas)
        yield canvas, canvas.subplots(**subplots), theme


def save_both(
    draw: Callable[[bool], Any], stem: Path, formats: tuple[str, ...] = ("svg",), dpi: int = 160
) -> list[Path]:
    """Draw and save the light and the dark variant.

    Args:
        draw: Function of ``dark`` that returns a Matplotlib figure.
        stem: Path without an ending; the files are ``STEM-light.svg`` and so on.
        formats: Endings.
        dpi: Resolution of pixel formats.

    Returns:
        The files.
    """
    try:
        import matplotlib as mpl
    except ImportError as error:
        raise MissingExtraError("matplotlib", "pip install 'homeostasis-gym[report]'") from error
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for dark in (False, True):
        drawn = draw(dark)
        for ending in formats:
            path = stem.with_name(f"{stem.name}-{'dark' if dark else 'light'}.{ending}")
            metadata: dict[str, Any] = {"Date": None} if ending == "svg" else {}
            # The salt makes the same file of the same data.
            with mpl.rc_context({"svg.hashsalt": "homeostasis-gym"}):
                drawn.savefig(path, dpi=dpi, metadata=metadata, facecolor=drawn.get_facecolor())
            files.append(path)
    return files


def label_of(name: str, params: ValueGraphParams) -> str:
    """What an axis says for a parameter that varies."""
    parts = name.split(":")
    if len(parts) == 3:
        kind = "between agents" if parts[0].startswith("between") else "inside an agent"
        joint = "with" if parts[1] != parts[2] else "on"
        return f"coupling {kind}, {parts[1]} {joint} {parts[2]}"
    if name == "schedule.share":
        return f"{params.agents[0]}'s share of the turns in the loaded part"
    return LABELS.get(name, name)


def draw_phase_map(result: PhaseMap, dark: bool, what: str = "one_sided") -> Any:
    """Heat map of a phase map, with the lines of 10, 50 and 90 percent.

    Args:
        result: The map.
        dark: Whether it is for a dark page.
        what: ``one_sided``, ``all_agents`` or ``none``.

    Returns:
        The Matplotlib figure.
    """
    titles = {
        "one_sided": "one-sided collapse",
        "all_agents": "collapse of all agents",
        "none": "no collapse",
    }
    own = result.ensemble
    share: NDArray[np.float64] = getattr(result, what) / own.seeds
    with figure(dark, figsize=(6.4, 4.9)) as (canvas, axes, theme):
        from matplotlib.patheffects import withStroke

        x, y = np.array(result.x.points), np.array(result.y.points)
        mesh = axes.pcolormesh(
            x, y, share, cmap="cividis", vmin=0.0, vmax=1.0, shading="nearest", rasterized=True
        )
        if min(share.shape) > 1 and np.ptp(share) > 0.0:
            lines = axes.contour(
                x, y, share, levels=(0.1, 0.5, 0.9), colors="white", linewidths=(0.8, 1.6, 0.8)
            )
            # Legible on the dark and on the bright end of the scale.
            halo = [withStroke(linewidth=3.0, foreground="#00000099")]
            lines.set_path_effects(halo)
            for text in axes.clabel(lines, fmt=lambda level: f"{level:.0%}", fontsize=8):
                text.set_path_effects(halo)
        axes.set_xlabel(label_of(result.x.name, own.params))
        axes.set_ylabel(label_of(result.y.name, own.params))
        axes.set_title(f"Share of {own.seeds} runs with {titles[what]} by step {own.steps}")
        bar = canvas.colorbar(mesh, ax=axes, label="share of runs", pad=0.02)
        bar.outline.set_visible(False)
        canvas.supxlabel(
            f"Collapse: {own.rule}. Utility {own.params.utility}, "
            f"rebalancing {', '.join(dict.fromkeys(own.params.strategies))}, schedule {own.schedule}.",
            fontsize=7.5,
            color=theme["soft"],
        )
    return canvas


def draw_survival(curves: Mapping[str, Survival], dark: bool, steps: int, runs: str = "") -> Any:
    """Kaplan-Meier curves with their 95 % bands.

    Args:
        curves: One per name.
        dark: Whether it is for a dark page.
        steps: Length of the runs.
        runs: What the runs were, in words.

    Returns:
        The Matplotlib figure.
    """
    with figure(dark, figsize=(6.4, 3.9)) as (canvas, axes, theme):
        for colour, (name, curve) in zip(value_colours(len(curves), dark), curves.items(), strict=True):
            axes.step(curve.steps, curve.surviving, where="post", color=colour, label=name)
            axes.fill_between(
                curve.steps, curve.low, curve.high, step="post", color=colour, alpha=0.2, linewidth=0
            )
        axes.set_xlim(0, steps)
        axes.set_ylim(0, 1.02)
        axes.grid(axis="y", linewidth=0.5)
        axes.set_xlabel("time (steps)")
        axes.set_ylabel("share of runs not collapsed")
        axes.legend(loc="lower left")
        rules = "; ".join(dict.fromkeys(curve.rule for curve in curves.values()))
        canvas.supxlabel(
            f"Kaplan-Meier, 95 % intervals. {runs}\nCollapse: {rules}.", fontsize=7.5, color=theme["soft"]
        )
    return canvas
