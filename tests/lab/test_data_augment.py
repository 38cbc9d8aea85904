"""Augmentation by its definitions, image by image."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from halflife.lab.data import (
    CentreCrop,
    Chain,
    Cutout,
    Flip,
    Pad,
    PadCropFlip,
    RandomResizedCrop,
    normalise,
    resampled,
    statistics,
)
from halflife.lab.data.boxes import first_boxed

BLACK = torch.zeros(3, dtype=torch.uint8)


def images(rows=6, height=7, width=5, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (rows, 3, height, width), generator=generator, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# --- pad, crop, flip ------------------------------------------------------------------------------

BORDERS = {"black": "constant", "mean": "constant", "reflect": "reflect"}


def padded(image, pad, border, colour):
    """One image padded by NumPy."""
    channels = []
    for channel, fill in zip(image.numpy(), colour.tolist(), strict=True):
        how = {"constant_values": fill} if border != "reflect" else {}
        channels.append(np.pad(channel, pad, mode=BORDERS[border], **how))
    return torch.from_numpy(np.stack(channels))


@pytest.mark.parametrize("border", BORDERS)
@pytest.mark.parametrize("pad", [1, 4])
def test_every_corner_gives_its_window_of_the_padded_image(border, pad):
    batch = images(1)
    colour = torch.tensor([9, 99, 199], dtype=torch.uint8) if border == "mean" else BLACK
    whole = padded(batch[0], pad, border, colour)
    sides = 2 * pad + 1
    crop = PadCropFlip(pad=pad, border=border)
    for down in range(sides):
        for across in range(sides):
            window = whole[:, down : down + 7, across : across + 5]
            for flip, expected in ((0.9, window), (0.1, window.flip(2))):
                u = [(down + 0.5) / sides, (across + 0.5) / sides, flip]
                got = crop.apply(batch, torch.tensor([u], dtype=torch.float64), colour)
                assert torch.equal(got[0], expected)


@pytest.mark.parametrize("border", BORDERS)
def test_padding(border):
    batch, colour = images(2), torch.tensor([9, 99, 199], dtype=torch.uint8)
    got = Pad(2, border)(batch, colour=colour)
    fill = colour if border == "mean" else BLACK
    assert torch.equal(got[1], padded(batch[1], 2, border, fill))


def test_corners_and_flips_are_uniform_and_independent_for_each_image():
    # Its middle pixel, which no flip moves, tells the corner; its neighbours tell the flip.
    batch = torch.arange(1, 82, dtype=torch.uint8).view(1, 1, 9, 9).expand(20_000, 1, 9, 9)
    crop = PadCropFlip(pad=4)
    uniform = torch.rand(20_000, 3, generator=seeded(), dtype=torch.float64)
    got = crop.apply(batch, uniform, BLACK[:1])[:, 0].int()
    assert torch.equal(got, crop(batch, seeded())[:, 0].int())  # as it draws itself
    corner = got[:, 4, 4] - 1
    flipped = (got[:, 4, 3] == corner + 2) | (got[:, 4, 5] == corner)
    straight = (got[:, 4, 5] == corner + 2) | (got[:, 4, 3] == corner)
    assert bool((flipped ^ straight).all())
    # 81 corners, two sides: 161 degrees of freedom, four standard deviations.
    counts = torch.bincount(2 * corner + flipped.int(), minlength=162).double()
    expected = 20_000 / 162
    assert float(((counts - expected) ** 2 / expected).sum()) < 161 + 4 * math.sqrt(2 * 161)


def test_the_largest_number_stays_inside():
    u = torch.full((1, 3), 1 - 2**-53, dtype=torch.float64)
    batch = images(1)
    got = PadCropFlip(pad=4).apply(batch, u, BLACK)
    assert torch.equal(got[0], padded(batch[0], 4, "black", BLACK)[:, 8:15, 8:13])
    Cutout(16).apply(batch, u[:, :2], BLACK)


def test_without_flips_nothing_is_flipped():
    batch = torch.arange(1, 65, dtype=torch.uint8).view(1, 1, 8, 8).expand(100, 1, 8, 8)
    crop = PadCropFlip(pad=1, flip=False)
    assert crop.draws == 2
    inner = crop(batch, seeded())[:, 0, 3, 2:6].int()
    assert torch.equal(inner.diff(dim=1), torch.ones(100, 3, dtype=torch.int32))


@pytest.mark.parametrize(
    "augment",
    [PadCropFlip(), PadCropFlip(border="reflect"), Flip(), Cutout(4), RandomResizedCrop(6),
     CentreCrop(4), Chain(PadCropFlip(), Cutout(4))],
    ids=repr,
)  # fmt: skip
def test_bytes_stay_bytes_and_a_seed_repeats(augment):
    batch = images(12, 8, 8)
    before = batch.clone()
    first, again = augment(batch, seeded(1)), augment(batch, seeded(1))
    assert first.dtype == torch.uint8
    assert torch.equal(first, again)
    assert torch.equal(batch, before)
    if augment.draws:
        assert not torch.equal(first, augment(batch, seeded(2)))


@pytest.mark.parametrize("augment", [PadCropFlip(), Cutout(4), RandomResizedCrop(6)], ids=repr)
def test_an_image_depends_on_its_own_numbers_alone(augment):
    batch = images(8, 8, 8)
    uniform = torch.rand(8, augment.draws, dtype=torch.float64)
    whole = augment.apply(batch, uniform, BLACK)
    order = torch.tensor([5, 2, 7])
    assert torch.equal(augment.apply(batch[order], uniform[order], BLACK), whole[order])


def test_chains_in_chains_are_one():
    flat = Chain(Flip(), PadCropFlip(pad=1), Cutout(2))
    nested = Chain(Chain(Flip()), Chain(Chain(PadCropFlip(pad=1)), Cutout(2)))
    assert nested.steps == flat.steps
    assert nested.draws == flat.draws == 1 + 3 + 2
    batch = images(9)
    assert torch.equal(flat(batch, seeded()), nested(batch, seeded()))
    steps = torch.rand(9, 6, generator=seeded(), dtype=torch.float64).split([1, 3, 2], 1)
    for step, u in zip(flat.steps, steps, strict=True):
        batch = step.apply(batch, u, BLACK)
    assert torch.equal(batch, nested(images(9), seeded()))


def test_flips():
    batch = images(400)
    got = Flip()(batch, seeded())
    flipped = (got == batch.flip(3)).flatten(1).all(1)
    same = (got == batch).flatten(1).all(1)
    assert bool((flipped ^ same).all())
    assert abs(flipped.double().mean() - 0.5) < 0.1
    assert torch.equal(Flip(share=1.0)(batch, seeded()), batch.flip(3))


# --- cutout ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3, 4, 16])
def test_cutout_is_a_square_about_a_pixel_clipped_at_the_border(length):
    batch, colour = images(1), torch.tensor([1, 2, 3], dtype=torch.uint8)
    for y in range(7):
        for x in range(5):
            u = torch.tensor([[(y + 0.5) / 7, (x + 0.5) / 5]], dtype=torch.float64)
            got = Cutout(length).apply(batch, u, colour)[0]
            # DeVries & Taylor's own clipping of the square's ends.
            y1, x1 = max(0, y - length // 2), max(0, x - length // 2)
            y2 = min(7, y - length // 2 + length)
            x2 = min(5, x - length // 2 + length)
            expected = batch[0].clone()
            expected[:, y1:y2, x1:x2] = colour[:, None, None]
            assert torch.equal(got, expected)


def test_cutout_centres_are_uniform():
    batch = torch.full((21_000, 1, 7, 5), 255, dtype=torch.uint8)
    got = Cutout(1)(batch, seeded())
    counts = (got == 0).sum(0)[0].flatten().double()
    assert counts.sum() == 21_000
    chi = float(((counts - 600) ** 2 / 600).sum())
    assert chi < 34 + 4 * math.sqrt(2 * 34)


# --- random resized crops -------------------------------------------------------------------------


def test_areas_and_aspects_have_their_distributions():
    crop = RandomResizedCrop(8, scale=(0.08, 0.5))  # small enough to fit nearly always
    uniform = torch.rand(20_000, crop.draws, generator=seeded(), dtype=torch.float64)
    boxes = crop.boxes(torch.tensor([1000, 1000]).expand(20_000, 2), uniform)
    left, top, width, height = boxes.unbind(1)
    assert bool((left >= 0).all())
    assert bool((top >= 0).all())
    assert bool((left + width <= 1000).all())
    assert bool((top + height <= 1000).all())
    assert torch.equal(boxes, boxes.round())
    share = (width * height / 1e6 - 0.08) / 0.42
    aspect = ((width / height).log() - math.log(3 / 4)) / math.log(16 / 9)
    for value in (share, aspect, left / (1001 - width), top / (1001 - height)):
        ordered = value.sort().values
        uniform_quantiles = (torch.arange(20_000) + 0.5) / 20_000
        # Kolmogorov and Smirnov at 1e-4: 2.23 / sqrt(n); and the rounding to whole pixels.
        assert (ordered - uniform_quantiles).abs().max() < 2.23 / math.sqrt(20_000) + 0.004
    assert abs(np.corrcoef(share, aspect)[0, 1]) < 0.05


def test_attempts_are_taken_in_turn_and_the_last_resort_is_central():
    crop = RandomResizedCrop(8)
    sizes = torch.tensor([[10, 100]])  # a square of area above a tenth does not fit
    u = torch.zeros(1, crop.draws, dtype=torch.float64)
    middle = math.log(4 / 3) / math.log(16 / 9)  # the aspect ratio of 1
    u[0, 0:20:2] = 0.9
    u[0, 1:20:2] = middle
    # None of ten fits: the widest central box that the ratios allow.
    width = round(10 * 4 / 3)
    assert crop.boxes(sizes, u).tolist() == [[(100 - width) // 2, 0, width, 10]]
    tall = crop.boxes(sizes.flip(1), u).tolist()
    assert tall == [[0, (100 - width) // 2, 10, width]]
    u[0, 6] = 0.0  # the fourth attempt: 8 % of 1000 pixels
    side = round(math.sqrt(80))
    u[0, -3], u[0, -2] = 0.5, 0.999
    assert crop.boxes(sizes, u).tolist() == [
        [math.floor(0.5 * (101 - side)), 10 - side, side, side]
    ]


def test_an_image_within_the_ratios_is_taken_whole_as_the_last_resort():
    crop = RandomResizedCrop(8, scale=(1.0, 1.0), ratio=(0.5, 2.0))
    u = torch.zeros(1, crop.draws, dtype=torch.float64)  # aspect 0.5: of 80 pixels' area, 6 x 13
    assert crop.boxes(torch.tensor([[8, 10]]), u).tolist() == [[0, 0, 10, 8]]


def test_flips_of_random_crops():
    batch = images(200, 8, 8)
    crop, plain = RandomResizedCrop(8), RandomResizedCrop(8, flip=False)
    u = torch.rand(200, crop.draws, dtype=torch.float64)
    got, unflipped = crop.apply(batch, u, BLACK), plain.apply(batch, u, BLACK)
    which = u[:, -1] < 0.5
    assert torch.equal(got[which], unflipped[which].flip(3))
    assert torch.equal(got[~which], unflipped[~which])


def test_a_box_of_the_results_size_is_copied():
    batch = images(2, 9, 9)
    boxes = torch.tensor([[1.0, 2, 5, 5], [4, 0, 5, 5]])
    got = resampled(batch, boxes, 5)
    assert torch.equal(got[0], batch[0, :, 2:7, 1:6])
    assert torch.equal(got[1], batch[1, :, 0:5, 4:9])


@pytest.mark.parametrize("box", [(0, 0, 40, 30), (3, 5, 20, 11), (7, 2, 9, 27), (0, 0, 3, 4)])
@pytest.mark.parametrize("beyond", [False, True])
@pytest.mark.parametrize("size", [6, 24])
def test_resampling_is_pillows(box, beyond, size):
    """To one grey level: Pillow rounds between its two passes."""
    pillow = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install pillow")
    batch = images(1, 30, 40)
    picture = pillow.fromarray(batch[0].permute(1, 2, 0).numpy())
    left, top, width, height = box
    edges = (left, top, left + width, top + height)
    how = pillow.Resampling.BILINEAR
    if beyond:
        expected = picture.resize((size, size), how, box=edges)
    else:
        expected = picture.crop(edges).resize((size, size), how)
    got = resampled(batch, torch.tensor([box], dtype=torch.float64), size, beyond=beyond)
    difference = got[0].permute(1, 2, 0).int() - torch.from_numpy(np.array(expected)).int()
    assert difference.abs().max() <= 1


def test_centre_crop_of_224_is_that_of_256_resized():
    # Exact where both are whole pixels: 256 high, no resizing; 512 high, half of it.
    crop = CentreCrop(224)
    sizes = torch.tensor([[256, 256], [512, 640], [640, 512], [224, 300]])
    expected = [[16, 16, 224, 224], [96, 32, 448, 448], [32, 96, 448, 448], [52, 14, 196, 196]]
    assert crop.boxes(sizes, torch.empty(4, 0)).tolist() == expected


def test_only_a_first_box_brings_many_sizes_to_one():
    crop = RandomResizedCrop(8)
    assert first_boxed((crop, Flip())) is crop
    assert first_boxed((Flip(), crop)) is None
    assert first_boxed(()) is None


# --- normalisation --------------------------------------------------------------------------------


def test_normalised_images_have_mean_0_and_variance_1():
    batch = images(50)
    for by in ("channel", "pixel"):
        mean, std = statistics(batch, by)
        x = normalise(batch, mean, std).double()
        dims = (0, 2, 3) if by == "channel" else 0
        assert x.mean(dims).abs().max() < 1e-6
        assert (x.var(dims, correction=0) - 1).abs().max() < 1e-5
    assert mean.shape == (3, 7, 5)


def test_normalise_by_definition():
    batch = images(3)
    mean, std = torch.tensor([0.1, 0.2, 0.3]), torch.tensor([0.5, 0.6, 0.7])
    expected = (batch.double() / 255 - mean.view(3, 1, 1).double()) / std.view(3, 1, 1).double()
    got = normalise(batch, mean, std)
    assert got.dtype == torch.float32
    # Grey levels in single precision: some units in the last place.
    torch.testing.assert_close(got.double(), expected, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(normalise(batch, None, None), batch.float() / 255)
    floats = torch.randn(4, 3, 2, 2)
    before = floats.clone()
    torch.testing.assert_close(
        normalise(floats, mean, std), (floats - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    )
    assert torch.equal(floats, before)


def test_what_does_not_vary_becomes_zero():
    batch = torch.full((4, 2, 3, 3), 7, dtype=torch.uint8)
    mean, std = statistics(batch)
    assert std.tolist() == [1.0, 1.0]
    assert normalise(batch, mean, std).abs().max() == 0


def test_statistics_of_many_rows_are_of_equally_distant_ones():
    rows = torch.arange(200_000, dtype=torch.int64) % 256
    mean, std = statistics(rows.to(torch.uint8).view(-1, 1, 1, 1))
    assert abs(mean.item() - 0.5) < 0.01
    assert abs(std.item() - math.sqrt(1 / 12)) < 0.01


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PadCropFlip(pad=0), "pad must be an integer >= 1, got 0"),
        (lambda: Pad(0), "pad must be an integer >= 1, got 0"),
        (lambda: Pad(1, "edge"), "border must be one of"),
        (lambda: PadCropFlip(border="edge"), "border must be one of black, mean, reflect"),
        (lambda: PadCropFlip(pad=7, border="reflect")(images()), "pad must be less than the image"),
        (lambda: Cutout(0), "length must be an integer >= 1"),
        (lambda: RandomResizedCrop(0), "size must be an integer >= 1"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 0.1)), "scale must be ascending"),
        (lambda: RandomResizedCrop(8, scale=(0.5, 1.5)), "scale must be ascending"),
        (lambda: RandomResizedCrop(8, ratio=(0.0, 1.5)), "ratio must be ascending"),
        (lambda: CentreCrop(8, resize=7), "resize must be an integer >= 8"),
        (lambda: statistics(images(), by="row"), "by must be 'channel' or 'pixel', got 'row'"),
    ],
)
def test_arguments_are_checked(make, message):
    with pytest.raises(ValueError, match=message):
        make()
