"""Groups of parameters that can say what was decided, and why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ..checks import aligned

__all__ = ["ParamGroups", "ParameterDecision"]


@dataclass(frozen=True)
class ParameterDecision:
    """What was decided about one parameter.

    Attributes:
        name: Name in the model, without the prefixes of wrappers.
        shape: Its shape.
        decays: Whether weight decay applies.
        group: Index of its group, None if it is frozen and in no group.
        reason: Why, in a few words.
        tied_names: Its other names, if the tensor is shared.
    """

    name: str
    shape: tuple[int, ...]
    decays: bool
    group: int | None
    reason: str
    tied_names: tuple[str, ...] = ()


class ParamGroups(list[dict[str, Any]]):
    """A list of parameter groups that can explain itself; ``str()`` gives the table.

    A torch optimizer keeps and extends the dicts it is given: build one list per optimizer.

    Attributes:
        decisions: One `ParameterDecision` per parameter, in the order of the model.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], decisions: Sequence[ParameterDecision]
    ) -> None:
        super().__init__(groups)
        self.decisions = tuple(decisions)

    def table(self) -> str:
        """One line for each parameter with its reason, then the totals."""
        rows = [("group", "decays", "parameter", "shape", "reason")]
        totals = {"yes": ("decayed", [0, 0]), "no": ("not decayed", [0, 0])}
        totals["-"] = ("frozen", [0, 0])
        for d in self.decisions:
            decays = "-" if d.group is None else "yes" if d.decays else "no"
            group = "-" if d.group is None else str(d.group)
            shape = "x".join(map(str, d.shape)) or "scalar"
            rows.append((group, decays, " = ".join((d.name, *d.tied_names)), shape, d.reason))
            total = totals[decays][1]
            total[0] += 1
            total[1] += math.prod(d.shape)
        lines = aligned(rows)
        for kind, (tensors, elements) in totals.values():
            if tensors:
                lines.append(
                    f"{kind}: {_plural(tensors, 'tensor')}, {_plural(elements, 'element')}"
                )
        return "\n".join(lines)

    def split(self) -> tuple[ParamGroups, ParamGroups]:
        """The groups of ``policy="muon"`` for Muon, and the others for another optimizer.

        Hidden matrices are the two-dimensional weights of linear layers and attention; embeddings,
        the head, convolutions, gains and biases are others. The head is what the model says
        (``get_output_embeddings``), what is named like one (``lm_head``, ``classifier``, ``fc``)
        outside numbered layers, else the last matrix. An override of ``use_muon`` says otherwise.

        Raises:
            ValueError: If the groups have no ``use_muon``, that is, are of another policy.

        Example:
            >>> import torch
            >>> from torch import nn
            >>> from halflife import param_groups
            >>> model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2))
            >>> overrides = {"0.weight": {"use_muon": False}}  # the input's, by no name
            >>> hidden, others = param_groups(model, "muon", overrides).split()
            >>> optimizers = [torch.optim.Muon(hidden, lr=0.02), torch.optim.AdamW(others)]
            >>> [d.name for d in hidden.decisions]
            ['1.weight']
        """
        if not all("use_muon" in group for group in self):
            raise ValueError(
                "split: every group must have use_muon, got groups without it; make them by "
                'param_groups(model, policy="muon").'
            )
        return self._part(True), self._part(False)

    def _part(self, use_muon: bool) -> ParamGroups:
        kept = [i for i, group in enumerate(self) if bool(group["use_muon"]) is use_muon]
        groups = [{k: v for k, v in self[i].items() if k != "use_muon"} for i in kept]
        decisions = [
            replace(d, group=kept.index(d.group)) for d in self.decisions if d.group in kept
        ]
        return ParamGroups(groups, decisions)

    def __str__(self) -> str:
        return self.table()


def _plural(count: int, word: str) -> str:
    return f"{count:,} {word}{'' if count == 1 else 's'}"
