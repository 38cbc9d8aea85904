"""A weight decay after a change of the recipe: what each published rule makes of it.

    transfer(0.1, lr=3e-4, batch=(256, 1024))

A transfer rule says by which factor the *fraction* per step changes, and some say the lr as well;
the number follows from the convention it is stated in. The rules disagree, so all that apply are
returned side by side, each with its source and where it was tested.
"""

from .answers import Answer, transfer
from .rules import POWER_LINES, RULES, Change, TransferRule

__all__ = ["POWER_LINES", "RULES", "Answer", "Change", "TransferRule", "transfer"]
