"""Batches: every row once, the same again, shared and resumed bit for bit; what is held out."""

from __future__ import annotations

import pytest
import torch

from halflife.lab.data import (
    Augmentation,
    Chain,
    Cutout,
    Dataset,
    PadCropFlip,
    RandomResizedCrop,
    Split,
    batch_count,
    batches,
    hold_out,
    images_per_second,
    load,
    statistics,
    trained_per_second,
)

ROWS = 50


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (ROWS, 3, 8, 8), generator=generator, dtype=torch.uint8)
    return Split(images, torch.arange(ROWS), *statistics(images))


AUGMENT = Chain(PadCropFlip(pad=2), Cutout(3))


def both(iterator):
    pairs = list(iterator)
    return [x for x, _ in pairs], [y for _, y in pairs]


def same(a, b):
    return len(a) == len(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# --- order ----------------------------------------------------------------------------------------


def test_every_row_is_seen_once_an_epoch(split):
    for epoch in range(3):
        _, targets = both(batches(split, 8, seed=1, epoch=epoch, drop_last=False))
        assert [len(y) for y in targets] == [8] * 6 + [2]
        assert torch.cat(targets).sort().values.tolist() == list(range(ROWS))


def test_the_last_partial_batch_is_dropped_or_kept(split):
    _, dropped = both(batches(split, 8, seed=1))
    _, kept = both(batches(split, 8, seed=1, drop_last=False))
    assert len(dropped) == batch_count(ROWS, 8) == 6
    assert len(kept) == batch_count(ROWS, 8, drop_last=False) == 7
    assert same(dropped, kept[:6])


def test_without_shuffling_rows_come_as_they_are(split):
    images, targets = both(batches(split, 16, shuffle=False, drop_last=False))
    assert torch.cat(targets).tolist() == list(range(ROWS))
    pixels = torch.cat(images) * split.std.view(3, 1, 1) + split.mean.view(3, 1, 1)
    torch.testing.assert_close(pixels * 255, split.inputs.float(), rtol=0, atol=1e-4)


def test_order_and_augmentation_follow_from_seed_and_epoch_alone(split):
    torch.manual_seed(5)
    first = both(batches(split, 8, seed=1, epoch=2, augment=AUGMENT))
    torch.manual_seed(6)
    list(batches(split, 8, seed=1, epoch=1, augment=AUGMENT))
    again = both(batches(split, 8, seed=1, epoch=2, augment=AUGMENT))
    assert same(first[0], again[0])
    assert same(first[1], again[1])
    for seed, epoch in ((2, 2), (1, 3)):
        _, other = both(batches(split, 8, seed=seed, epoch=epoch, augment=AUGMENT))
        assert not same(first[1], other)


@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_the_global_generator_is_left_alone(split):
    state = torch.random.get_rng_state()
    for workers in (0, 1):
        list(batches(split, 8, augment=AUGMENT, workers=workers))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_rows_of_one_step_have_numbers_of_their_own(split):
    same_images = Split(split.inputs[:1].expand(ROWS, -1, -1, -1), split.targets)
    images, _ = both(batches(same_images, 25, augment=PadCropFlip(pad=2)))
    # 25 corners and two sides: two images, or two steps, that agree in all rows do not happen.
    assert len({image.numpy().tobytes() for image in images[0]}) > 10
    assert not torch.equal(images[0], images[1])


# --- resuming and sharing -------------------------------------------------------------------------


@pytest.mark.parametrize("start", [0, 1, 5, 6, 9])
@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
def test_a_start_drops_the_first_batches_and_changes_no_bit(split, start, workers):
    whole = both(batches(split, 8, seed=3, epoch=1, augment=AUGMENT))
    rest = both(batches(split, 8, seed=3, epoch=1, augment=AUGMENT, start=start, workers=workers))
    assert same(rest[0], whole[0][start:])
    assert same(rest[1], whole[1][start:])


@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_each_batch(split, world, drop_last):
    settings = {"seed": 4, "augment": AUGMENT, "drop_last": drop_last}
    images, targets = both(batches(split, 8, **settings))
    for rank in range(world):
        own = both(batches(split, 8, rank=rank, world=world, **settings))
        assert same(own[0], [x[rank::world] for x in images])
        assert same(own[1], [y[rank::world] for y in targets])


def test_a_process_may_find_no_rows_in_a_partial_batch(split):
    own = both(batches(split, 16, rank=3, world=4, drop_last=False))[1]
    assert [len(y) for y in own] == [4, 4, 4, 0]


# --- what comes out -------------------------------------------------------------------------------


def test_bytes_become_normalised_floats(split):
    x, y = next(batches(split, 10, augment=AUGMENT))
    assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
    assert x.shape == (10, 3, 8, 8)


def test_cutout_is_zero_after_normalisation_to_half_a_grey_level(split):
    x, _ = next(batches(split, ROWS, augment=Cutout(16), shuffle=False))
    middle = x.abs()[:, :, 3:5, 3:5]  # a square of 16 covers the middle of 8 x 8 always
    assert bool((middle <= (0.5 / 255 / split.std).view(3, 1, 1) + 1e-6).all())


def test_images_may_be_resized(split):
    x, _ = next(batches(split, 10, augment=Chain(RandomResizedCrop(6), Cutout(2))))
    assert x.shape == (10, 3, 6, 6)


def test_floats_are_left_as_they_are():
    signals = Split(torch.randn(20, 40), torch.arange(20))
    x, y = next(batches(signals, 5))
    assert torch.equal(x, signals.inputs[y])


def test_an_augmentation_of_ones_own(split):
    class Darker(Augmentation):
        draws = 1

        def apply(self, images, uniform, colour):
            return (images * uniform.view(-1, 1, 1, 1)).to(torch.uint8)

    plain = Split(split.inputs, split.targets)
    x, y = next(batches(plain, 10, augment=Chain(Darker(), Cutout(1))))
    assert bool((x <= split.inputs[y].float() / 255).all())


def test_by_pixel(split):
    parts = Dataset("x", split, None, split, ("a",)).normalised_by(
        *statistics(split.inputs, "pixel")
    )
    x, _ = next(batches(parts.train, ROWS, augment=Cutout(2)))
    assert x.shape == (ROWS, 3, 8, 8)
    x, _ = next(batches(parts.train, ROWS))
    assert x.mean(0).abs().max() < 1e-5


def test_a_device_gets_the_same(split):
    ours = both(batches(split, 8, augment=AUGMENT))
    there = both(batches(split, 8, augment=AUGMENT, device="cpu"))
    assert same(ours[0], there[0])


# --- what is held out -----------------------------------------------------------------------------


def test_held_out_rows_are_disjoint_stratified_and_stable():
    targets = torch.tensor([0] * 500 + [1] * 300 + [2] * 200)[torch.randperm(1000)]
    kept, held = hold_out(targets, 100, seed=0)
    assert sorted([*kept.tolist(), *held.tolist()]) == list(range(1000))
    assert targets[held].bincount().tolist() == [50, 30, 20]
    assert torch.equal(hold_out(targets, 0.1, seed=0)[1], held)
    assert not torch.equal(hold_out(targets, 0.1, seed=1)[1], held)


def test_rounded_shares_add_up():
    targets = torch.arange(10).repeat_interleave(7)
    for count in range(70):
        _, held = hold_out(targets, count, seed=0)
        assert len(held) == count
        each = targets[held].bincount(minlength=10)
        assert each.max() - each.min() <= 1


def test_the_official_test_set_is_never_touched():
    whole, data = load("digits", validation=0), load("digits", validation=0.2, seed=3)
    assert whole.validation is None
    assert torch.equal(whole.test.inputs, data.test.inputs)
    assert len(data.train) + len(data.validation) == len(whole.train)
    rows = {image.numpy().tobytes() for image in whole.train.inputs}
    assert {i.numpy().tobytes() for i in data.train.inputs} <= rows
    assert {i.numpy().tobytes() for i in data.validation.inputs} <= rows


def test_digits_are_scikit_learns():
    from sklearn.datasets import load_digits as sklearn_digits

    pixels, labels = sklearn_digits(return_X_y=True)
    data = load("digits", validation=0)
    assert torch.cat([data.train.targets, data.test.targets]).bincount().tolist() == (
        torch.from_numpy(labels).bincount().tolist()
    )
    ours = torch.cat([data.train.inputs, data.test.inputs]).flatten(1).double() / 15
    order = sorted(map(tuple, ours.tolist()))
    assert order == sorted(map(tuple, pixels.tolist()))
    # 360 of 1797, by class: of 178 to 183 images each, to the nearest whole ones that add up.
    share = torch.from_numpy(labels).bincount() * 360 / 1797
    assert (data.test.targets.bincount() - share).abs().max() < 1
    assert len(data.test) == 360


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer >= 1, got 0"),
        ({"batch_size": 51}, "batch_size must be at most the split's 50 rows, got 51"),
        ({"batch_size": 9, "world": 2}, "batch_size must be a multiple of world=2, got 9"),
        ({"rank": 2, "world": 2}, "rank must be below world=2, got 2"),
        ({"rank": -1}, "rank must be an integer >= 0"),
        ({"start": -1}, "start must be an integer >= 0"),
        ({"workers": -1}, "workers must be an integer >= 0"),
    ],
)
def test_arguments_are_checked_before_anything_is_read(split, settings, message):
    with pytest.raises(ValueError, match=message):
        batches(split, **{"batch_size": 8, **settings})


@pytest.mark.parametrize("validation", [-1, 1, 1.5, 20, 21, True, "0.1"])
def test_rows_must_be_left(validation):
    if validation == 1 and validation is not True:
        assert len(hold_out(torch.arange(20), 1, 0)[1]) == 1
        return
    with pytest.raises(ValueError, match="validation must be a share below 1 or a number of rows"):
        hold_out(torch.arange(20), validation, 0)


def test_names_and_settings_are_checked():
    with pytest.raises(ValueError, match=r"unknown data set; .*did you mean 'cifar10'"):
        load("cifar-10")
    with pytest.raises(
        ValueError, match=r"validation=0\.1: the data set 'ptb' has no such setting"
    ):
        load("ptb", validation=0.1)
    with pytest.raises(ValueError, match="'text' must be a file"):
        load("text")
    with pytest.raises(ValueError, match="targets: 3 of them must be as many as the inputs, 2"):
        Split(torch.zeros(2), torch.zeros(3))


# --- how fast -------------------------------------------------------------------------------------


def test_rates_are_measured(split):
    assert images_per_second(split, 8, AUGMENT, seconds=0.02) > 0
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, ROWS))
    assert trained_per_second(model, split, 8, seconds=0.02) > 0
