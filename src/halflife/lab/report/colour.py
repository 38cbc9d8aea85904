r"""Colours that everyone can read: a ramp for error, and one hue per rule.

The ramp runs through OKLCh with lightness rising linearly from dark blue to light yellow, so that
equal differences look equal and the order survives any colour blindness and a grey printer. The
rules' hues have a contrast above 3 on white and on the dark background; a rule is never told by
its hue alone, but by a dash pattern, a marker and a label too.
"""

from __future__ import annotations

import math

__all__ = ["contrast", "ramp", "rule_colour"]

_DARK, _LIGHT = (0.27, 0.10, 285.0), (0.95, 0.13, 105.0)  # lightness, chroma, hue in degrees
_RULES = ("#2f7ed8", "#c8641b", "#2e8f63", "#a35bd0", "#d1495b", "#1f8ea3", "#9a7b1c", "#7a7fd6")
_BASELINE = "#808489"


def ramp(position: float) -> str:
    """Colour at a position from 0 (dark) to 1 (light), as ``#rrggbb``.

    Example:
        >>> ramp(0.0) < ramp(1.0)
        True
    """
    t = min(max(position, 0.0), 1.0)
    lightness, chroma, hue = ((1.0 - t) * a + t * b for a, b in zip(_DARK, _LIGHT, strict=True))
    chroma += 0.03 * math.sin(math.pi * t)
    rgb = _oklch_to_linear(lightness, chroma, hue)
    while chroma > 0.0 and not all(-1e-4 <= c <= 1.0 + 1e-4 for c in rgb):
        chroma -= 0.005  # outside sRGB: keep lightness and hue
        rgb = _oklch_to_linear(lightness, chroma, hue)
    return "#" + "".join(f"{round(255 * _encode(c)):02x}" for c in rgb)


def rule_colour(index: int | None) -> str:
    """Colour of the rule with this number; grey for the runs without decay (None)."""
    return _BASELINE if index is None else _RULES[index % len(_RULES)]


def contrast(first: str, second: str) -> float:
    """Contrast ratio of two colours as WCAG defines it, from 1 to 21.

    Example:
        >>> round(contrast("#000000", "#ffffff"))
        21
    """
    light, dark = sorted((_luminance(first), _luminance(second)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: str) -> float:
    r, g, b = (_decode(int(colour[i : i + 2], 16) / 255) for i in (1, 3, 5))
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def _oklch_to_linear(lightness: float, chroma: float, hue: float) -> tuple[float, float, float]:
    """OKLCh to linear sRGB, by the matrices of Ottosson 2020."""
    a, b = chroma * math.cos(math.radians(hue)), chroma * math.sin(math.radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    return (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )


def _encode(linear: float) -> float:
    c = min(max(linear, 0.0), 1.0)
    return 12.92 * c if c <= 0.0031308 else float(1.055 * c ** (1 / 2.4) - 0.055)


def _decode(encoded: float) -> float:
    return encoded / 12.92 if encoded <= 0.04045 else float(((encoded + 0.055) / 1.055) ** 2.4)
