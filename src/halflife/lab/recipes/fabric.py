"""Lightning's Fabric for a run: devices, precision, DDP and FSDP2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from .options import Options

__all__ = ["launched"]


def launched(options: Options) -> Any:
    """Fabric, with its processes started.

    Raises:
        ImportError: without the extra ``lightning``.
        ValueError: for float16 on a CPU, in whose place Fabric would take bfloat16; for devices
            that are not here.
    """
    on_cpu = options.accelerator == "cpu" or (
        options.accelerator == "auto" and not torch.accelerator.is_available()
    )
    if on_cpu and options.precision == "16-mixed":
        raise ValueError("precision='16-mixed': needs a GPU; pass precision='bf16-mixed' on a CPU.")
    try:
        from lightning.fabric import Fabric
        from lightning.fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        raise ImportError(
            f"a recipe is trained through Lightning's Fabric ({error}): pip install "
            "torch-halflife[lightning]"
        ) from error
    from ..trials.fabric import launch, sharding

    strategy: Any = options.strategy
    if strategy == "fsdp2":
        strategy = sharding(options.devices)
    try:
        fabric = Fabric(
            accelerator=options.accelerator, devices=options.devices, precision=options.precision,
            strategy=strategy,
        )  # fmt: skip
    except (RuntimeError, ValueError, MisconfigurationException) as error:
        raise ValueError(
            f"accelerator={options.accelerator!r}, devices={options.devices}: Fabric cannot have "
            f"them here: {error}"
        ) from error
    launch(fabric)
    return fabric
