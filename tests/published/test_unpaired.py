"""CycleGAN's and CUT's files against their networks, written out."""

import pytest
import torch
from published_translators import critic, near, of_critic, of_residual, residual, write
from torch.nn import functional as F

from gans.published.checkpoint import imported


def taps(side):
    row = torch.tensor({3: [1.0, 2, 1], 4: [1.0, 3, 3, 1]}[side])
    return torch.outer(row, row) / row.sum() ** 2 * (4 if side == 4 else 1)


def smooth(held, generator):
    """The same weights at the places that they have among CUT's filters; strides are gone."""
    blocks = sum(name.endswith(".conv_block.1.weight") for name in held)
    places = {8: 7, 12: 10} if generator else {3: 2, 7: 5, 11: 8, 14: 11}
    filters = {7: (8, 3), 11: (16, 3), 12 + blocks: (16, 4), 16 + blocks: (8, 4)}
    if generator:
        places |= {12 + block: 10 + block for block in range(blocks)}
        places |= {13 + blocks: 10 + blocks, 17 + blocks: 13 + blocks, 21 + blocks: 17 + blocks}
    else:
        filters = {2: (2, 3), 6: (4, 3), 10: (8, 3)}
    back = {old: new for new, old in places.items()}
    found = {}
    for name, value in held.items():
        number = int(name.split(".")[1])
        upwards = generator and value.ndim == 4 and number in (10 + blocks, 13 + blocks)
        found[name.replace(f".{number}.", f".{back.get(number, number)}.", 1)] = (
            value.transpose(0, 1).contiguous() if upwards else value  # plain convolutions behind the enlargement
        )
    for place, (width, side) in filters.items():
        found[f"model.{place}.filt"] = taps(side).expand(width, 1, side, side).clone()
    return found


def halved(x):
    return F.conv2d(F.pad(x, [1] * 4, "reflect"), taps(3).expand(x.shape[1], 1, 3, 3), stride=2, groups=x.shape[1])


def doubled(x):
    kernel = taps(4).expand(x.shape[1], 1, 4, 4)
    x = F.conv_transpose2d(F.pad(x, [1] * 4, "replicate"), kernel, stride=2, padding=2, groups=x.shape[1])
    return x[:, :, 1:-1, 1:-1]


def of_smooth(held, x):
    def layer(name, x, padding=0):
        return F.instance_norm(F.conv2d(x, held[f"{name}.weight"], held[f"{name}.bias"], padding=padding))

    blocks = sum(name.endswith(".conv_block.1.weight") for name in held)
    x = layer("model.1", F.pad(x, [3] * 4, "reflect")).relu()
    for name in ("model.4", "model.8"):
        x = halved(layer(name, x, 1).relu())
    for block in range(blocks):
        name = f"model.{12 + block}.conv_block"
        inner = layer(f"{name}.1", F.pad(x, [1] * 4, "reflect")).relu()
        x = x + layer(f"{name}.5", F.pad(inner, [1] * 4, "reflect"))
    for number in (13, 17):
        x = layer(f"model.{number + blocks}", doubled(x), 1).relu()
    name = f"model.{21 + blocks}"
    return F.conv2d(F.pad(x, [3] * 4, "reflect"), held[f"{name}.weight"], held[f"{name}.bias"]).tanh()


def of_smooth_critic(held, x):
    for number, index in enumerate((0, 3, 7, 11)):
        x = F.conv2d(x, held[f"model.{index}.weight"], held[f"model.{index}.bias"], padding=1)
        x = F.leaky_relu(F.instance_norm(x) if index else x, 0.2)
        x = halved(x) if number < 3 else x
    return F.conv2d(x, held["model.14.weight"], held["model.14.bias"], padding=1)


def heads(stages=(3, 4, 8, 8, 8), length=6):
    torch.manual_seed(2)
    found = {}
    for number, width in enumerate(stages):
        for index, inputs in ((0, width), (2, length)):
            found[f"mlp_{number}.{index}.weight"] = torch.randn(length, inputs)
            found[f"mlp_{number}.{index}.bias"] = torch.randn(length)
    return found


def images(channels=3):
    return torch.rand(2, channels, 32, 32) * 2 - 1


def test_both_directions_of_cyclegan(tmp_path):
    there, back = residual("instance", given=1, made=3), residual("old instance", given=3, made=1)
    critics = critic("instance", 3), critic("instance", 1)
    files = [write(tmp_path / f"{number}.pth", held) for number, held in enumerate((there, *critics, back))]
    model = imported(None, *files[:2], back_discriminator=files[2], back=files[3])
    assert (model.origin["kind"], model.origin["missing"]) == ("cyclegan", [])
    with torch.no_grad():
        source, target = images(1), images(3)
        near(model(source), of_residual(there, source))
        near(model.back(target), of_residual(back, target))
        near(model.discriminator.there(target), of_critic(critics[0], target))
        near(model.discriminator.back(source), of_critic(critics[1], source))


def test_one_direction_is_enough(tmp_path):
    held = residual("instance", given=3)
    model = imported("cyclegan", write(tmp_path / "G.pth", held), back_discriminator=None)
    wanted = ["generator.back", "generator_ema.back", "discriminator.there", "discriminator.back"]
    assert model.origin["missing"] == wanted
    with torch.no_grad():
        given = images()
        near(model(given), of_residual(held, given))


def test_cut_with_its_filters_and_heads(tmp_path):
    generator, judge = smooth(residual("instance", given=3, blocks=5), True), smooth(critic("instance", 3), False)
    files = [write(tmp_path / f"{name}.pth", held) for name, held in (("G", generator), ("D", judge), ("F", heads()))]
    model = imported(None, *files[:2], heads=files[2])
    assert (model.origin["kind"], model.origin["missing"], model.hparams["antialias"]) == ("cut", [], True)
    given, held = images(), heads()
    with torch.no_grad():
        near(model(given), of_smooth(generator, given))
        near(model.discriminator(given), of_smooth_critic(judge, given))
        maps = [torch.randn(1, 8, 2, 2)] * 5
        maps[:2] = [torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2)]
        bias = generator["model.4.bias"]  # theirs is in the maps, ours in the head
        vectors = model.heads(maps, [torch.tensor([[1, 2]])] * 5)
        row = (maps[1].flatten(2)[0, :, 2] + bias) @ held["mlp_1.0.weight"].T + held["mlp_1.0.bias"]
        row = row.relu() @ held["mlp_1.2.weight"].T + held["mlp_1.2.bias"]
        near(vectors[1][0, 1], row / row.norm())


def test_cut_without_filters_is_told_by_its_kind(tmp_path):
    path = write(tmp_path / "G.pth", residual("instance", given=3))
    assert imported(None, path).origin["kind"] == "cyclegan"
    model = imported("cut", path)
    assert (model.hparams["antialias"], model.origin["missing"]) == (False, ["discriminator", "heads"])


def without(held, *names):
    return {name: value for name, value in held.items() if name not in names}


CUT = smooth(residual("instance", given=3), True)
FAULTS = [
    ("cut", {**CUT, "model.7.filt": torch.ones(8, 1, 3, 3)}, {}, r"model\.7\.filt is no filter of CUT's"),
    ("cut", without(CUT, "model.14.filt"), {}, "has 2 filters that halve and 1 that double; expected 2 and 2"),
    ("cut", CUT, {"discriminator": critic("instance", 3)}, r"other\.pth has no filters, unlike the generator"),
    (
        "cut",
        smooth(residual("instance", given=3, blocks=5), True),
        {"heads": critic("instance", 3)},
        r"other\.pth has no mlp_0: --heads names a file of netF",
    ),
    (
        "cut",
        CUT,
        {"heads": heads()},
        r"G\.pth has 2 blocks and antialias True; expected, for heads, a generator with f",
    ),
    ("cut", residual("instance", given=1), {}, r"G\.pth makes 3 channels of 1; expected as many"),
    ("cyclegan", CUT, {}, r"G\.pth is no checkpoint of the kind cyclegan: it is of the kind cut"),
    (
        "cyclegan",
        residual("batch"),
        {},
        "no checkpoint of the kind cyclegan: it is of the kind pix2pix or pix2pix-batch",
    ),
    (
        "cyclegan",
        residual("instance", given=3),
        {"back": residual("instance", width=3, given=3)},
        r"other\.pth has width 3; expected width 2, for the way back",
    ),
    ("cyclegan", residual("instance"), {"heads": CUT}, "heads is .*; expected none, for a file of the kind cyclegan"),
]


@pytest.mark.parametrize(("kind", "held", "others", "says"), FAULTS)
def test_what_does_not_fit_is_named(tmp_path, kind, held, others, says):
    given = {part: write(tmp_path / "other.pth", value) for part, value in others.items()}
    with pytest.raises(ValueError, match=says):
        imported(kind, write(tmp_path / "G.pth", held), **given)
