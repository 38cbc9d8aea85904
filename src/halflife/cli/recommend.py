"""``halflife recommend``."""

from __future__ import annotations

from typing import Annotated

import typer

from .mistakes import spoken
from .terminal import print_json, say

__all__ = ["recommend"]


@spoken(model="--parameters {}")
def recommend(
    parameters: Annotated[float, typer.Option(help="Parameters of the model, such as 124e6.")],
    lr: Annotated[float, typer.Option(help="Peak learning rate.")],
    batch: Annotated[float, typer.Option(help="Samples (or tokens) per step.")],
    data: Annotated[float, typer.Option(help="Samples (or tokens) of the data set.")],
    epochs: Annotated[float | None, typer.Option(help="Passes over it. Default: 1.")] = None,
    steps: Annotated[int | None, typer.Option(help="Length of the run instead.")] = None,
    unit: Annotated[str, typer.Option(help="What is counted: samples or tokens.")] = "samples",
    optimizer: Annotated[str, typer.Option(help="adamw, lion or sgd.")] = "adamw",
    schedule: Annotated[
        str, typer.Option(help="constant, cosine, linear, wsd, multistep:0.5,0.75, ...")
    ] = "cosine",
    decay: Annotated[str, typer.Option(help="Decay rule of the number.")] = "decoupled",
    finetune: Annotated[bool, typer.Option(help="The model is pretrained.")] = False,
    weight_decay: Annotated[
        float | None, typer.Option(help="A number you have, to be judged beside the others.")
    ] = None,
    momentum: Annotated[float | None, typer.Option(help="beta1, or SGD's. Default: 0.9.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Recommend a weight_decay to start with, and print the code for it.

    [b]Examples[/b]

        halflife recommend --parameters 11e6 --lr 1e-3 --batch 128 --data 50000

        halflife recommend --parameters 1e8 --lr 2e-5 --batch 32 --data 32000 --finetune
    """
    from ..units.recommend import recommend as recommended

    plan = recommended(
        parameters,
        lr=lr,
        batch=batch,
        data=data,
        epochs=epochs,
        steps=steps,
        unit=unit,
        optimizer=optimizer,
        schedule=schedule,
        decay=decay,  # type: ignore[arg-type]  # any other is refused by name
        finetune=finetune,
        weight_decay=weight_decay,
        momentum=momentum,
    )
    if as_json:
        print_json(plan.as_dict())
    else:
        say(str(plan).removesuffix(plan.code).rstrip())
        say(f"\n{plan.code}", wrap=False)
