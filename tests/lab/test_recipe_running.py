"""What a run computes is what its recipe says, however it is cut, split or averaged."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import recipe_runs
import torch
import torch.nn.functional as F
from recipe_runs import apart, losses, text_in, tiny
from test_data_imagenet import imagenet32

from halflife.lab.data import batches, load, load_imagenet, load_imagenet32, windows
from halflife.lab.recipes import RECIPES, building, recipe
from halflife.lab.recipes.building import (
    changed,
    data_of,
    model_of,
    optimizer_of,
    schedulers_of,
    small,
    snapshot_steps,
)
from halflife.lab.recipes.cost import cost
from halflife.lab.recipes.entry import AUGMENTATIONS
from halflife.lab.recipes.folder import RunError, RunFolder, runs_below
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train

pytest.importorskip("lightning.fabric")

PLAIN = tiny(recipe(recipe_runs.PLAIN))
CPU = Options(accelerator="cpu", log_every=1)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """The model of the newest checkpoint."""
    latest = folder / (folder / "latest").read_text()
    found: dict[str, torch.Tensor] = torch.load(latest / "state", weights_only=True)["model"]
    return found


def pictures(folder: Path) -> None:
    """A true folder of ImageNet, of eight pictures."""
    images = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    for split in ("train", "val"):
        for name in ("n01440764", "n01443537"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                picture = images.new("RGB", (40 + 9 * number, 50), (40 * number, 90, 30))
                picture.save(folder / split / name / f"{name}_{number}.JPEG")


def own(folder: Path) -> dict:
    latest = folder / (folder / "latest").read_text()
    return torch.load(latest / "process-0.pt", weights_only=True)


def by_hand(recipe, steps, smoothing=0.0, after=lambda model: None):
    """The recipe in a plain loop; its losses and its model."""
    data = load(recipe.data, validation=0)
    torch.manual_seed(0)
    model = model_of(recipe, data, CPU).to(memory_format=torch.channels_last)
    per_epoch = len(data.train) // recipe.batch_size
    optimizer = optimizer_of(recipe, model, per_epoch)
    schedulers = schedulers_of(recipe, optimizer, per_epoch)
    found = []
    for step in range(steps):
        epoch, place = divmod(step, per_epoch)
        if place == 0:
            feed = batches(
                data.train, recipe.batch_size, epoch=epoch, augment=AUGMENTATIONS[recipe.augment]
            )
        x, y = next(feed)
        loss = F.cross_entropy(model(x), y, label_smoothing=smoothing)
        (recipe.loss_scale * loss).backward()
        if recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.clip)
        optimizer.step()
        optimizer.zero_grad()
        for scheduler in schedulers:
            scheduler.step()
        found.append(loss.item())
        after(model)
    return found, model


def test_batch_norm_over_epochs_and_a_cut_is_the_plain_loop(tmp_path):
    """Three epochs of three steps, evaluated after each, cut in the second: none of it is seen."""
    chosen = changed(tiny(recipe("004/resnet20-cifar10/adamw")), epochs=3, batch_size=479)
    train(chosen, tmp_path, replace(CPU, until=5))
    result = train(chosen, tmp_path, CPU, resume=True)
    wanted, model = by_hand(chosen, 9)
    assert losses(tmp_path) == list(enumerate(wanted, 1))
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, model.state_dict()[name]), name
    data = load("digits", validation=0)
    with torch.no_grad():
        x, y = next(batches(data.test, 360, shuffle=False, drop_last=False))
        assert result["test_loss"] == pytest.approx(F.cross_entropy(model.eval()(x), y).item())


def test_a_text_over_epochs_is_the_plain_loop(tmp_path):
    """A state is carried from window to window, and not into the next epoch."""
    text = tmp_path / "text.txt"
    text.write_text(18 * recipe_runs.TEXT)
    chosen = changed(tiny(recipe("000/lstm-ptb/adams")), epochs=3)
    chosen = replace(chosen, model_settings={**chosen.model_settings, "dropout": 0.0})
    options = replace(CPU, root=str(text))
    data = data_of(chosen, options)
    torch.manual_seed(0)
    model = model_of(chosen, data, options)
    optimizer = optimizer_of(chosen, model, 1)
    wanted = []
    for _ in range(3):
        state = None
        for x, y in windows(data.train.inputs, chosen.batch_size, chosen.time):
            logits, state = model(x, state)
            state = [s.detach() for s in state]
            loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), chosen.clip)
            optimizer.step()
            optimizer.zero_grad()
            wanted.append(loss.item())
    per_epoch = len(wanted) // 3
    assert per_epoch >= 3
    train(chosen, tmp_path / "run", replace(options, until=per_epoch + 1))
    train(chosen, tmp_path / "run", options, resume=True)
    assert losses(tmp_path / "run") == list(enumerate(wanted, 1))


def test_a_recurrent_state_in_mixed_precision(tmp_path):
    """Fabric casts what a model is given, its state too; its weights are in float32."""
    options = replace(CPU, root=text_in(tmp_path), precision="bf16-mixed", until=3)
    train(tiny(recipe("000/lstm-ptb/adams")), tmp_path / "run", options)
    assert all(math.isfinite(x) for _, x in losses(tmp_path / "run"))


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"label_smoothing": 0.1},
        {"clip": 0.01},
        {"loss_scale": 100.0},
        {"schedule": "warmup-cosine:0.01"},
        {"schedule": "restarts:0.005*2", "normalized": True},
        {"decay_schedule": "exponential"},
        {"algorithm": "adams"},
    ],
    ids=str,
)
def test_a_run_is_the_plain_loop_of_its_recipe(fields, tmp_path):
    chosen = replace(PLAIN, **fields)
    train(chosen, tmp_path, replace(CPU, until=4))
    wanted, model = by_hand(chosen, 4, smoothing=chosen.label_smoothing)
    assert losses(tmp_path) == list(enumerate(wanted, 1))
    for name, value in weights(tmp_path).items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_the_lr_that_is_logged_is_the_one_of_its_step(tmp_path):
    chosen = changed(replace(PLAIN, schedule="linear"), epochs=1)
    train(chosen, tmp_path, replace(CPU, until=3))
    total = 1437 // chosen.batch_size
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    for step in range(3):
        assert lines[step]["lr"] == pytest.approx(chosen.lr * (1 - step / total), rel=1e-12)


def test_pieces_of_a_batch_are_the_batch(tmp_path):
    """Without batch norm the gradient is the mean over rows; 3 pieces of 8 rows are 3, 3 and 2."""
    train(PLAIN, tmp_path / "whole", replace(CPU, until=3))
    train(PLAIN, tmp_path / "pieces", replace(CPU, until=3, accumulate=3))
    whole, pieces = losses(tmp_path / "whole"), losses(tmp_path / "pieces")
    assert [x for _, x in pieces] == pytest.approx([x for _, x in whole], rel=1e-4)
    with pytest.raises(ValueError, match=r"^accumulate=9: a process has 8 rows of a batch; pass"):
        train(PLAIN, tmp_path / "more", replace(CPU, accumulate=9))


def test_a_recurrent_state_is_carried_for_each_piece(tmp_path):
    """In pieces, with no dropout: the same losses, as each stream keeps its own state."""
    chosen = tiny(recipe("000/lstm-ptb/adams"))
    chosen = replace(chosen, model_settings={**chosen.model_settings, "dropout": 0.0})
    options = replace(CPU, root=text_in(tmp_path), until=4)
    train(chosen, tmp_path / "whole", options)
    train(chosen, tmp_path / "pieces", replace(options, accumulate=2))
    whole, pieces = losses(tmp_path / "whole"), losses(tmp_path / "pieces")
    assert [x for _, x in pieces] == pytest.approx([x for _, x in whole], rel=1e-4)


def test_the_average_is_the_one_by_hand(tmp_path):
    average = {}

    def follow(model):
        for name, value in model.state_dict().items():
            average[name] = 0.9 * average[name] + 0.1 * value

    data = data_of(PLAIN, CPU)
    torch.manual_seed(0)
    average |= copy.deepcopy(model_of(PLAIN, data, CPU).state_dict())
    by_hand(PLAIN, 3, after=follow)
    train(PLAIN, tmp_path, replace(CPU, ema=0.9, until=3))
    found = own(tmp_path)["average"]
    for name, value in average.items():
        torch.testing.assert_close(found[name], value, rtol=1e-5, atol=1e-7)


def test_an_average_of_half_precision_weights_is_kept_in_float32(tmp_path):
    """At 0.999 a bfloat16 average would stand still: its spacing is 2^-8, and a step 2^-10."""
    train(PLAIN, tmp_path, replace(CPU, precision="bf16-true", ema=0.999, until=3))
    assert {v.dtype for v in weights(tmp_path).values()} == {torch.bfloat16}
    average = own(tmp_path)["average"]
    assert {v.dtype for v in average.values()} == {torch.float32}
    train(PLAIN, tmp_path / "on", replace(CPU, precision="bf16-true", ema=0.999, until=2))
    train(
        PLAIN, tmp_path / "on", replace(CPU, precision="bf16-true", ema=0.999, until=3), resume=True
    )
    assert not apart(tmp_path, tmp_path / "on")


def test_mixed_precision_keeps_weights_in_float32(tmp_path):
    train(PLAIN, tmp_path / "half", replace(CPU, precision="bf16-mixed", until=3))
    train(PLAIN, tmp_path / "full", replace(CPU, until=3))
    assert {v.dtype for v in weights(tmp_path / "half").values()} == {torch.float32}
    half, full = losses(tmp_path / "half"), losses(tmp_path / "full")
    assert half != full
    assert [x for _, x in half] == pytest.approx([x for _, x in full], rel=0.05)


def test_the_callers_determinism_is_left_alone(tmp_path):
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        train(PLAIN, tmp_path, replace(CPU, until=1, deterministic=True))
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_the_callers_generators_are_left_alone(tmp_path):
    torch.manual_seed(3)
    wanted = torch.rand(2)
    torch.manual_seed(3)
    train(PLAIN, tmp_path, replace(CPU, until=1))
    assert torch.equal(torch.rand(2), wanted)


def test_snapshots_are_kept_where_cycles_end(tmp_path):
    chosen = replace(changed(PLAIN, epochs=1), schedule="restarts:0.01*2", batch_size=128)
    steps = 1437 // 128
    first = math.ceil(0.01 * steps)
    assert first == 1
    wanted = {1, 3, 7}  # cycles of 1, 2 and 4 steps; the next would end at 15, of 11
    assert snapshot_steps(chosen, steps) == wanted
    result = train(chosen, tmp_path, CPU)
    kept = {int(path.name[8:]) for path in tmp_path.glob("weights-*")}
    assert kept == wanted | {steps}
    last = torch.load(tmp_path / f"weights-{steps:09d}", weights_only=True)["model"]
    for name, value in weights(tmp_path).items():
        assert torch.equal(last[name], value)
    data = data_of(chosen, CPU)
    model = model_of(chosen, data, CPU)
    model.load_state_dict(last)
    with torch.no_grad():
        x, y = next(batches(data.test, 360, shuffle=False, drop_last=False))
        logits = model.eval()(x)
    assert result["test_loss"] == pytest.approx(F.cross_entropy(logits, y).item(), rel=1e-5)
    error = 100 * (logits.argmax(-1) != y).double().mean().item()
    assert result["test_error"] == pytest.approx(error, rel=1e-6)
    assert json.loads((tmp_path / "result.json").read_text()) == result


def test_epochs_end_with_an_evaluation(tmp_path):
    chosen = replace(changed(PLAIN, epochs=2), batch_size=512)
    train(chosen, tmp_path, replace(CPU, validation=137))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    steps = 1300 // 512
    assert [line["step"] for line in lines if "validation_loss" in line] == [steps]
    result = json.loads((tmp_path / "result.json").read_text())
    assert {"validation_error", "test_error", "rows_per_s", "seconds", "peak_mib"} <= result.keys()


@pytest.mark.parametrize("every", [1, 2])
def test_what_was_cut_between_two_writes_goes_on(every, tmp_path):
    """After a checkpoint got its name and before it was the latest; and lines that were cut."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = replace(CPU, checkpoint_every=every)
    train(PLAIN, whole, replace(options, until=4))
    train(PLAIN, cut, replace(options, until=2))
    (cut / "checkpoint-000000003").mkdir()
    (cut / "checkpoint-000000003" / "state").write_text("half of it")
    (cut / "checkpoint-000000004.part").mkdir()
    with open(cut / "metrics.jsonl", "a") as file:
        file.write('{"step": 3, "loss": 9.0}\n{"step": 4, "lo')
    train(PLAIN, cut, replace(options, until=4), resume=True)
    assert not apart(whole, cut)
    assert sorted(p.name for p in cut.glob("checkpoint-*")) == ["checkpoint-000000004"]


def test_a_run_that_was_cut_before_its_first_checkpoint_begins_again(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(PLAIN, whole, replace(CPU, until=2))
    train(PLAIN, cut, replace(CPU, until=2))
    (cut / "latest").unlink()
    train(PLAIN, cut, replace(CPU, until=2), resume=True)
    assert not apart(whole, cut)


def test_a_monitor_watches_if_it_is_asked_to(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = replace(CPU, monitor_every=2)
    train(PLAIN, whole, replace(options, until=6))
    train(PLAIN, cut, replace(options, until=3))
    train(PLAIN, cut, replace(options, until=6), resume=True)
    texts = [(folder / "monitor.jsonl").read_text() for folder in (whole, cut)]
    assert texts[0] == texts[1]
    steps = {json.loads(line)["step"] for line in texts[0].splitlines()}
    assert steps == {1, 2, 4, 6}  # the first one is always looked at
    plain = tmp_path / "plain"
    train(PLAIN, plain, replace(CPU, until=6))
    assert losses(plain) == losses(whole)  # and changes nothing
    assert not (plain / "monitor.jsonl").exists()


def test_a_loss_that_is_no_number_ends_the_run(tmp_path):
    with pytest.raises(
        RunError, match=r"^loss: is no number any more from step \d+ on, at lr=1e\+30"
    ):
        train(replace(PLAIN, lr=1e30, algorithm="sgd_l2"), tmp_path, replace(CPU, until=20))
    last = (tmp_path / "metrics.jsonl").read_text().splitlines()[-1]
    assert json.loads(last)["loss"] is None


def test_another_run_is_not_gone_on_with(tmp_path):
    train(PLAIN, tmp_path, replace(CPU, until=1))
    with pytest.raises(RunError, match=r"^out='.*': holds a run already; go on with it by resume"):
        train(PLAIN, tmp_path, CPU)
    with pytest.raises(RunError, match=r"^lr=0.5: the run in .* was begun with lr=0.001; go on"):
        train(replace(PLAIN, lr=0.5), tmp_path, CPU, resume=True)
    with pytest.raises(RunError, match=r"^seed=3: the run in .* was begun with seed=0"):
        train(PLAIN, tmp_path, replace(CPU, seed=3), resume=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"strategy": "fsdp"}, r"^strategy='fsdp': must be one of auto, ddp, fsdp2; did you mean"),
        ({"precision": "fp16"}, r"^precision='fp16': must be one of 32-true, bf16-mixed, "),
        ({"precision": "16-mixed"}, r"^precision='16-mixed': needs a GPU; pass precision='bf16"),
        ({"devices": 0}, r"^devices must be an integer >= 1, got 0; pass 1 or more"),
        ({"ema": 1.0}, r"^ema=1.0: must be between 0 and 1; pass such as 0.999"),
        ({"ema": 0.9, "strategy": "fsdp2"}, r"^ema=0.9: needs whole weights in each process"),
        ({"monitor_every": 5, "strategy": "fsdp2"}, r"^monitor_every=5: needs whole weights"),
        ({"until": 0}, r"^until must be an integer >= 1, got 0; pass 1 or more, or leave it out"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_run_is_refused(options, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train(PLAIN, tmp_path, Options(accelerator="cpu", **options))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"clip": -1.0}, r"^a: clip must be .* > 0, got -1.0; pass None for no clipping"),
        ({"loss_scale": 0.0}, r"^a: loss_scale must be .* > 0, got 0.0; pass 1"),
        ({"label_smoothing": 1.0}, r"^a: label_smoothing must be in \[0, 1\), got 1.0; pass 0"),
        ({"decay_schedule": "expo"}, r"^a: decay_schedule='expo': must be one of exponential"),
        ({"augment": "crop"}, r"^a: augment='crop': must be one of crop-flip, .*did you mean"),
        ({"data": "cifar"}, r"^a: data='cifar': must be one of cifar10, .*did you mean 'cifar10'"),
        ({"model": "resnet"}, r"^a: model='resnet': must be one of .*did you mean"),
        ({"time": 0}, r"^a: time must be an integer >= 1, got 0; pass the tokens of a window"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_recipe_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, name="a", **fields)


@pytest.mark.parametrize(
    ("chosen", "data", "message"),
    [
        ("000/lstm-ptb/adams", "digits", r"^data='digits': lstm reads a text; name such data"),
        ("000/resnet18-cifar10/adams", "text", r"^data='text': resnet18 reads images; name"),
        ("000/resnet18-cifar10/adams", "mnist1d", r"^data: its rows must be images, got \(40,\);"),
    ],
)  # fmt: skip
def test_data_of_another_kind_is_refused(chosen, data, message, tmp_path):
    options = replace(CPU, root=text_in(tmp_path) if data == "text" else None)
    with pytest.raises(ValueError, match=message):
        train(changed(tiny(recipe(chosen)), data=data), tmp_path / "run", options)
    assert not (tmp_path / "run").exists()


def test_what_is_refused_leaves_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"batch_size"):
        train(replace(PLAIN, batch_size=2000), tmp_path / "run", CPU)
    assert not (tmp_path / "run").exists()


def test_a_run_does_not_go_on_with_other_data(tmp_path):
    """Of the same letters, in another order."""
    chosen = tiny(recipe("000/lstm-ptb/adams"))
    for name, text in (("a", recipe_runs.TEXT), ("b", recipe_runs.TEXT[::-1])):
        (tmp_path / name).write_text(100 * text)
    train(chosen, tmp_path / "run", replace(CPU, root=str(tmp_path / "a"), until=1))
    with pytest.raises(RunError, match=r"^digest='\w+': the run in .* was begun with digest='\w+'"):
        train(chosen, tmp_path / "run", replace(CPU, root=str(tmp_path / "b")), resume=True)
    (tmp_path / "moved").write_text((tmp_path / "a").read_text())
    moved = replace(CPU, root=str(tmp_path / "moved"), until=2)
    assert train(chosen, tmp_path / "run", moved, resume=True)["step"] == 2


def test_parts_of_another_run_are_not_gone_on_with(tmp_path):
    train(PLAIN, tmp_path, replace(CPU, until=1))
    (tmp_path / "run.json").unlink()
    with pytest.raises(RunError, match=r"holds metrics.jsonl of a run without its run.json; name"):
        train(PLAIN, tmp_path, CPU)


def test_a_result_of_steps_that_are_taken_again_is_not_kept(tmp_path):
    chosen = replace(changed(PLAIN, epochs=1), batch_size=512)
    train(chosen, tmp_path, CPU)
    (tmp_path / "latest").unlink()
    train(chosen, tmp_path, replace(CPU, until=1), resume=True)
    assert not (tmp_path / "result.json").exists()
    assert not list(tmp_path.glob("weights-*"))


def test_one_process_trains_in_a_folder(tmp_path):
    holder = RunFolder(tmp_path)
    holder.hold()
    with pytest.raises(RunError, match=r"^out='.*': another process trains in it; wait for it"):
        train(PLAIN, tmp_path, replace(CPU, until=1))
    holder.release()
    train(PLAIN, tmp_path, replace(CPU, until=1))
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"^out='.*file': is a file; name a folder"):
        train(PLAIN, tmp_path / "file", CPU)


@pytest.mark.parametrize("name", ["003/resnet18-imagenet/adamw", "003/vit-s16-imagenet-100/adamw"])
@pytest.mark.parametrize("data", ["imagenet", "imagenet32"])
def test_pictures_in_files_and_in_parts(name, data, tmp_path, monkeypatch):
    """Those of files are cut to 224 pixels; those of ImageNet32 stay as they are."""
    if data == "imagenet":
        pictures(tmp_path)
        read = load_imagenet(tmp_path, verify=False)
    else:
        imagenet32(tmp_path, "stored")
        read = load_imagenet32(tmp_path, verify=False)
    monkeypatch.setattr(building, "load", lambda *args, **settings: read)
    chosen = replace(changed(small(recipe(name)), data=data, batch_size=4))
    model = model_of(chosen, read, CPU)
    side, first = (224, (16, 16)) if data == "imagenet" else (32, (4, 4))
    if chosen.model == "vit-s16":
        assert model.patches.kernel_size == first
    else:  # its first convolution, of ImageNet's stem or CIFAR's
        kernel = next(m for m in model.modules() if isinstance(m, torch.nn.Conv2d)).kernel_size
        assert kernel == ((7, 7) if data == "imagenet" else (3, 3))
    feed = building.feed_of(chosen, read, CPU, rank=0, world=1, device=torch.device("cpu"))
    assert next(feed.steps(0))[0].shape == (4, 3, side, side)
    assert next(feed.evaluated(read.test))[0].shape[1:] == (3, side, side)
    train(chosen, tmp_path / "run", replace(CPU, until=2))
    assert len(losses(tmp_path / "run")) == 2


def test_the_decay_falls_as_published(tmp_path):
    """By 0.99999 a step, whatever the length; in a shorter run to where it ends in the paper's."""
    for length in (100, 300):
        each = recipe(f"003/vit-s16-imagenet-{length}/adamw-d")
        steps = cost(each).steps
        for chosen, taken in ((each, 1000), (changed(each, epochs=1), steps // length)):
            optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 1.0, weight_decay=0.5)
            optimizer.step()
            per_epoch = steps // length
            schedulers = schedulers_of(chosen, optimizer, per_epoch)
            for _ in range(taken):
                schedulers[-1].step()
            factor = optimizer.param_groups[0]["weight_decay"] / 0.5
            fallen = taken if chosen is each else steps
            assert factor == pytest.approx(0.99999**fallen, rel=1e-6)


def test_cost_is_that_of_official_data():
    with pytest.raises(ValueError, match=r"^data='fashion-mnist': the cost is known of cifar10, "):
        cost(small(PLAIN))


def test_transformers_decay_their_matrices_alone(tmp_path):
    chosen = tiny(recipe("own/gpt-text/adamw"))
    options = replace(CPU, root=text_in(tmp_path))
    model = model_of(chosen, data_of(chosen, options), options)
    for group in optimizer_of(chosen, model, 1).param_groups:
        assert group["params"]
        for p in group["params"]:
            assert (group["weight_decay"] > 0) == (p.ndim == 2)


def test_a_validation_part_of_ones_own_is_not_held_out_again():
    with pytest.raises(ValueError, match=r"^validation=0.1: ptb has a validation part of its own"):
        data_of(recipe("000/lstm-ptb/adams"), Options(validation=0.1))


def test_images_are_made_as_large_as_their_model_needs():
    chosen = tiny(recipe("000/vgg16-cifar10/sgd"))
    data, plain = data_of(chosen, CPU), load("digits", validation=0)
    assert data.train.inputs.shape[1:] == (1, 32, 32)
    assert torch.equal(data.train.inputs[:, :, 12:20, 12:20], plain.train.inputs)
    assert int(data.test.inputs.sum()) == int(plain.test.inputs.sum())  # the rest is black
    assert data.train.mean is plain.train.mean or torch.equal(data.train.mean, plain.train.mean)


@pytest.mark.parametrize("each", RECIPES.values(), ids=RECIPES)
def test_small_keeps_what_a_recipe_is_about(each):
    new = small(each)
    same = ("name", "model", "algorithm", "lr", "weight_decay", "settings", "normalized", "clip")
    for field in (*same, "decay_schedule", "loss_scale", "label_smoothing", "time"):
        assert getattr(new, field) == getattr(each, field), field
    assert new.epochs == 1
    assert new.data in ("fashion-mnist", "text")
    whole, short = _curve(each, each.epochs), _curve(new, 1)
    points = (0.1, 0.35, 0.6, 0.9, 0.97)
    # Shares of a run are rounded to whole steps.
    assert [short(p) for p in points] == pytest.approx([whole(p) for p in points], abs=0.02)


def _curve(recipe, epochs):
    from halflife.schedules import schedule_named

    curve = schedule_named(recipe.schedule, 60_000, 60_000 // epochs)
    return lambda share: curve(int(share * 60_000))


def test_runs_are_found_where_they_are(tmp_path):
    train(PLAIN, tmp_path / "a" / "b", replace(CPU, until=1))
    chosen = replace(changed(PLAIN, epochs=1), batch_size=1000)
    train(chosen, tmp_path / "c", CPU)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "run.json").write_text("no JSON")
    found = {path.name: (run, result) for path, run, result in runs_below(tmp_path)}
    assert set(found) == {"b", "c"}
    assert found["b"][1] is None
    assert found["c"][1]["step"] == 1
    assert found["c"][0]["recipe"]["name"] == PLAIN.name


def test_what_is_open_is_not_there(tmp_path):
    folder = RunFolder(tmp_path)
    folder.open("weights-1").write_text("a")
    assert not (tmp_path / "weights-1").exists()
    folder.close("weights-1")
    assert (tmp_path / "weights-1").read_text() == "a"
    assert not folder.open("weights-1").exists()


@pytest.mark.slow
def test_a_compiled_model_trains_and_goes_on(tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    options = replace(CPU, compiled=True)
    train(PLAIN, whole, replace(options, until=3))
    train(PLAIN, cut, replace(options, until=2))
    train(PLAIN, cut, replace(options, until=3), resume=True)
    assert not apart(whole, cut)
    train(PLAIN, tmp_path / "eager", replace(CPU, until=3))
    compiled, eager = losses(whole), losses(tmp_path / "eager")
    assert [x for _, x in compiled] == pytest.approx([x for _, x in eager], rel=1e-4)
