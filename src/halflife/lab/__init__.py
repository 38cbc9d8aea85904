"""The lab: a training in, an honest answer about weight decay out.

    from halflife import lab

    def train(trial):
        model = make_model().to(trial.device)
        optimizer = trial.optimizer(model)
        ...
        return {"val": ..., "test": ...}

    result = lab.sweep(train, out="runs/mine", lr=lab.log(1e-4, 1e-1, 9),
                       weight_decay=lab.log(1e-3, 1, 9), choose="val", report="test")
    print(result.sentence)

`trial` is what a training is given and `job` how it is called; `adapters` make trainings of other
frameworks' models. `plan` and `axes` lay out what is
trained, `samplers` decide what is next, `executors` train, `driver` brings these together, and
`ledger` keeps it all. `statistics` and `report` read nothing but the ledger. `tasks` are small
trainings that are here.
"""

from .adapters import estimator, lightning, transformers
from .executors import ExecutorError, InProcess, Local, Ray, Stacked
from .ledger import LedgerError
from .metric import Metric
from .result import Result
from .sweeping.axes import log
from .sweeping.driver import SweepError
from .sweeping.samplers import Grid, Halving, Optuna, TwoStage
from .sweeping.sweeps import Interrupted, sweep
from .trials.cell import Cell, Outcome
from .trials.trial import Trial

__all__ = [
    "Cell",
    "ExecutorError",
    "Grid",
    "Halving",
    "InProcess",
    "Interrupted",
    "LedgerError",
    "Local",
    "Metric",
    "Optuna",
    "Outcome",
    "Ray",
    "Result",
    "Stacked",
    "SweepError",
    "Trial",
    "TwoStage",
    "estimator",
    "lightning",
    "log",
    "sweep",
    "transformers",
]
