"""What holds for every test: fixed seeds, restored global state, and where it runs.

Options: ``--device`` says where the tests run that use the ``device`` fixture or are marked
``gpu``, as all of `tests/gpu` is: if it is not given, the former on the CPU, the latter on CUDA.
"""

from __future__ import annotations

import gc
import random
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

import torch_versions

# They assert, though they are no tests.
pytest.register_assert_rewrite("compiled_runs", "messages")

# The same examples in every run: a failure seen once is a failure anyone can repeat. Look for new
# ones with --hypothesis-profile=search.
settings.register_profile(
    "repeat",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile("repeat")

ON_DEVICES = Path(__file__).parent / "gpu"

torch.set_num_threads(1)  # xdist already keeps the cores busy, and sums keep their order


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", help="torch device of the 'device' fixture and of tests/gpu")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(torch_versions)  # also for the doctests, which are not below
    for has_it, line in torch_versions.QUIET:
        if has_it:
            config.addinivalue_line("filterwarnings", line)


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    device = config.getoption("--device") or "cuda"
    index = torch.device(device).index or 0
    lacking = torch.device(device).type == "cuda" and index >= torch.cuda.device_count()
    for item in items:
        if ON_DEVICES in item.path.parents:
            item.add_marker("gpu")
        if lacking and item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason=f"needs a device {device}, and there is none"))
    # Minutes long: it would end alone if it did not begin first.
    items.sort(key=lambda item: "runs_on_a_device_runs_on_the_cpu" not in item.nodeid)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """With one look for garbage, at the end, where many take a fifth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()  # what is left stays, and is looked through no more


@pytest.fixture
def device(request: pytest.FixtureRequest) -> torch.device:
    """Where this test runs."""
    default = "cuda" if request.node.get_closest_marker("gpu") else "cpu"
    return torch.device(request.config.getoption("--device") or default)


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    random.seed(0)
    np.random.seed(0)  # the legacy state is the one libraries share
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def restored_global_state() -> Iterator[None]:
    """A test may set these; the next one must not notice."""
    dtype = torch.get_default_dtype()
    deterministic = torch.are_deterministic_algorithms_enabled()
    threads = torch.get_num_threads()
    yield
    torch.set_default_dtype(dtype)
    if torch.are_deterministic_algorithms_enabled() != deterministic:  # setting it is slow
        torch.use_deterministic_algorithms(deterministic)
    if torch.get_num_threads() != threads:
        torch.set_num_threads(threads)
    torch.set_grad_enabled(True)
    if (accelerate := sys.modules.get("accelerate.state")) is not None:
        accelerate.AcceleratorState._reset_state(reset_partial_state=True)
        accelerate.GradientState._reset_state()


# --- for the tests of the compiled step ----------------------------------------------------------


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernels as they are written; and tensors of 6 elements count as large."""
    from halflife.mechanism.compiled import calls, kernels

    monkeypatch.setattr(
        kernels, "compiled", lambda kernel, rule, options, *_: kernel(rule, *options)
    )
    monkeypatch.setattr(calls, "SMALL", 6)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    from halflife.mechanism.compiled import kernels

    torch._dynamo.reset()
    kernels.compiled.cache_clear()
    yield
    torch._dynamo.reset()
    kernels.compiled.cache_clear()
