"""The table that tells an extractor that knows its data from one that sees nothing but pixels."""

import math

import pytest
import torch

from gans.metrics import sanity
from gans.networks.classifier import Classifier

torch.set_num_threads(1)


def bars(count, seed):
    """Four classes of 12x12 images: a bright bar on one of four rows, at a random place, in some noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    images = torch.rand(count, 1, 12, 12, generator=generator) * 40
    for image, label, start in zip(images, labels, torch.randint(0, 6, (count,), generator=generator), strict=True):
        image[0, 3 * label : 3 * label + 2, start : start + 6] += 180
    return images.to(torch.uint8), labels


def knows(images):
    """Features of an observer that knows the classes: on which of the four rows it is bright."""
    return images.float().reshape(len(images), 4, -1).mean(2) / 10


def looks_at_edges(images):
    """Features of one that sees only how sharp and bright an image is."""
    pixels = images.float()[:, 0]
    steps = [pixels.diff(dim=dim).square().mean((1, 2)) / 100 for dim in (1, 2)]
    return torch.stack([*steps, pixels.mean((1, 2))], 1)


def random_network(images):
    torch.manual_seed(0)
    with torch.no_grad():
        return Classifier(1, 8, 16, 4).eval()(images / 127.5 - 1)[0]


def table(extract):
    return sanity.sanity(extract, bars(600, 0)[0], *bars(600, 1))


@pytest.fixture(scope="module")
def informed():
    return table(knows)


def test_rows(informed):
    assert list(informed) == [
        "none",
        "blur 0.4",
        "blur 0.8",
        "blur 2",
        "noise 4",
        "noise 16",
        "noise 64",
        "a class missing",
        "half missing",
        "one class alone",
        "500 distinct",
        "100 distinct",
        "5 distinct",
    ]
    assert informed["none"] < 0.1 < informed["a class missing"]
    for names in (("noise 4", "noise 64"), ("a class missing", "half missing", "one class alone")):
        values = [informed[name] for name in names]
        assert values == sorted(values)
    assert informed["5 distinct"] > informed["100 distinct"]


def test_only_who_knows_the_classes_passes(informed):
    assert sanity.passes(informed)
    assert not sanity.passes(table(looks_at_edges))
    assert not sanity.passes(table(random_network))


def test_the_verdict_is_a_ratio_of_two():
    assert sanity.passes({"one class alone": 2.01, "blur 0.8": 1.0})
    assert not sanity.passes({"one class alone": 2.0, "blur 0.8": 1.0})
    assert not sanity.passes({"one class alone": math.nan, "blur 0.8": 1.0})


def test_rows_are_what_they_say():
    """Features that are means of an image, so that FID is known: squared distance of means plus that of deviations."""
    labels = bars(400, 1)[1]
    flat = (labels * 50)[:, None, None, None].expand(-1, 1, 12, 12).to(torch.uint8)  # a class is a grey: 0 50 100 150
    reference = bars(400, 0)[0]

    def mean(images):
        return images.double().mean((1, 2, 3))[:, None]

    def distance(images):
        a, b = mean(images), mean(reference)
        return float((a.mean() - b.mean()).square() + (a.std() - b.std()).square())

    found = sanity.sanity(mean, reference, flat, labels)
    assert found["none"] == found["blur 2"] == pytest.approx(distance(flat))
    assert found["a class missing"] == pytest.approx(distance(flat[labels > 0]))
    assert found["half missing"] == pytest.approx(distance(flat[labels > 1]))
    assert found["one class alone"] == pytest.approx(distance(flat[labels > 2]))
    assert "500 distinct" not in found
    assert "100 distinct" in found


def test_the_seed_decides_and_nothing_else():
    before = torch.get_rng_state()
    one, again = table(knows), table(knows)
    other = sanity.sanity(knows, bars(600, 0)[0], *bars(600, 1), seed=1)
    assert one == again != other
    assert torch.equal(torch.get_rng_state(), before)


def test_damage():
    images = torch.full((50, 1, 40, 40), 128, dtype=torch.uint8)
    noisy = sanity.noisy(images, 16, torch.Generator().manual_seed(0))
    assert float(noisy.float().std()) == pytest.approx(16, rel=0.02)
    assert float(noisy.float().mean()) == pytest.approx(128, abs=0.2)
    assert sanity.noisy(images * 0 + 255, 64, torch.Generator()).max() == 255, "clipped, not wrapped"

    point = torch.zeros(1, 1, 21, 21, dtype=torch.uint8)
    point[0, 0, 10, 10] = 255
    across = torch.arange(-10, 11).double()
    for sigma in (0.8, 2.0):
        gauss = torch.exp(-(across**2) / (2 * sigma**2))
        gauss /= gauss[(across.abs() <= math.ceil(3 * sigma))].sum()
        exact = 255 * gauss[:, None] * gauss * (across.abs() <= math.ceil(3 * sigma))
        blurred = sanity.blurred(point, sigma)[0, 0]
        assert (blurred[10] - exact[10]).abs().max() < 0.51
    assert sanity.blurred(point[:, :, :8, :8], 3.0).shape == (1, 1, 8, 8), "a kernel wider than the image"


def test_samples_are_drawn_at_random(monkeypatch):
    monkeypatch.setattr(sanity, "SAMPLES", 10)
    images = torch.arange(100)[:, None]
    drawn = sanity.drawn(images, torch.Generator().manual_seed(0))[:, 0]
    assert len(set(drawn.tolist())) == 10
    assert drawn.max() > 50
    assert len(sanity.drawn(images[:5], torch.Generator())) == 5


def test_one_class_is_refused():
    images, labels = bars(40, 0)
    with pytest.raises(ValueError, match="labels have 1 classes; expected at least 2"):
        sanity.sanity(knows, images, images, labels * 0)
