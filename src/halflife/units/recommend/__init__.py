"""A starting weight decay for a new training, in units a person can reason about.

    print(recommend(model, lr=1e-3, batch=128, data=50_000, epochs=100))

Nothing here knows the task. It states what published rules give for the budget, what that means
(half-life, averaging timescale, predicted weight RMS, total decay over the run), how far the rules
are apart, and whether a decay of that size does anything in so short a run.
"""

from .options import Option
from .recommendation import Recommendation, recommend

__all__ = ["Option", "Recommendation", "recommend"]
