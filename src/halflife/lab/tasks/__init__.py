"""The built-in tasks: small models on small data, trained one by one or many at once.

`task` and `models` say what is trained, `training` with what budget; `single` runs one model with
one of halflife's optimizers, as a user would write it, and `ensemble` many at once. The first is
what the second is tested and timed against. `sweeping` makes a training of the lab of them.
"""

from .sweeping import TaskTraining, metrics_of
from .task import Data, Digits, Task, as_task, find_task, generator, task_names
from .training import STACKED, Member, Training

__all__ = [
    "STACKED",
    "Data",
    "Digits",
    "Member",
    "Task",
    "TaskTraining",
    "Training",
    "as_task",
    "find_task",
    "generator",
    "metrics_of",
    "task_names",
]
