"""Bad arguments of the lab and of the command line; rows as in tests/test_argument_errors.py."""

from __future__ import annotations

import re
from typing import Any

import pytest
from typer.testing import CliRunner

from bad_arguments import INF, NAN, Row, cases, check
from halflife.cli import app
from halflife.lab.sweeping.axes import Currency, parse_axis
from halflife.lab.tasks import Training, find_task
from halflife.lab.trials.bases import OptimizerKind
from halflife.rules.scalar import Decoupled

V = ValueError
SETTINGS: dict[str, Any] = {
    "task": find_task("digits"), "optimizer": "adam", "epochs": 1, "batch_size": 50,
    "schedule": "cosine",
}  # fmt: skip


def training(key: str, *values: Any) -> Row:
    return Row(f"Training.{key}", lambda v: Training(**{**SETTINGS, key: v}), key, V, values)


def strength(value: float) -> float:
    return Currency(Decoupled(), OptimizerKind("adamw").base, 0.01).coefficient(value)


AXES = ("", "x", "1:2", "1:2:x", "0:1:3", "1:2:0", "-1", "nan", "inf", "1,,2", "1:2:3:4", "1;2")
ROWS = [
    Row("parse_axis", lambda v: parse_axis("lr", v), "lr=", V, AXES),
    Row("find_task", find_task, "task=", V, ("digit", "x", "no.such:thing", "math:thing", "")),
    training("optimizer", "lyon", "adma", "rmsporp", None),
    training("schedule", "cosin", "x", None),
    training("epochs", 0, -1, "3", None, 1.5, NAN, True),
    training("batch_size", 0, -1, 10_000, "3", None, 1.5, True),
    Row("Currency.coefficient", strength, "strength=", V, (0.0, -1.0, 1.0, NAN, INF)),
]


@pytest.mark.parametrize(("call", "name", "error", "value"), list(cases(ROWS)))
def test_the_message_says_which_what_and_how_else(
    call: Any, name: str, error: type[Exception], value: Any
) -> None:
    check(call, name, error, value)


OPTIONS = [
    ("landscape", "--lr", "1:2"), ("landscape", "--lr", "abc"),
    ("landscape", "--sampler", "grd"), ("landscape", "--confirm", "-1"),
    ("landscape", "--time-limit", "0"),
    ("landscape", "--strength", "2"), ("landscape", "--strength", "x"),
    ("landscape", "--rules", "indpendent"), ("landscape", "--optimizer", "lyon"),
    ("landscape", "--schedule", "cosin"), ("landscape", "--task", "digit"),
    ("landscape", "--epochs", "0"), ("landscape", "--batch-size", "0"),
    ("landscape", "--seeds", "0"), ("landscape", "--workers", "-1"),
    ("landscape", "--extension-limit", "-1"), ("landscape", "--epochs", "x"),
    ("describe", "--lr", "-1"), ("describe", "--lr", "nan"), ("describe", "--lr", "x"),
    ("describe", "--wd", "-1"), ("describe", "--wd", "nan"), ("describe", "--rule", "decuopled"),
    ("describe", "--optimizer", "lion"), ("describe", "--momentum", "1.5"),
    ("describe", "--momentum", "nan"), ("describe", "--steps-per-epoch", "0"),
    ("describe", "--steps-per-epoch", "nan"), ("report",),
]  # fmt: skip


@pytest.mark.parametrize("words", OPTIONS, ids=" ".join)
def test_a_bad_option_is_explained_and_nothing_is_written(words: Any, tmp_path: Any) -> None:
    command, *rest = words
    out = tmp_path / "out"
    more = {
        "landscape": ["--out", str(out), "--workers", "0"] if "--workers" not in rest else [],
        "describe": [
            w for pair in (("--lr", "0.1"), ("--wd", "0.1")) if pair[0] not in rest for w in pair
        ],
        "report": [str(out)],
    }[command]
    result = CliRunner().invoke(app, [command, *rest, *more], terminal_width=200)
    text = re.sub(r"\x1b\[[0-9;]*m|[│\n]", " ", result.output)
    assert result.exit_code not in (0, 1) or "Traceback" not in text
    assert result.exit_code != 0
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert not out.exists()
    if rest:
        name = rest[0].removeprefix("--").replace("-", ".")
        assert re.search(f"{name}|decay|weight.decay|beta|[Ll]earning rate", text), text
        assert rest[1] in text or "Input should be" in text, text  # typer's own words
