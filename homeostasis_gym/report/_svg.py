"""Small figures as inline SVG: no script needed to see them, colours come from the page's style.

Everything that becomes text or an attribute is escaped here, by `markupsafe`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from homeostasis_gym.errors import MissingExtraError

MINUS = "\N{MINUS SIGN}"

__all__ = ["MINUS", "Axis", "area", "element", "line", "marks", "svg", "text"]


def _markup() -> Any:
    try:
        import markupsafe
    except ImportError as error:
        raise MissingExtraError("jinja2", "pip install 'homeostasis-gym[report]'") from error
    return markupsafe


def element(name: str, *children: Any, **attributes: Any) -> Any:
    """One SVG element; names of attributes are Python's (``class_``, ``stroke_width``)."""
    m = _markup()
    inside = m.Markup("").join(children)
    written = m.Markup("").join(
        m.Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), _number(value))
        for key, value in attributes.items()
        if value is not None
    )
    return m.Markup("<{}{}>{}</{}>").format(m.Markup(name), written, inside, m.Markup(name))


def svg(width: float, height: float, *children: Any, label: str, class_: str = "", **extra: Any) -> Any:
    """A figure that fills its place in the page, with a name for screen readers."""
    return element(
        "svg",
        element("title", label),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        class_=f"figure {class_}".strip(),
        **extra,
    )


def text(x: float, y: float, content: str, class_: str = "", anchor: str = "start") -> Any:
    """A piece of text."""
    return element("text", content, x=x, y=y, class_=class_ or None, text_anchor=anchor)


def line(xs: Sequence[float], ys: Sequence[float], class_: str, **extra: Any) -> Any:
    """A line through points; points that are not finite break it."""
    parts = []
    pen = "M"
    for x, y in zip(xs, ys, strict=True):
        if math.isfinite(x) and math.isfinite(y):
            parts.append(f"{pen}{x:.1f} {y:.1f}")
            pen = "L"
        else:
            pen = "M"
    return element("path", d="".join(parts), class_=f"line {class_}", **extra)


def area(xs: Sequence[float], low: Sequence[float], high: Sequence[float], class_: str) -> Any:
    """The region between two curves."""
    points = [*zip(xs, high, strict=True), *zip(xs[::-1], low[::-1], strict=True)]
    return element("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points) + "Z", class_=class_)


def marks(xs: Iterable[float], top: float, bottom: float, class_: str) -> Any:
    """Short upright strokes."""
    return element("path", d="".join(f"M{x:.1f} {top:g}V{bottom:g}" for x in xs), class_=f"line {class_}")


def _number(value: Any) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class Axis:
    """Maps values to places, linearly near `centre` and logarithmically far from it.

    A runaway of a thousand and a band of ten must both be readable in one figure.

    Args:
        low: Smallest value shown.
        high: Largest value shown.
        start: Place of `low`.
        stop: Place of `high`.
        centre: Value around which the scale is finest.
        unit: Distance from there up to which it is nearly linear; inf for a plain linear scale.
    """

    low: float
    high: float
    start: float
    stop: float
    centre: float = 0.0
    unit: float = math.inf

    def _bent(self, values: Any) -> NDArray[np.float64]:
        away = np.asarray(values, dtype=np.float64) - self.centre
        return away if math.isinf(self.unit) else np.arcsinh(away / self.unit)

    def __call__(self, values: Any) -> Any:
        """Places of values, shape kept."""
        low, high = self._bent(self.low), self._bent(self.high)
        span = high - low if high > low else 1.0
        result = self.start + (self._bent(values) - low) / span * (self.stop - self.start)
        return result.item() if np.ndim(values) == 0 else result

    def ticks(self, room: float = 24.0) -> list[float]:
        """Round values to write beside the axis, at least `room` apart."""
        if math.isinf(self.unit):
            return linear_ticks(self.low, self.high, max(2, int(abs(self.stop - self.start) / room)))
        steps = [m * 10.0**e for e in range(-2, 12) for m in (1.0, 2.0, 5.0) if m * 10.0**e >= self.unit]
        candidates = [self.centre]
        for step in steps:
            candidates += [self.centre + step, self.centre - step]
        kept: list[float] = []
        for value in candidates:
            place = self(value)
            if self.low <= value <= self.high and all(abs(place - self(k)) >= room for k in kept):
                kept.append(value)
        return sorted(kept)


def linear_ticks(low: float, high: float, most: int) -> list[float]:
    """At most about `most` round values between two ends."""
    if not high > low:
        return [low]
    raw = (high - low) / max(1, most)
    size = 10.0 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 5, 10) if size * m >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [step * k for k in range(first, last + 1)]


def short(value: float) -> str:
    """A number as short as it may be beside an axis."""
    if value == 0:
        return "0"
    for limit, suffix in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= limit:
            scaled = value / (1e3 if suffix == "k" else limit)
            return f"{scaled:.3g}{suffix}".replace("-", MINUS)
    return f"{value:.4g}".replace("-", MINUS)
