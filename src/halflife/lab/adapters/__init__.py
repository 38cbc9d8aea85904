"""Trainings of other frameworks as what `halflife.lab.sweep` takes.

Each is a function of what the framework needs, and returns a training, a function of the trial. The
frameworks themselves are imported when one is asked for.
"""

from .estimators import estimator
from .modules import lightning
from .trainers import transformers

__all__ = ["estimator", "lightning", "transformers"]
