"""One weight decay in every convention: papers, libraries, and units a person can reason about.

    convert(0.1, "decoupled", "independent", lr=3e-4)       # torch's AdamW -> that of its paper
    convert(0.1, "decoupled", "half_life", lr=3e-4)         # -> steps
    convert(5e-4, "l2", "decoupled", lr=0.1, momentum=0.9)  # SGD's L2 term -> SGDW

The common currency is the fraction of each weight that a step removes.
"""

from .conventions import CONVENTIONS
from .conversion import Conversion, conversions, convert
from .kinds import Convention
from .names import NAMES, REFUSED, Name, convention_named
from .recipe import Schedule, Setting, base_named, multipliers_of, optimizer_named

__all__ = [
    "CONVENTIONS",
    "NAMES",
    "REFUSED",
    "Convention",
    "Conversion",
    "Name",
    "Schedule",
    "Setting",
    "base_named",
    "convention_named",
    "conversions",
    "convert",
    "multipliers_of",
    "optimizer_named",
]
