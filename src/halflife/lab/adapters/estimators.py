"""Estimators of scikit-learn, and what is like them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...checks import is_number, require
from ..trials.trial import Trial
from .asking import needed, training_name

__all__ = ["estimator"]


def estimator(
    make: Callable[[Trial], Any],
    X: Any,  # as everywhere in scikit-learn
    y: Any,
    *,
    validation: float | tuple[Any, Any] = 0.2,
    test: float | tuple[Any, Any] | None = 0.2,
    scoring: str | Callable[[Any, Any, Any], float] | None = None,
) -> Callable[[Trial], dict[str, float]]:
    """A training that fits an estimator, and scores it on examples that it has not seen.

    Its metrics are ``"val"`` and ``"test"``. Most scores of scikit-learn are better if higher:
    ``choose=lab.Metric("val", goal="max")``. The estimator is fitted in one call, which cannot be
    stopped early, so ``sampler="halving"`` trains all of it.

    Args:
        make: the estimator for a trial, with ``fit`` and, unless there is a `scoring`, ``score``:
            it puts ``trial.lr``, ``trial.weight_decay`` and ``trial.seed`` where they belong.
        X: the examples: an array, a data frame, a tensor.
        y: what is to be predicted.
        validation: share of the examples that settings are chosen by, or other examples, (X, y).
        test: share of the examples whose metric is told, or other examples; None for none. It is
            drawn once, so that no seed has chosen by it; what is left is divided anew for each
            seed, in the same way for every setting.
        scoring: name of a scorer of scikit-learn, or a function of estimator, X and y. Default: the
            estimator's ``score``.

    Returns:
        What `halflife.lab.sweep` takes.

    Raises:
        ImportError: without scikit-learn.
        ValueError: for shares that leave nothing to train on.

    Example:
        >>> from sklearn.linear_model import SGDClassifier
        >>> train = estimator(
        ...     lambda trial: SGDClassifier(alpha=trial.weight_decay, random_state=trial.seed),
        ...     [[0.0], [1.0]] * 20, [0, 1] * 20,
        ... )
        >>> from halflife.lab import Cell, Trial
        >>> from halflife.lab.trials.bases import OptimizerKind
        >>> train(Trial(Cell("l2", 0.1, 1e-4, seed=0), base=OptimizerKind("sgd")))
        {'val': 1.0, 'test': 1.0}
    """
    needed("sklearn", "lab", "lab.estimator")
    shares: list[Any] = [s for s in (validation, test) if is_number(s)]
    ok = all(0 < s < 1 for s in shares) and sum(shares) < 1
    require(
        ok, "validation, test", "shares above 0 that leave some examples to train on",
        (validation, test), "pass 0.2 of the examples, or others as (X, y)",
    )  # fmt: skip
    return _Fitting(make, X, y, validation, test, scoring)


@dataclass(frozen=True)
class _Fitting:
    make: Callable[[Trial], Any]
    X: Any
    y: Any
    validation: Any
    test: Any
    scoring: Any

    @property
    def name(self) -> str:
        return training_name(self.make)

    def __call__(self, trial: Trial) -> dict[str, float]:
        known, held = self._split(trial.seed)
        fitted = self.make(trial)
        fitted.fit(*known)
        return {name: self._score(fitted, *data) for name, data in held.items()}

    def _split(self, seed: int) -> tuple[tuple[Any, Any], Mapping[str, tuple[Any, Any]]]:
        from sklearn.model_selection import train_test_split

        count = len(self.X) if not hasattr(self.X, "shape") else self.X.shape[0]
        X, y, held = self.X, self.y, {}
        for name, part, state in (("test", self.test, 0), ("val", self.validation, seed)):
            if is_number(part):
                size = max(round(part * count), 1)
                X, held_X, y, held_y = train_test_split(X, y, test_size=size, random_state=state)
                held[name] = (held_X, held_y)
            elif part is not None:
                held[name] = part
        return (X, y), dict(reversed(held.items()))

    def _score(self, fitted: Any, X: Any, y: Any) -> float:
        if self.scoring is None:
            return float(fitted.score(X, y))
        if isinstance(self.scoring, str):
            from sklearn.metrics import get_scorer

            return float(get_scorer(self.scoring)(fitted, X, y))
        return float(self.scoring(fitted, X, y))
