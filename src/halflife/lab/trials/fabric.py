"""Lightning Fabric inside a trial: where it trains, in what precision, by how many processes."""

from __future__ import annotations

import atexit
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from ...checks import near

__all__ = ["launch", "made_fabric", "placed", "sharding", "units_to_shard", "world_size"]

_KNOWN = ("callbacks", "loggers", "plugins", "precision", "strategy")


def world_size() -> int:
    """Processes that train this cell together: `Local(processes=...)`."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def placed(device: torch.device) -> dict[str, Any]:
    """Arguments of a Fabric or Trainer that say where a trial trains.

    Example:
        >>> placed(torch.device("cuda:1"))
        {'accelerator': 'cuda', 'devices': [1]}
    """
    count = world_size()
    if device.type == "cpu":
        devices: Any = count
    else:
        # Each process looks for its own at the place of its rank, which is where this puts it.
        first = (device.index or 0) - int(os.environ.get("LOCAL_RANK", "0"))
        devices = [first + rank for rank in range(count)]
    several = {"strategy": "ddp"} if count > 1 else {}
    return {"accelerator": device.type, "devices": devices, **several}


def made_fabric(options: Mapping[str, Any], device: torch.device, seed: int) -> Any:
    """Lightning's Fabric for one trial, launched.

    Args:
        options: ``precision``, ``strategy``, ``plugins``, ``callbacks`` and ``loggers``, as Fabric
            takes them. ``strategy="fsdp2"`` shards each child of the model, and the rest, over all
            processes; a ``ModelParallelStrategy`` shards as it says. Default: DDP where there are
            several processes.
        device: where this process trains.
        seed: of the trial, by which distributed samplers shuffle.

    Raises:
        ImportError: without the extra ``lightning``.
        ValueError: for another option.
    """
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise ImportError(
            f"trial.fabric needs the extra 'lightning' ({error}): "
            "pip install torch-halflife[lightning]"
        ) from error

    for name in options:
        if name not in _KNOWN:
            raise ValueError(
                f"fabric={{{name!r}: ...}}: must be of {', '.join(_KNOWN)}{near(name, _KNOWN)}; "
                "devices and processes are the executor's, lab.Local(2, processes=2)."
            )
    # Read by the samplers that Fabric makes for several processes.
    os.environ["PL_GLOBAL_SEED"] = str(seed)
    given = {**placed(device), **options}
    if given.get("strategy") == "fsdp2":
        given["strategy"] = sharding(world_size())
    fabric = Fabric(**given)
    launch(fabric)
    return fabric


def launch(fabric: Any) -> None:
    """Start the processes of a Fabric, and end their group when this process ends.

    Fabric ends a group of NCCL only. Threads of gloo that are still there when Python is gone abort
    the process now and then, after its work is done.
    """
    fabric.launch()
    atexit.unregister(_end_group)
    atexit.register(_end_group)


def _end_group() -> None:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def sharding(processes: int) -> Any:
    """Lightning's strategy that shards each child of a model, and the rest, by FSDP2."""
    from lightning.fabric.strategies import ModelParallelStrategy

    return ModelParallelStrategy(_sharded, data_parallel_size=processes, tensor_parallel_size=1)


def _sharded(model: nn.Module, mesh: Any) -> nn.Module:
    from torch.distributed.fsdp import fully_shard

    shards = mesh["data_parallel"]
    for group in units_to_shard(model):
        fully_shard(group if len(group) > 1 else group[0], mesh=shards)
    fully_shard(model, mesh=shards)
    return model


def units_to_shard(model: nn.Module) -> list[list[nn.Module]]:
    """The modules within a model that are called, in groups that have weights in common.

    A list of modules is not called, those in it are; a head that is tied to a table shares its
    weight.
    """
    groups: list[tuple[list[nn.Module], set[nn.Parameter]]] = []
    for unit in _called(model):
        weights = set(unit.parameters())
        theirs = [group for group in groups if group[1] & weights]
        groups = [group for group in groups if not group[1] & weights]
        modules = [module for group in theirs for module in group[0]]
        groups.append(([*modules, unit], weights.union(*(group[1] for group in theirs))))
    return [modules for modules, weights in groups if weights]


def _called(model: nn.Module) -> Iterator[nn.Module]:
    for child in model.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)):
            yield from _called(child)
        else:
            yield child
