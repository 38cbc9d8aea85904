"""What a type checker knows: misspelled keywords and rules are found before anything runs.

`make check` runs mypy and pyright over this file. Each comment that ignores an error stands where
there must be one: without the error, the comment itself is one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

import halflife

if TYPE_CHECKING:
    from typing_extensions import assert_type


def known(model: torch.nn.Module) -> None:
    """What is right, and what it is."""
    half_life = halflife.HalfLife(steps=5000)
    optimizer = halflife.AdamW(model.parameters(), 1e-3, weight_decay=half_life, decay="corrected")
    halflife.SGD(model.parameters(), lr=0.1, decay=halflife.Cautious("independent"), peak_lr=0.1)
    halflife.Adagrad(model.parameters(), decay=halflife.Proximal("independent"))
    halflife.Lion(halflife.param_groups(model, "matrices", weight_decay=half_life, lr=1e-4))
    attached = halflife.attach(torch.optim.RAdam(model.parameters(), lr=1e-3), "stable")
    # A class that halflife has: its whole signature. Any other: its own, and with a rule ours.
    nadam = halflife.decayed(torch.optim.NAdam)(
        model.parameters(), momentum_decay=4e-3, weight_decay=half_life, decay="independent"
    )
    rprop = halflife.decayed(torch.optim.Rprop)(model.parameters(), etas=(0.5, 1.2))
    adafactor = halflife.decayed(torch.optim.Adafactor)(
        model.parameters(), lr=1e-2, weight_decay=half_life, decay="decoupled", peak_lr=1e-2
    )
    if TYPE_CHECKING:
        assert_type(optimizer, halflife.AdamW)
        assert_type(attached, torch.optim.RAdam)
        assert_type(nadam, halflife.NAdam)
        assert_type(rprop, torch.optim.Rprop)
        assert_type(adafactor, torch.optim.Adafactor)


def refused(model: torch.nn.Module) -> None:
    """What is wrong: never called."""
    w = list(model.parameters())
    adam = torch.optim.Adam(w)

    halflife.AdamW(w, wieght_decay=0.1)  # type: ignore[call-arg]
    halflife.AdamW(w, decay="independant")  # type: ignore[arg-type]
    halflife.AdamW(w, weight_decay="0.1")  # type: ignore[arg-type]
    halflife.AdamW(w, implementation="compile")  # type: ignore[arg-type]
    halflife.SGD(w, momentun=0.9)  # type: ignore[call-arg]
    halflife.Lion(w, foreach=True, fused=True)  # type: ignore[call-arg]
    halflife.Cautious("independant")  # type: ignore[arg-type]
    halflife.Proximal("independant")  # type: ignore[arg-type]
    halflife.ProximalL1("independent", metric="precondition")  # type: ignore[arg-type]
    halflife.HalfLife(step=5000)  # type: ignore[call-arg]
    halflife.attach(adam, "independant")  # type: ignore[arg-type]
    halflife.attach(adam, "independent", max_lr=1.0)  # type: ignore[call-arg]
    halflife.param_groups(model, weigth_decay=0.1)  # type: ignore[call-arg]
    halflife.param_groups(model, "matrix")  # type: ignore[arg-type]
    halflife.averaging_of("independant", [1e-3], 0.1)  # type: ignore[arg-type]
    halflife.recommend(1e6, lr=1e-3, batch=1, data=1, decay="stable")  # type: ignore[arg-type]
    halflife.decayed(torch.optim.NAdam)(w, wieght_decay=0.1, decay="l2")  # type: ignore[call-arg]
    halflife.decayed(torch.optim.NAdam)(w, decay="independant")  # type: ignore[arg-type]
    halflife.decayed(torch.optim.Rprop)(w, etta=(0.5, 1.2))  # type: ignore[call-overload]
    halflife.decayed(torch.optim.Rprop)(w, decay="independant")  # type: ignore[call-overload]


if __name__ == "__main__":
    known(torch.nn.Linear(4, 2))
    try:
        halflife.AdamW([torch.ones(1)], wieght_decay=0.1)  # type: ignore[call-arg]
    except TypeError as error:
        print(f"at run time: {error}")
