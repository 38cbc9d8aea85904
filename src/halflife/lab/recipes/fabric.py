"""Lightning's Fabric for a run: devices, precision, DDP and FSDP2."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .running import Options

__all__ = ["launched"]


def launched(options: Options) -> Any:
    """Fabric, with its processes started.

    Raises:
        ImportError: without the extra ``lightning``.
    """
    try:
        from lightning.fabric import Fabric
    except ImportError as error:
        raise ImportError(
            f"a recipe is trained through Lightning's Fabric ({error}): pip install "
            "torch-halflife[lightning]"
        ) from error
    from ..trials.fabric import sharding

    strategy: Any = options.strategy
    if strategy == "fsdp2":
        strategy = sharding(options.devices)
    fabric = Fabric(
        accelerator=options.accelerator, devices=options.devices, precision=options.precision,
        strategy=strategy,
    )  # fmt: skip
    fabric.launch()
    return fabric
