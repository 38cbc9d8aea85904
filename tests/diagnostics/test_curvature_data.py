"""What one batch is and what several are, in every form in which data comes."""

from __future__ import annotations

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from halflife.diagnostics import curvature
from halflife.diagnostics.gradient_norms import gradient_norms

F64 = torch.float64


class Two(nn.Module):
    """A model of two arguments, and of as many as two outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return self.one(x * mask).tanh() + self.two(x)


class Whole(Two):
    """The same of one argument, which holds both."""

    def forward(self, both: Any) -> torch.Tensor:
        return super().forward(both.x, both.mask)


class Labelled(Two):
    """The same as Hugging Face's models: its loss comes with the outputs."""

    def forward(self, x: torch.Tensor, mask: torch.Tensor, labels: Any = None) -> Any:  # type: ignore[override]
        outputs = super().forward(x, mask)
        return {"logits": outputs, "loss": cross_entropy(outputs, labels)}


class NamedPair(NamedTuple):
    inputs: Any
    targets: Any


class NamedInputs(NamedTuple):
    x: torch.Tensor
    mask: torch.Tensor


@dataclass(frozen=True)
class DataPair:
    inputs: Any
    targets: Any


@dataclass
class DataInputs:
    x: torch.Tensor
    mask: torch.Tensor


def material(rows: int = 2) -> tuple[Two, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of two rows: where a pair is taken for two batches, nothing else tells."""
    torch.manual_seed(0)
    x, mask = torch.randn(rows, 3), torch.randint(2, (rows, 3)).float()
    return Two(), x, mask, torch.tensor([0, 1, 1, 0])[:rows]


def wanted(model: Two, x: torch.Tensor, mask: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """The Hessian by a function of the parameters alone."""

    def loss(params: dict[str, torch.Tensor]) -> torch.Tensor:
        outputs = torch.func.functional_call(model, params, (x.double(), mask.double()))
        return cross_entropy(outputs, y)

    return curvature.dense(curvature.Hessian(loss, dict(model.named_parameters()), dtype=F64))


FORMS: dict[str, Any] = {
    "tuple": lambda x, mask, y: ((x, mask), y),
    "tuple of a list": lambda x, mask, y: ([x, mask], y),
    "as a DataLoader collates": lambda x, mask, y: [[x, mask], y],
    "tuple of a dict": lambda x, mask, y: ({"mask": mask, "x": x}, y),
    "tuple of a mapping": lambda x, mask, y: (UserDict(mask=mask, x=x), y),
    "tuple of a namedtuple": lambda x, mask, y: (NamedInputs(x, mask), y),
    "tuple of a dataclass": lambda x, mask, y: (DataInputs(x, mask), y),
    "namedtuple": lambda x, mask, y: NamedPair((x, mask), y),
    "namedtuple by the function": lambda x, mask, y: namedtuple("P", "a b")((x, mask), y),
    "dataclass": lambda x, mask, y: DataPair((x, mask), y),
    "dataclass of dataclasses": lambda x, mask, y: DataPair(DataInputs(x, mask), y),
}


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("form", FORMS)
def test_one_pair_is_one_batch_in_every_form(form: str, several: bool) -> None:
    model, x, mask, y = material(rows=4 if several else 2)
    data = FORMS[form](x, mask, y)
    if several:
        data = [FORMS[form](x[:1], mask[:1], y[:1]), FORMS[form](x[1:], mask[1:], y[1:])]
    found = curvature.dense(curvature.hessian(model, cross_entropy, data, dtype=F64))
    torch.testing.assert_close(found, wanted(model, x, mask, y), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("inputs", [NamedInputs, DataInputs])
def test_an_argument_that_holds_several_stays_what_it_is(inputs: Any) -> None:
    model, x, mask, y = material()
    whole = Whole()
    whole.load_state_dict(model.state_dict())
    data = (inputs(x, mask), y)
    found = curvature.dense(curvature.hessian(whole, cross_entropy, data, dtype=F64))
    torch.testing.assert_close(found, wanted(model, x, mask, y), rtol=1e-12, atol=1e-14)
    assert data[0].x is x  # the batch itself is not cast
    assert x.dtype is torch.float32


@pytest.mark.parametrize("kind", [dict, UserDict])
@pytest.mark.parametrize("several", [False, True])
def test_a_dict_is_a_batch_of_the_models_arguments(kind: Any, several: bool) -> None:
    """As Hugging Face's tokenizers and collators make them; BatchEncoding is a UserDict."""
    model, x, mask, y = material(rows=4)
    labelled = Labelled()
    labelled.load_state_dict(model.state_dict())
    whole = kind(x=x, mask=mask, labels=y)
    parts = [kind(x=x[i], mask=mask[i], labels=y[i]) for i in (slice(0, 1), slice(1, 4))]
    operator = curvature.hessian(
        labelled, lambda outputs, batch: outputs["loss"], parts if several else whole, dtype=F64
    )
    expected = wanted(model, x, mask, y)
    torch.testing.assert_close(curvature.dense(operator), expected, rtol=1e-12, atol=1e-14)
    operator = curvature.hessian(  # the batch stands for the targets
        labelled,
        lambda outputs, batch: cross_entropy(outputs["logits"], batch["labels"]),
        parts if several else whole,
        dtype=F64,
    )
    torch.testing.assert_close(curvature.dense(operator), expected, rtol=1e-12, atol=1e-14)


def test_targets_may_be_several_too_where_it_is_said_what_is_meant() -> None:
    model, x, mask, y = material()
    (x1, x2), (y1, y2) = x.chunk(2), y.chunk(2)

    def loss(outputs: torch.Tensor, targets: Any) -> torch.Tensor:
        return sum(cross_entropy(outputs[i : i + 1], t) for i, t in enumerate(targets)) / 2

    one = (x, mask), (y1, y2)
    with pytest.raises(ValueError, match=r"data is a tuple of tuple, tuple, which could be one"):
        curvature.hessian(model, loss, one)
    found = curvature.dense(curvature.hessian(model, loss, [one], dtype=F64))
    torch.testing.assert_close(found, wanted(model, x, mask, y), rtol=1e-12, atol=1e-14)
    linear = nn.Linear(3, 2)
    two = (x1, y1), (x2, y2)
    with pytest.raises(ValueError, match=r"pass \[data\] for one batch, list\(data\) for batches"):
        curvature.hessian(linear, cross_entropy, two)
    both = curvature.dense(curvature.hessian(linear, cross_entropy, list(two)))
    torch.testing.assert_close(
        both, curvature.dense(curvature.hessian(linear, cross_entropy, (x, y)))
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (lambda x, m, y: (x, m, y), r"a batch is a tuple of 3; it must be a pair"),
        (lambda x, m, y: [x, m, y], r"a batch is a tuple of 3; it must be a pair"),
        (lambda x, m, y: x, r"a batch is a Tensor; it must be a pair"),
        (lambda x, m, y: [NamedInputs(x, m)], r"a NamedInputs of \['x', 'mask'\], all of them"),
        (lambda x, m, y: DataInputs(x, m), r"a DataInputs of \['x', 'mask'\], all of them"),
        (lambda x, m, y: {"x": x, "y": y}, r"a dict of \['x', 'y'\].*arguments of Two.forward"),
        (lambda x, m, y: ({"x": x}, {"y": y}), r"a tuple of dict, dict, which could be"),
        (lambda x, m, y: ((x, y),), r"a tuple of tuple, which could be one batch or 1"),
        (lambda x, m, y: (), r"a tuple of nothing, which could be"),
    ],
)
def test_what_is_no_batch_is_refused_by_name(data: Any, message: str) -> None:
    model, x, mask, y = material()
    with pytest.raises(ValueError, match=message):
        curvature.hessian(model, cross_entropy, data(x, mask, y))


def test_rows_of_packed_sequences_are_sequences() -> None:
    """Their data have a row for each token, which would weigh the batches otherwise."""

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.cell, self.head = nn.RNN(3, 2, batch_first=True), nn.Linear(2, 2)

        def forward(self, packed: PackedSequence) -> torch.Tensor:
            return self.head(self.cell(packed)[1][-1])

    torch.manual_seed(0)
    model, x, y = Recurrent(), torch.randn(3, 5, 3), torch.tensor([0, 1, 1])

    def packed(rows: slice, lengths: list[int]) -> PackedSequence:
        return pack_padded_sequence(x[rows], torch.tensor(lengths), batch_first=True)

    together = (packed(slice(0, 3), [5, 5, 1]), y)
    parts = [(packed(slice(0, 2), [5, 5]), y[:2]), (packed(slice(2, 3), [1]), y[2:])]
    found = curvature.dense(curvature.hessian(model, cross_entropy, parts, dtype=F64))
    expected = curvature.dense(curvature.hessian(model, cross_entropy, together, dtype=F64))
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_norms_take_the_same_forms(form: str) -> None:
    model, x, mask, y = material()
    grads = torch.autograd.grad(cross_entropy(model(x, mask), y), list(model.parameters()))
    found = gradient_norms(model, cross_entropy, FORMS[form](x, mask, y))
    assert found.batches == 1
    assert found.full == pytest.approx(float(torch.cat([g.flatten() for g in grads]).norm()), 1e-6)
