"""What is written for type checkers is what runs; `make check` checks examples/typed.py itself."""

from __future__ import annotations

import ast
import inspect
import textwrap
from typing import get_args

import pytest
import torch

import halflife
from halflife import optim
from halflife.groups.policies import POLICIES, PolicyName
from halflife.rules.contract import DecayRule, as_rule
from torch_versions import before

OPTIMIZERS = {name: getattr(halflife, name) for name in optim.__all__ if hasattr(halflife, name)}
OPTIMIZERS = {n: c for n, c in OPTIMIZERS.items() if issubclass(c, halflife.Decayed)}
NESTED = [
    cls
    for cls in DecayRule._registry.values()
    if cls.__module__.startswith("halflife.") and "rule" in inspect.signature(cls).parameters
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_takes_its_keywords_and_no_others(name: str) -> None:
    cls = OPTIMIZERS[name]
    parameters = inspect.signature(cls).parameters
    assert not [p for p in parameters.values() if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert {"decay", "peak_lr", "weight_decay"} <= set(parameters)
    weight = [torch.ones(2, 2, requires_grad=True)]
    for wrong, near in (("wieght_decay", "weight_decay"), ("peek_lr", "peak_lr")):
        with pytest.raises(
            TypeError, match=f"^{wrong}=0.1: unknown keyword, did you mean '{near}'"
        ):
            cls(weight, **{wrong: 0.1})


SINCE = {
    "Adam": before(2, 7, "Adam takes decoupled_weight_decay"),
    "Muon": before(2, 9, "torch.optim.Muon came with it"),
}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=SINCE.get(n, ())) for n in OPTIMIZERS if hasattr(torch.optim, n)],
)
def test_what_decayed_promises_of_a_class_of_torch_is_its_signature_and_ours(name: str) -> None:
    native = inspect.signature(getattr(torch.optim, name)).parameters
    ours = inspect.signature(OPTIMIZERS[name]).parameters
    assert set(ours) - set(native) <= {"decay", "peak_lr", "implementation"}
    for key in native:
        assert (ours[key].default, ours[key].kind) == (native[key].default, native[key].kind)


def test_nested_rules_are_found() -> None:
    assert {"Proximal", "Cautious", "Anchored", "ProximalL1"} <= {cls.__name__ for cls in NESTED}


@pytest.mark.parametrize("cls", NESTED, ids=lambda cls: cls.__name__)
def test_a_rule_that_takes_another_by_name_says_so(cls: type[DecayRule]) -> None:
    tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    written = [
        node.args
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.FunctionDef) and node.name == "__init__"
    ]
    assert len(written) == 1
    runs = inspect.signature(cls).parameters
    assert [a.arg for a in written[0].args] == ["self", *runs]
    assert ast.unparse(written[0].args[1].annotation) == "DecayRule | RuleName"
    given = [ast.unparse(default) for default in written[0].defaults]
    assert as_rule(ast.literal_eval(given[0])) == runs["rule"].default
    assert given[1:] == [repr(p.default) for n, p in runs.items() if n != "rule"]


def test_policies_are_those_of_the_literal() -> None:
    assert get_args(PolicyName) == tuple(POLICIES)
