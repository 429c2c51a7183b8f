"""Degradations: what each does to an image, their seeds, chains, masks, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import DegradedDigitsDataModule, DegradedFolderDataModule
from datamodules.degrade import Chain
from datamodules.grammar import KNOWN
from datamodules.masks import KINDS
from datamodules.steps import STEPS


def photo(height=48, width=64):
    random = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 6, 8, generator=random)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def apply(text, image=None, key=1):
    image = photo() if image is None else image
    return Chain(text, tuple(image.shape[-2:]), len(image))(image, key)


def error(one, other):
    return float((one.double() - other.double()).square().mean().sqrt())


def test_every_step_is_there():
    assert set(STEPS) | {"mask"} == set(KNOWN)


@pytest.mark.parametrize("text", ["noise 0..50", "poisson 5..50", "blur 0.5..3", "jpeg 5..40", "dark 0.1..0.9"])
def test_a_key_decides(text):
    first, again, other = (apply(text, key=key) for key in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.dtype == torch.uint8
    assert first.shape == photo().shape


def test_noise_has_the_deviation_that_is_asked_for():
    grey = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    for sigma in (5, 20):
        assert error(apply(f"noise {sigma}", grey), grey) == pytest.approx(sigma, rel=0.05)


def test_poisson_noise_grows_with_light():
    bright, dim = (torch.full((1, 64, 64), value, dtype=torch.uint8) for value in (200, 50))
    expected = [255 * (value / 255 / 100) ** 0.5 for value in (200, 50)]  # 100 photons at 255
    assert [error(apply("poisson 100", image), image) for image in (bright, dim)] == pytest.approx(expected, rel=0.05)


def test_light_is_linear_under_the_curve():
    image = torch.full((1, 4, 4), 200, dtype=torch.uint8)
    assert int(apply("dark 0.25", image)[0, 0, 0]) == round(200 * 0.25 ** (1 / 2.2))


def test_grey_is_that_of_pillow():
    grey = apply("grey")
    expected = np.array(Image.fromarray(photo().permute(1, 2, 0).numpy()).convert("L"))
    assert grey.shape == (3, 48, 64)
    assert (grey.int() - torch.from_numpy(expected).int()).abs().max() <= 1


def test_blur_keeps_the_mean_and_takes_the_detail():
    random = torch.randint(0, 256, (3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert apply("blur 2", random).double().var() < random.double().var() / 10
    assert apply("blur 2", random).double().mean() == pytest.approx(float(random.double().mean()), abs=2)
    assert torch.equal(apply("blur 0", random), random)


@pytest.mark.parametrize("text", ["blur 2", "noise 50", "poisson 20", "dark 0.2", "grey", "invert"])
def test_what_changes_colours_leaves_alpha_alone(text):
    alpha = torch.randint(0, 256, (1, 48, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    changed = apply(text, torch.cat([photo(), alpha]))
    assert torch.equal(changed[3:], alpha)
    assert torch.equal(changed[:3], apply(text))
    assert torch.equal(
        apply(f"{text}, downscale 2 box", torch.cat([photo(), alpha]))[3:], apply("downscale 2 box", alpha)
    )


def test_whole_numbers_are_drawn_evenly():
    sides = [apply("downscale 1..4 nearest, downscale 1, enlarge nearest", key=key).float() for key in range(400)]
    shrunk = [tuple(apply(f"downscale {n} nearest, enlarge nearest").flatten().tolist()) for n in (1, 2, 3, 4)]
    counts = [sum(tuple(image.int().flatten().tolist()) == one for image in sides) for one in shrunk]
    assert sum(counts) == 400
    assert min(counts) > 75
    assert max(counts) < 125


def test_compression_is_worse_with_less_quality():
    assert error(apply("jpeg 10"), photo()) > 2 * error(apply("jpeg 90"), photo())


@pytest.mark.parametrize("kernel", ["bicubic", "bilinear", "box", "nearest"])
def test_scales(kernel):
    small = apply(f"downscale 4 {kernel}")
    assert small.shape == (3, 12, 16)
    assert error(apply(f"downscale 4 {kernel}, enlarge bicubic"), photo()) < 20
    assert apply(f"downscale 4 {kernel}, enlarge").shape == (3, 48, 64)
    if kernel == "box":
        means = photo().float().unfold(1, 4, 4).unfold(2, 4, 4).mean((-1, -2))
        assert error(small, means) < 0.5


def test_other_looks_of_a_picture():
    assert torch.equal(apply("invert"), 255 - photo())
    square = photo()[:, :, :48]
    assert (apply("rotate 90", square).int() - square.rot90(1, (1, 2)).int()).abs().max() <= 1
    white = torch.full((3, 4, 4), 255, dtype=torch.uint8)
    colours = {tuple(apply("tint", white, key)[:, 0, 0].tolist()) for key in range(60)}
    assert len(colours) > 50
    assert all(max(colour) == 255 and min(colour) == 0 for colour in colours)
    assert {colour.index(255) for colour in colours} == {0, 1, 2}


def test_steps_come_in_the_order_of_the_text():
    first, last = apply("noise 30, blur 2"), apply("blur 2, noise 30")
    assert error(last, photo()) > 2 * error(first, photo())


def test_a_step_does_not_change_what_the_next_one_draws():
    noise = [apply(text).int() - apply(text.partition(",")[0]).int() for text in ("grey, noise 9", "dark 1, noise 9")]
    assert (noise[0] - noise[1]).abs().float().mean() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(32, 32), (40, 100)])
def test_masks(kind, size):
    chain = Chain(f"mask {kind}", size, 3)
    masks = torch.stack([chain(torch.zeros(3, *size, dtype=torch.uint8), key) for key in range(40)])
    assert masks.dtype == torch.bool
    assert masks.shape == (40, 1, *size)
    shares = masks.float().mean((1, 2, 3))
    assert shares.min() > 0
    assert shares.max() < 1
    assert 0.05 < shares.mean() < 0.6
    assert len({tuple(mask.flatten().tolist()) for mask in masks}) == (1 if kind == "centre" else 40)


def test_mixed_masks_are_of_each_kind_equally_often():
    size, counts = (32, 32), dict.fromkeys(("rectangle", "brush", "irregular"), 0)
    for seed in range(300):
        mask = KINDS["mixed"](size, torch.Generator().manual_seed(seed))
        for kind in counts:
            generator = torch.Generator().manual_seed(seed)
            torch.randint(0, 3, (), generator=generator)  # the choice comes first
            counts[kind] += torch.equal(mask, KINDS[kind](size, generator))
    assert sum(counts.values()) == 300
    assert min(counts.values()) > 70


def digits(degrade, **options):
    data = DegradedDigitsDataModule(degrade, size=16, batch_size=4, **options)
    data.setup()
    return data


def test_training_is_degraded_anew_and_held_out_images_always_alike():
    data = digits("noise 40")
    train, val, test = data._sets
    assert test is val
    assert not torch.equal(train.__getitems__([(3, 1)])[0], train.__getitems__([(3, 2)])[0])
    assert torch.equal(train.__getitems__([(3, 1)])[1], train.__getitems__([(3, 2)])[1])
    for one, other in zip(data.val_dataloader(), digits("noise 40").val_dataloader(), strict=True):
        assert torch.equal(one[0], other[0])
        assert not torch.equal(one[0], one[1])


def test_a_batch_for_inpainting_is_image_and_mask():
    images, masks = next(iter(digits("mask brush").train_dataloader()))
    assert (images.dtype, images.shape, masks.dtype, masks.shape) == (
        torch.uint8,
        (4, 1, 16, 16),
        torch.bool,
        (4, 1, 16, 16),
    )


def test_sources_may_be_smaller():
    source, target = next(iter(digits("downscale 4").train_dataloader()))
    assert (source.shape, target.shape) == ((4, 1, 4, 4), (4, 1, 16, 16))


def test_halves_of_pictures(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, 8:] = (200, 10, 10)
    Image.fromarray(pixels).save(tmp_path / "0.png")
    data = DegradedFolderDataModule(
        tmp_path, "grey", size=8, half="right", batch_size=1, num_workers=0, val_fraction=0, flip=True
    )
    data.setup()
    source, target = next(iter(data.train_dataloader()))
    assert target[0, :, 0, 0].tolist() == [200, 10, 10]
    assert source[0, :, 0, 0].unique().tolist() == [67]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("blurr 2", "degrade names blurr; expected steps of blur, downscale"),
        ("", "degrade names nothing"),
        ("noise", "degrade is noise; expected a number or a range as 1..2 within 0..255"),
        ("noise 5..2", "expected a number or a range"),
        ("jpeg 0", "within 1..100"),
        ("noise 2 bicubic", "expected grey or nothing after noise; see noise 2 >bicubic<"),
        ("downscale 2 sinc", "expected one of bicubic, bilinear, box, nearest after downscale"),
        ("mask", "expected one of rectangle, brush, irregular, centre, mixed, freeform after mask"),
        ("noise 3, mask brush", "expected a mask alone"),
        ("downscale 3", "size is 16x16; expected multiples of 3, the scale in degrade"),
        ("downscale 2..4", "expected one number for downscale, or enlarge after it"),
        ("downscale 1.5, enlarge", "expected whole numbers for downscale"),
        ("jpeg 1.5", "expected whole numbers for jpeg"),
        ("downscale 32, enlarge", "expected a scale that leaves pixels of 16"),
    ],
)
def test_wrong_chains_are_refused(text, says):
    with pytest.raises(ValueError, match=says):
        DegradedDigitsDataModule(text, size=16)


def test_alpha_has_no_jpeg():
    with pytest.raises(ValueError, match="expected no jpeg, which has no fourth channel"):
        Chain("jpeg 20", (8, 8), 4)
    with pytest.raises(ValueError, match="expected 3 channels for tint, not 1"):
        Chain("tint", (8, 8), 1)
