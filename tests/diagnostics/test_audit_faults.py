"""Every fault, planted alone into a healthy training, is found by its code, and nothing else is.

The faults are in `faults_of_groups` and `faults_of_amounts`, which enter them in `planting.FAULTS`.
"""

from __future__ import annotations

import faults_of_amounts  # noqa: F401 - plants
import faults_of_groups  # noqa: F401 - plants
import pytest
from planting import FAULTS, STEPS, cosine, healthy

from halflife.diagnostics.auditing import CODES, audit
from torch_versions import before


def found(result):
    return {f.code: set(f.parameters) for f in result.findings if f.severity != "info"}


def test_nothing_is_found_where_nothing_is_planted():
    model, optimizer = healthy()
    result = audit(model, optimizer, schedule=cosine, steps=STEPS, steps_per_epoch=100)
    assert found(result) == {}
    assert result.exit_code == 0


# By the switch that a group has since torch 2.7.
SWITCHED = {"a_flag_makes_adamw_adam", "a_checkpoint_of_adamw_is_loaded_into_adam"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=before(2, 7, "Adam(decoupled_weight_decay=)"))
        if name in SWITCHED
        else name
        for name in FAULTS
    ],
)
def test_planted_fault_is_found(name):
    build, codes, names, arguments = FAULTS[name]
    model, optimizer, *more = build()
    result = audit(model, optimizer, **{**arguments, **(more[0] if more else {})})
    assert set(found(result)) == codes
    for code, parameters in names.items():
        assert found(result)[code] == parameters
    assert result.exit_code == any(CODES[code][0] == "error" for code in codes)


def test_every_code_of_an_error_or_warning_is_planted():
    planted = set().union(*(codes for _, codes, _, _ in FAULTS.values()))
    assert planted == {code for code, (severity, _) in CODES.items() if severity != "info"}
    assert len(FAULTS) >= 30
