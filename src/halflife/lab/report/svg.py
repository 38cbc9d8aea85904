"""A few lines to write SVG by: elements, polylines, markers, and text that is safe and fits."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from html import escape

__all__ = [
    "STYLE",
    "brief",
    "clean",
    "fitted",
    "label",
    "marker",
    "path",
    "standalone",
    "svg_figure",
    "tag",
    "text",
    "width_of",
]

# The figures' classes; var(--...) are the page's colours for light and dark mode.
STYLE = """
.figure text { font: 11px system-ui, "Segoe UI", Roboto, sans-serif; fill: var(--ink); }
.figure .title { font-weight: 600; font-size: 12px; }
.figure .soft { fill: var(--soft); }
.figure .grid { stroke: var(--line); stroke-width: 1; fill: none; }
.figure .frame { stroke: var(--soft); stroke-width: 1; fill: none; }
.figure .hatch { stroke: var(--soft); stroke-width: 1; fill: none; }
.figure .fault { stroke: var(--fault); stroke-width: 1.6; fill: none; }
.figure .empty { fill: var(--page); }
.figure .faulty { fill: var(--faulty); }
.figure .dot { fill: var(--soft); }
.figure .casing { stroke: #111; fill: none; stroke-linejoin: round; }
.figure .bright { stroke: #fff; fill: none; stroke-linejoin: round; }
.figure .halo { fill: #fff; stroke: #111; stroke-width: 3px; stroke-linejoin: round; }
.figure .halo { paint-order: stroke; }
.figure .over { pointer-events: none; }
.figure text { unicode-bidi: isolate; }
"""
_LIGHT = {
    "--ink": "#1b1d21",
    "--soft": "#5a6069",
    "--line": "#d9dce1",
    "--page": "#ffffff",
    "--fault": "#b3261e",
    "--faulty": "#f7d9d6",
}

_MARKERS = (  # corners in units of the size; the first marker is a circle
    ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    ((0, -1.35), (1.2, 0.9), (-1.2, 0.9)),
    ((0, -1.4), (1.4, 0), (0, 1.4), (-1.4, 0)),
    ((0, 1.35), (1.2, -0.9), (-1.2, -0.9)),
)

# What XML 1.0 forbids, other control characters, halves of pairs that no encoding has, and the
# characters that make text run the other way.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff"
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]"
)
_UNKNOWN = "\N{REPLACEMENT CHARACTER}"
_NARROW, _WIDE = "iljtfrI.,:;'|!()[]{} \"`", "mwMW@%\u2014\u2026"
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def clean(content: str) -> str:
    """Text with a sign in place of each character that a page or a picture must not hold.

    Example:
        >>> clean("a" + chr(0) + "b") == "a" + chr(0xFFFD) + "b"
        True
    """
    return _UNSAFE.sub(_UNKNOWN, content)


def width_of(content: str, size: float = 11.0) -> float:
    """About how wide a text is in a sans-serif font of this size, rather too wide than too narrow.

    Example:
        >>> width_of("mm") > width_of("xx") > width_of("ii")
        True
    """
    return size * sum(map(_em, content))


def _em(character: str) -> float:
    if unicodedata.combining(character):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.1
    if character in _NARROW:
        return 0.42
    return 1.0 if character in _WIDE else 0.76 if character.isupper() else 0.66


def fitted(content: str, width: float, size: float = 11.0) -> str:
    """The text, or as much of its beginning as the width has room for, and an ellipsis.

    Example:
        >>> fitted("short", 100.0), len(fitted("long " * 40, 100.0)) < 30
        ('short', True)
    """
    content = clean(content)
    if width_of(content, size) <= width:
        return content
    room, kept = width - width_of(_ELLIPSIS, size), []
    for character in content:
        room -= size * _em(character)
        if room < 0.0:
            break
        kept.append(character)
    return "".join(kept).rstrip() + _ELLIPSIS


def brief(content: str, most: int = 60) -> str:
    """The beginning of a long name, for sentences; all of it stands in the tables.

    Example:
        >>> brief("decoupled"), len(brief("w" * 200))
        ('decoupled', 60)
    """
    return content if len(content) <= most else content[: most - 1] + _ELLIPSIS


def tag(name: str, *children: str, **attributes: object) -> str:
    """An element; ``_`` in attribute names becomes ``-``, a trailing one is dropped.

    Example:
        >>> tag("rect", x=1.0, class_="cell", stroke_width=2)
        '<rect x="1" class="cell" stroke-width="2"/>'
    """
    parts = [name]
    for key, value in attributes.items():
        shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
        parts.append(f'{key.rstrip("_").replace("_", "-")}="{escape(clean(shown))}"')
    opening = " ".join(parts)
    return f"<{opening}>{''.join(children)}</{name}>" if children else f"<{opening}/>"


def text(x: float, y: float, content: str, **attributes: object) -> str:
    """Text at a point; the content is escaped."""
    return tag("text", escape(clean(content)), x=float(x), y=float(y), **attributes)


def label(x: float, y: float, content: str, width: float, **attributes: object) -> str:
    """Text at a point, cut to a width; the whole of it is its tooltip."""
    size = 12.0 if attributes.get("class_") == "title" else 11.0
    shown = fitted(content, width, size)
    if shown == clean(content):
        return text(x, y, content, **attributes)
    whole = tag("title", escape(clean(content)))
    return tag("text", escape(shown), whole, x=float(x), y=float(y), **attributes)


def path(points: Iterable[tuple[float, float]], **attributes: object) -> str:
    """A polyline through the points."""
    return tag("path", d="M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points), **attributes)


def marker(index: int, x: float, y: float, size: float, **attributes: object) -> str:
    """The marker with this number, at a point: circle, square, triangle, diamond, ..."""
    kind = index % (1 + len(_MARKERS))
    if kind == 0:
        return tag("circle", cx=float(x), cy=float(y), r=1.1 * size, **attributes)
    corners = ((x + size * dx, y + size * dy) for dx, dy in _MARKERS[kind - 1])
    return tag("polygon", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in corners), **attributes)


def svg_figure(
    width: float,
    height: float,
    about: str,
    *children: str,
    name: str,
    most: int = 560,
    kind: str = "",
) -> str:
    """A whole SVG, with a description for those who do not see it.

    Args:
        width: of the view box, in its own units.
        height: of the view box.
        about: what the figure shows, for screen readers.
        *children: its elements.
        name: unique in the page; the title's id.
        most: widest it is drawn, in CSS pixels.
        kind: a further class.
    """
    return tag(
        "svg",
        tag("title", escape(clean(about)), id=f"{name}-title"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        class_=f"figure {kind}".rstrip(),
        viewBox=f"0 0 {width:g} {height:g}",
        style=f"max-width:{most}px",
        role="img",
        aria_labelledby=f"{name}-title",
    )


def standalone(width: float, height: float, about: str, *children: str) -> str:
    """An SVG file with a background and colours of its own, readable on light and dark pages."""
    style = STYLE
    for variable, value in _LIGHT.items():
        style = style.replace(f"var({variable})", value)
    background = tag("rect", width=width, height=height, rx=8, fill=_LIGHT["--page"])
    body = svg_figure(
        width, height, about, background, *children, name="landscape", most=int(width)
    )
    opening, rest = body.split(">", 1)
    opening = f'{opening} width="{width:g}" height="{height:g}"'
    return f"{opening}>{tag('style', style)}{rest}\n"
