"""Who trains: this process, processes of this machine, stacks of models, a Ray cluster."""

from .base import Done, Executor, ExecutorError
from .in_process import InProcess
from .local import Local
from .ray_cluster import Ray
from .stacked import Stacked

__all__ = ["Done", "Executor", "ExecutorError", "InProcess", "Local", "Ray", "Stacked"]
