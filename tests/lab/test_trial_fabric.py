"""Fabric inside a trial: where it trains and how precisely; several processes are one cell."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import halflife
from halflife import lab
from halflife.lab.executors import Done
from halflife.lab.trials.bases import OptimizerKind
from halflife.lab.trials.cell import Outcome
from halflife.lab.trials.fabric import placed
from halflife.lab.trials.job import Job, Portion, run_portion

SWEEP: dict[str, Any] = {
    "lr": [1e-2],
    "weight_decay": [0.1],
    "seeds": 1,
    "confirm": 0,
    "default": False,
    "extend": False,
    "progress": False,
}
LOSS = lab.Metric("loss")
X = torch.linspace(-1, 1, 240).reshape(40, 6).sin()
Y = (X.sum(1, keepdim=True) * 3).cos()


def net() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1))


def fit(model: nn.Module, optimizer: Any, backward: Callable[[Tensor], Any], part: slice) -> None:
    order = torch.Generator().manual_seed(1)
    for _ in range(3):
        for batch in torch.randperm(40, generator=order).split(8):
            rows = batch[part]
            loss = nn.functional.mse_loss(model(X[rows]), Y[rows])
            optimizer.zero_grad()
            backward(loss)
            optimizer.step()


def distributed(trial: lab.Trial, order: str) -> dict[str, float]:
    fabric, model = trial.fabric, net()
    if order == "optimizer last":  # as sharding replaces the parameters
        model = fabric.setup_module(model)
        optimizer = fabric.setup_optimizers(trial.optimizer(model))
    else:
        model, optimizer = fabric.setup(model, trial.optimizer(model))
    assert fabric.world_size == 2
    fit(model, optimizer, fabric.backward, slice(fabric.global_rank, None, 2))
    with torch.no_grad():
        return {"loss": float(nn.functional.mse_loss(model(X), Y)), "rank": fabric.global_rank}


def by_one(rule: str, coefficient: float) -> tuple[float, float]:
    """Loss and RMS of the weight matrices after the same training in one process, without a lab."""
    model = net()
    decay = "decoupled" if rule == "none" else rule
    groups = halflife.param_groups(model, weight_decay=coefficient)
    fit(model, halflife.AdamW(groups, lr=1e-2, decay=decay), Tensor.backward, slice(None))
    matrices = torch.cat([p.flatten() for p in model.parameters() if p.dim() == 2])
    with torch.no_grad():
        return float(nn.functional.mse_loss(model(X), Y)), float(matrices.square().mean().sqrt())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "order"),
    [("ddp", "optimizer first"), ("fsdp2", "optimizer last")],
)
def test_two_processes_are_one_cell_and_train_as_one_does(
    strategy: str, order: str, tmp_path: Path
) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    result = lab.sweep(
        partial(distributed, order=order),
        rules=["decoupled", "stable"],
        out=tmp_path,
        choose="loss",
        fabric={"strategy": strategy},
        executor=lab.Local(1, processes=2, timeout=120),
        **SWEEP,
    )
    cells = lab.Result.read(result.out or "").cells()
    assert [c["rule"] for c in cells] == ["none", "decoupled", "stable"]
    for cell in cells:
        assert cell["status"] == "done", cell["error"]
        assert cell["metrics"]["rank"] == 0
        assert cell["steps"] == 15
        loss, rms = by_one(cell["rule"], cell["weight_decay"])
        # In float32; a sum of two halves rounds otherwise than the whole.
        assert cell["metrics"]["loss"] == pytest.approx(loss, rel=1e-5)
        assert cell["weight_rms"] == pytest.approx(rms, rel=1e-5)
    one = by_one("none", 0.0)[0]
    assert cells[1]["metrics"]["loss"] != pytest.approx(one, rel=1e-5)  # decay is seen


# --- a process that fails, dies or hangs ----------------------------------------------------------


DIES, FAILS = 0.1, 0.2  # which trouble, told by the weight decay


def trouble(trial: lab.Trial, folder: Path) -> float:
    fabric = trial.fabric
    (folder / f"{fabric.global_rank}-{os.getpid()}").touch()
    fabric.barrier()
    if trial.seed == fabric.global_rank:  # the seed says whose trouble it is
        if trial.weight_decay == DIES:
            os._exit(3)
        raise ArithmeticError("no more")
    return float(fabric.all_reduce(torch.tensor(1.0), reduce_op="sum"))


def answer(executor: lab.Local, number: int, kind: float, seed: int) -> Done:
    executor.submit(number, Portion((lab.Cell("decoupled", 1e-2, kind, seed),)))
    while True:
        for done in executor.wait(1.0):
            assert done.number == number
            return done


@pytest.mark.slow
def test_a_process_in_trouble_takes_the_cell_and_all_its_processes(tmp_path: Path) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    job = Job(partial(trouble, folder=tmp_path), OptimizerKind("adamw"), (LOSS,))
    start = time.monotonic()
    with lab.Local(1, processes=2, timeout=300) as executor:
        executor.open(job)
        for number, (kind, said) in enumerate(
            [(DIES, "ended with exit code 3"), (FAILS, "of rank 1 of 2:\nTraceback")]
        ):
            done = answer(executor, number, kind, seed=1)
            error = done.error if done.outcomes is None else str(done.outcomes[0].error)
            assert said in error
            assert ("ArithmeticError: no more" in error) == (kind == FAILS)
        done = answer(executor, 2, FAILS, seed=2)
        assert done.outcomes is not None
        assert [o.metrics for o in done.outcomes] == [{"loss": 2.0}]
    assert time.monotonic() - start < 250  # nobody waits for a process that is gone
    for rank in "01":
        assert len(list(tmp_path.glob(f"{rank}-*"))) == 3  # replaced twice, both of them


# --- in one process -------------------------------------------------------------------------------


def trial_with(seed: int = 0, **options: Any) -> lab.Trial:
    cell = lab.Cell("decoupled", 1e-2, 0.1, seed)
    return lab.Trial(cell, base=OptimizerKind("adamw"), fabric=options)


@pytest.mark.parametrize(
    ("precision", "weights", "inside"),
    [
        ("32-true", torch.float32, torch.float32),
        ("bf16-mixed", torch.float32, torch.bfloat16),
        ("bf16-true", torch.bfloat16, torch.bfloat16),
    ],
)
def test_the_precision_is_the_sweeps(
    precision: str, weights: torch.dtype, inside: torch.dtype
) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    trial = trial_with(precision=precision)
    model = net()
    optimizer = trial.optimizer(model)
    seen = []
    model[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    wrapped, wrapping = trial.fabric.setup(model, optimizer)
    fit(wrapped, wrapping, trial.fabric.backward, slice(None))
    assert {p.dtype for p in model.parameters()} == {weights}
    assert set(seen) == {inside}
    assert trial.steps == 15


def resumable(trial: lab.Trial, at: int, order: str) -> float:
    model = net()
    if order == "optimizer last":
        wrapped = trial.fabric.setup_module(model)
        optimizer = trial.fabric.setup_optimizers(trial.optimizer(wrapped))
    else:
        wrapped, optimizer = trial.fabric.setup(model, trial.optimizer(model))
    for epoch in trial.epochs(3):
        fit(wrapped, optimizer, trial.fabric.backward, slice(None))
        if epoch == at:
            raise KeyboardInterrupt
    return float(wrapped(X).detach().double().square().sum())


@pytest.mark.parametrize("order", ["optimizer first", "optimizer last"])
@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_under_fabric_a_training_goes_on_to_the_same_bits(
    precision: str, order: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    monkeypatch.setattr("halflife.lab.trials.trial._CHECKPOINT_EVERY", 0.0)
    options = {"precision": precision}
    piece = Portion((lab.Cell("stable", 1e-2, 0.01, 0),))

    def trained(at: int, folder: Path | None) -> Outcome:
        train = partial(resumable, at=at, order=order)
        job = Job(train, OptimizerKind("adamw"), (LOSS,), folder, options)
        return run_portion(job, piece)[0]

    undisturbed = trained(-1, None)
    assert undisturbed.status == "done", undisturbed.error
    with pytest.raises(KeyboardInterrupt):
        trained(1, tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    resumed = trained(-1, tmp_path)
    assert (resumed.metrics, resumed.fraction) == (undisturbed.metrics, undisturbed.fraction)


def test_the_scale_of_float16_is_in_no_checkpoint() -> None:
    trial = trial_with(precision="16-mixed")
    trial.optimizer(net())
    assert "float16" in trial._checkpoint.unknown()


def test_the_device_is_the_trials() -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    trial = trial_with()
    assert trial.fabric.device == trial.device == torch.device("cpu")
    assert trial.fabric is trial.fabric


@pytest.mark.parametrize(
    ("device", "rank", "world", "expected"),
    [
        ("cpu", 0, 1, {"accelerator": "cpu", "devices": 1}),
        ("cuda", 0, 1, {"accelerator": "cuda", "devices": [0]}),
        ("cuda:3", 0, 1, {"accelerator": "cuda", "devices": [3]}),
        ("cpu", 1, 2, {"accelerator": "cpu", "devices": 2, "strategy": "ddp"}),
        # The second pair of processes: both say the same, and each finds its own by its rank.
        ("cuda:2", 0, 2, {"accelerator": "cuda", "devices": [2, 3], "strategy": "ddp"}),
        ("cuda:3", 1, 2, {"accelerator": "cuda", "devices": [2, 3], "strategy": "ddp"}),
    ],
)
def test_where_a_process_trains(
    device: str, rank: int, world: int, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCAL_RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(world))
    assert placed(torch.device(device)) == expected


def test_samplers_of_several_processes_shuffle_by_the_trials_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Lightning's take 0 where they are told of none, for every trial."""
    pytest.importorskip("lightning", reason="needs the extra lightning")
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")
    loader = DataLoader(TensorDataset(X), shuffle=True)
    seeds = []
    for seed in (3, 4):
        fabric = trial_with(seed).fabric
        sampler = fabric._get_distributed_sampler(loader, num_replicas=2, rank=0)
        seeds.append(sampler.seed)
    assert seeds == [3, 4]


def test_an_option_that_is_the_executors_is_refused() -> None:
    pytest.importorskip("lightning", reason="needs the extra lightning")
    with pytest.raises(ValueError, match=r"fabric=\{'devices': \.\.\.\}.*lab\.Local"):
        _ = trial_with(devices=2).fabric


def test_without_lightning_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lightning.fabric", None)
    expected = r"^trial\.fabric needs the extra 'lightning'.*torch-halflife\[lightning\]$"
    with pytest.raises(ImportError, match=expected):
        _ = trial_with().fabric
