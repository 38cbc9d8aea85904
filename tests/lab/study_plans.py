"""Studies of no moment, for the tests of what runs and keeps them.

While `planted` is entered, they are all that is registered, in a module of the package that is not
there otherwise.
"""

from __future__ import annotations

import contextlib
import math
import sys
from types import ModuleType

from studies_made import claim, design

from halflife.lab.studies.calls import Curve, Findings, call, studies
from halflife.lab.studies.design import designs

MODULE = "halflife.lab.studies.planted"
WORD = "000/figure-1"
DESIGN = design(WORD, [claim("gain")], minutes={"seeds": 4}, sha256="1f" * 32)
OTHER = design("001/table-2", [claim("other")], minutes={"seeds": 3}, sha256="2f" * 32)
FAILING = design("004/figure-3", [claim("fails")], minutes={"seeds": 3}, sha256="3f" * 32)
UNDERFED = design("004/figure-5", [claim("fed")], sha256="4f" * 32, data="imagenet")

measured: list[str] = []  # every call that was made
faults: dict[int, int] = {}  # how often a seed's measurement fails yet


def value(*, seed, mean):
    measured.append(f"value {seed} {mean}")
    return {"x": mean + 0.1 * math.sin(seed), "none": math.nan, "many": [1.0, math.inf]}


def faulty(*, seed):
    measured.append(f"faulty {seed}")
    if faults.get(seed, 0):
        faults[seed] -= 1
        raise ArithmeticError(f"no value for seed {seed}")
    return {"x": 1.0 + 0.1 * math.sin(seed)}


def two_steps(settings):
    """A choice, then fresh seeds with what was chosen."""
    first = yield [call(value, seed=seed, mean=1.0) for seed in range(2)]
    mean = float(round(sum(each["x"] for each in first) / 2))
    seeds = range(100, 100 + settings["seeds"])
    found = yield [call(value, seed=seed, mean=mean) for seed in seeds]
    null = yield [call(value, seed=seed, mean=0.0) for seed in seeds]
    values = {
        "gain": [each["x"] for each in found],
        "gain/null": [each["x"] for each in null],
        "gain/planted": [10.0 * each["x"] for each in found],
    }
    lines = {"all": [(float(k), v) for k, v in enumerate(values["gain"])]}
    return Findings(values, [Curve("Values", "seed", "x", lines)], [f"chosen: {mean:g}"])


def one_step(name):
    def plan(settings):
        function = faulty if name == "fails" else value
        more = {} if name == "fails" else {"mean": 2.0}
        found = yield [call(function, seed=seed, **more) for seed in range(settings["seeds"])]
        values = [each["x"] for each in found]
        return Findings({name: values, f"{name}/null": [0.0, 0.1, -0.1], f"{name}/planted": values})

    plan.__module__ = MODULE
    return plan


two_steps.__module__ = value.__module__ = faulty.__module__ = MODULE
PLANS = {
    DESIGN.name: two_steps,
    OTHER.name: one_step("other"),
    FAILING.name: one_step("fails"),
    UNDERFED.name: one_step("fed"),
}


@contextlib.contextmanager
def planted(*which):
    """Inside, these studies are all that is registered."""
    module = ModuleType(MODULE)
    module.__file__ = __file__
    module.value, module.faulty = value, faulty
    tables = (designs(), studies())
    before = [dict(table) for table in tables]
    measured.clear()
    faults.clear()
    sys.modules[MODULE] = module
    try:
        for table, own in zip(tables, ({d.name: d for d in which}, PLANS), strict=True):
            table.clear()
            table.update({name: own[name] for name in (d.name for d in which)})
        yield
    finally:
        del sys.modules[MODULE]
        for table, own in zip(tables, before, strict=True):
            table.clear()
            table.update(own)
