"""The language of degradations: choices and orders, the new steps, Real-ESRGAN's chain, and errors that point."""

from collections import Counter

import pytest
import torch
from PIL import Image

from datamodules import DegradedFolderDataModule, grammar, kernels
from datamodules.degrade import Chain, chosen, steps
from datamodules.grammar import KNOWN, Chained, Choice, parsed
from datamodules.order import mix
from datamodules.presets import PRESETS


def photo(height=48, width=64, channels=3):
    coarse = torch.rand(1, channels, 6, 8, generator=torch.Generator().manual_seed(0))
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic")[0].clamp(0, 1)
    return (smooth * 255).round().to(torch.uint8)


def apply(text, key=1, image=None):
    image = photo() if image is None else image
    return Chain(text, tuple(image.shape[-2:]), len(image))(image, key)


def same(text, other):
    return torch.equal(apply(text), apply(other))


# -- how steps are put together ----------------------------------------------------------------------------------------


def count(text, keys=300):
    """How often each of the results occurs."""
    return Counter(tuple(apply(text, key, photo(4, 4)).flatten().tolist()) for key in range(keys))


def share(text, part):
    return count(text)[tuple(apply(part, 0, photo(4, 4)).flatten().tolist())] / 300


def test_maybe_is_for_a_share_of_the_images():
    assert share("maybe .8 invert", "invert") == pytest.approx(0.8, abs=0.08)
    assert len(count("maybe 0 invert, maybe 1 grey")) == 1
    assert share("maybe .5 (invert, dark 0.5)", "invert, dark .5") == pytest.approx(0.5, abs=0.09)
    assert share("maybe .5 invert or dark .5", "invert") == pytest.approx(0.25, abs=0.08)  # maybe one of the two


def test_or_chooses_with_odds():
    assert share("invert or grey", "grey") == pytest.approx(0.5, abs=0.09)
    assert share("3 invert or 1 grey", "grey") == pytest.approx(0.25, abs=0.08)
    assert share("0 invert or 2 grey", "grey") == 1
    assert share("invert or (maybe .5 grey)", "grey") == pytest.approx(0.25, abs=0.08)
    assert [chosen((1.0, 0.0, 2.0), int(part * 2**63)) for part in (0, 0.33, 0.34, 0.9999999)] == [0, 0, 2, 2]


def test_shuffle_has_both_orders_equally_often():
    found = count("shuffle (dark 0.5, (invert, grey))")
    orders = [apply(text, 0, photo(4, 4)) for text in ("dark .5, invert, grey", "invert, grey, dark .5")]
    counts = [found[tuple(order.flatten().tolist())] for order in orders]
    assert sum(counts) == 300
    assert min(counts) > 120


def test_brackets_are_one_step():
    assert same("(invert), (grey, dark 0.5)", "invert, grey, dark 0.5")
    assert same("  invert ,\n grey", "invert, grey")


def test_what_is_before_a_step_does_not_change_its_draws():
    noise = [apply(f"{text}, noise 9").int() - apply(text).int() for text in ("maybe .5 grey", "dark 1 or dark 1")]
    assert (noise[0] - noise[1]).abs().float().mean() < 1


# -- steps -------------------------------------------------------------------------------------------------------------


def test_a_blur_in_a_window_is_its_kernels():
    image = photo().float() / 255
    for text, kernel in (
        ("blur 2 size 7", kernels.gaussian(7, (2, 2))),
        ("blur 2 generalised 0.5 size 9", kernels.gaussian(9, (2, 2), 0, 0.5)),
        ("blur 1.5 plateau 1.5 size 21", kernels.plateau(21, (1.5, 1.5), 0, 1.5)),
        ("blur 1 plateau 1.5", kernels.plateau(7, (1, 1), 0, 1.5)),
        ("sinc 0.5 size 13", kernels.sinc(13, 0.5)),
    ):
        expected = (kernels.filtered(image, kernel) * 255).round().clamp(0, 255)
        assert (apply(text).float() - expected).abs().max() <= 1, text
    assert same("blur 0 size 7", "blur 0")


def test_sizes_powers_and_angles_are_drawn(monkeypatch):
    drawn = []
    for name in ("gaussian", "plateau"):
        original = getattr(kernels, name)
        monkeypatch.setattr(kernels, name, lambda *args, _of=original: drawn.append(args) or _of(*args))
    chain = Chain("blur 0.5..2 oval generalised 0.5..4 size 7..11", (16, 16), 1)
    for key in range(200):
        chain(photo(16, 16, 1), key)
    sides, deviations, angles, powers = zip(*drawn, strict=True)
    assert set(sides) == {7, 9, 11}
    assert min(Counter(sides).values()) > 45
    first, second = (torch.tensor(axis) for axis in zip(*deviations, strict=True))
    assert 0.5 <= min(first.min(), second.min()) < 0.6
    assert 1.9 < max(first.max(), second.max()) <= 2
    assert abs(float(torch.corrcoef(torch.stack([first, second]))[0, 1])) < 0.25
    assert -3.15 < min(angles) < -2.8
    assert 0.4 < sum(power < 1 for power in powers) / 200 < 0.6  # as in the authors' code
    assert min(powers) < 0.6
    assert max(powers) > 3.7


def test_resizes():
    assert apply("resize .5, resize 1 area of 1/4").shape == (3, 12, 16)
    assert apply("resize 0.01, enlarge").shape == photo().shape
    assert torch.equal(apply("resize 1"), photo())
    image = photo().float()[None]
    for kernel in ("area", "bilinear", "bicubic"):
        small = torch.nn.functional.interpolate(image, (24, 32), mode=kernel)
        back = torch.nn.functional.interpolate(small.clamp(0, 255), (12, 16), mode="area")[0]
        found = apply(f"resize 0.5 {kernel}, resize 1 area of 1/4")
        assert (found.float() - back).abs().max() <= 1
    three = {float(apply("resize 1 any of 1/4", key).float().sum()) for key in range(30)}
    assert len(three) == 3


def test_grey_noise_is_alike_in_all_channels():
    flat = torch.full((3, 32, 32), 128, dtype=torch.uint8)
    for name, strength in (("noise", 20), ("shot", 3)):
        grey, colour = (apply(f"{name} {strength}{word}", 1, flat).float() for word in (" grey", ""))
        assert torch.equal(grey[0], grey[1])
        assert not torch.equal(colour[0], colour[1])
        assert float(grey.std()) == pytest.approx(float(colour.std()), rel=0.1)


def test_shot_noise_is_that_of_as_many_photons_as_there_are_values():
    ramp = torch.arange(256, dtype=torch.uint8).repeat(64, 1)[None]
    flat = torch.full((1, 64, 64), 128, dtype=torch.uint8)
    for image, photons in ((ramp, 256), (flat, 1)):
        noise = (apply("shot 0.5", 1, image).float() - image)[..., 100:140] if photons > 1 else None
        if noise is not None:
            assert float(noise.std()) == pytest.approx(0.5 * 255 * (120 / 255 / photons) ** 0.5, rel=0.1)
        else:
            arrived = (apply("shot 0.5", 1, image).float() - 64).unique()  # 128 + half of (0, 255, ... - 128)
            assert {0, 127, 128} & {int(value) for value in arrived}


def test_alpha_is_left_alone_but_by_resizing():
    image = torch.cat([photo(), photo()[:1]])
    for text in ("blur 2 size 9", "sinc 0.4 size 9", "shot 2", "noise 9 grey"):
        assert torch.equal(apply(text, 1, image)[3:], image[3:])
        assert torch.equal(apply(text, 1, image)[:3], apply(text))


# -- Real-ESRGAN's chain -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_the_real_chain_gives_one_size_and_another_picture_for_each_key(scale):
    chain = Chain(f"real {scale}", (48, 64), 3)
    assert chain.scale == scale
    found = [chain(photo(), key) for key in (*range(12), 0)]
    assert {tuple(image.shape) for image in found} == {(3, 48 // scale, 64 // scale)}
    assert torch.equal(found[0], found[-1])
    assert len({float(image.float().sum()) for image in found}) == 12


def test_the_real_chain_is_the_papers():
    """Its odds: 10 % sinc filters, kinds of kernels, noise in grey two times of five, up, down and kept sizes."""
    tree = parsed("real").parts[0]
    assert parsed("real") == Chained((parsed(PRESETS["real"].replace("SCALE", "4")),))
    assert len(tree.parts) == 8
    for choice in (tree.parts[0], tree.parts[4].parts[0]):
        odds = {"sinc": 0.0, "oval": 0.0, "generalised": 0.0, "plateau": 0.0}
        for step, share in zip(choice.parts, choice.odds, strict=True):
            odds["sinc"] += share * (step.name == "sinc")
            odds["oval"] += share * (step.word == "oval")
            for name in ("generalised", "plateau"):
                odds[name] += share * (name in step.more)
        assert sum(choice.odds) == pytest.approx(1)
        assert odds == pytest.approx(
            {"sinc": 0.1, "oval": 0.9 * 0.31, "generalised": 0.9 * 0.15, "plateau": 0.9 * 0.15}
        )
    assert tree.parts[4].odds == pytest.approx((0.8, 0.2))
    resizes = [[(*part[1:3], share) for part, share in zip(c.parts, c.odds, strict=True)] for c in tree.parts[1::4]]
    assert resizes == [
        [(0.15, 1, 0.7), (1, 1.5, 0.2), (1, 1, 0.1)],
        [(0.3, 1, 0.4), (1, 1.2, 0.3), (1, 1, 0.3)],
    ]
    for noise, sigma, scale in ((tree.parts[2], 30, 3), (tree.parts[6], 25, 2.5)):
        assert isinstance(noise, Choice)
        assert [step.high for step in noise.parts] == [sigma, sigma, scale, scale]
        assert [step.word for step in noise.parts] == ["", "grey", "", "grey"]
        assert noise.odds == (3, 2, 3, 2)
    assert {(step.low, step.high) for step in steps(tree) if step.name == "jpeg"} == {(30, 95)}


def test_steps_of_the_real_chain_are_drawn_from_keys_of_their_own():
    """A chain in a chain mixes the key with its place, so two equal rounds draw different numbers."""
    twice = apply("(noise 20), (noise 20)").float() - photo()
    once = apply("noise 20").float() - photo()
    assert float(torch.corrcoef(torch.stack([twice.flatten(), once.flatten()]))[0, 1]) < 0.8
    assert mix(mix(1, 0), 0) != mix(mix(1, 1), 0)


# -- sharpened targets -------------------------------------------------------------------------------------------------


def save(folder, number):
    for name in range(number):
        Image.fromarray(photo(32, 32).roll(name, -1).permute(1, 2, 0).numpy()).save(folder / f"{name}.png")


def test_training_batches_have_sharpened_targets_and_sources_made_of_them(tmp_path):
    save(tmp_path, 4)
    data = DegradedFolderDataModule(
        tmp_path, "downscale 2", sharpen=0.5, size=32, batch_size=2, num_workers=0, val_size=2
    )
    data.setup()
    source, target, sharp = next(iter(data.train_dataloader()))
    assert torch.equal(sharp, torch.stack([kernels.sharpened(image, 0.5) for image in target]))
    assert not torch.equal(sharp, target)
    assert torch.equal(source, torch.stack([apply("downscale 2", 0, image) for image in sharp]))
    source, target = next(iter(data.val_dataloader()))
    assert torch.equal(source, torch.stack([apply("downscale 2", 0, image) for image in target]))


@pytest.mark.parametrize(
    ("degrade", "options", "says"),
    [
        ("noise 9", {"sharpen": -1}, "sharpen is -1; expected a weight from 0 to 10"),
        (
            "mask brush",
            {"sharpen": 0.5},
            "sharpen is 0.5; expected 0 for a mask, for reverse and for images with alpha",
        ),
        ("grey", {"sharpen": 0.5, "reverse": True}, "sharpen is 0.5; expected 0 for a mask"),
    ],
)
def test_what_cannot_be_sharpened(tmp_path, degrade, options, says):
    save(tmp_path, 1)
    with pytest.raises(ValueError, match=says):
        DegradedFolderDataModule(tmp_path, degrade, **options)


# -- errors ------------------------------------------------------------------------------------------------------------


def test_every_step_is_described():
    assert all(f"\n    {name} " in str(grammar.__doc__) for name in (*KNOWN, *PRESETS))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("noise 3, maybe .8 blurr 2, jpeg 40", "degrade names blurr; .*; see noise 3, maybe .8 >blurr< 2, jpeg 40"),
        ("maybe 2 grey", "degrade has maybe; expected a number within 0..1 after it; see maybe >2< grey"),
        ("maybe grey", "see maybe >grey<"),
        ("grey or", "degrade names nothing; .*see grey or><"),
        ("grey or maybe .5 invert", "expected it in brackets, as in A or .maybe 0.5 B.; see grey or >maybe< .5 invert"),
        (
            "3 grey or invert",
            "expected odds before each step, as in 3 A or 1 B, or before none; see >3< grey or invert",
        ),
        ("3 grey", "expected odds before each step"),
        ("0 grey or 0 invert", "expected odds before each step"),
        ("(" * 5000 + "grey", "degrade has brackets within brackets; expected at most 20 levels; see "),
        ("(grey, noise 3", "degrade has a bracket without an end; expected .; see >.< ?grey, noise 3"),
        (
            "grey), noise 3",
            "degrade has . at the end of a step; expected a comma before the next one; see grey>.<, noi",
        ),
        ("grey (noise 3)", "degrade has a bracket after grey; expected a comma before it; see grey >.<noise 3"),
        ("shuffle grey, invert", "expected steps in brackets after it, as in shuffle .A, B.; see shuffle >grey<, inve"),
        ("shuffle (grey, grey, grey, grey, grey, grey)", "degrade shuffles 6 steps; expected at most 5"),
        ("real 4 3", "degrade has 3 at the end of a step; .* see real 4 >3<"),
        ("real 99", "degrade has real; expected a whole number within 1..64 after it; see real >99<"),
        ("real 3", "size is 16x16; expected multiples of 3, the scale in degrade"),
        ("blur 2 size 4", "degrade is blur 2 size 4; expected odd numbers for size; see blur 2 size >4<"),
        ("blur 2 round", "expected one of oval, generalised, plateau, size after blur; see blur 2 >round<"),
        ("blur 2 oval oval", "see blur 2 oval >oval<"),
        ("blur 2 plateau 1 generalised 1", "expected generalised or plateau, not both"),
        ("blur 2 plateau", "within 0.1..10; see blur 2 plateau><"),
        ("sinc 0.5", "expected size and a number after sinc; see sinc 0.5><"),
        ("resize 0.5", "expected images of one size: end with enlarge, or with resize 1 of 1/4 for a scale of 4"),
        ("maybe .5 downscale 2", "expected one number for downscale, or enlarge after it"),
        ("resize 1 of 4", "expected a part of the clean image such as 1/4 after of; see resize 1 of >4<"),
        ("noise 3, (mask brush)", "expected a mask alone"),
        ("maybe .5 mask brush", "expected a mask alone"),
        ("a " + "grey, " * 30, "see >a< grey, .*[.][.][.]$"),
    ],
)
def test_errors_show_the_wrong_word(text, says):
    with pytest.raises(ValueError, match=says) as caught:
        Chain(text, (16, 16), 3)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 350
