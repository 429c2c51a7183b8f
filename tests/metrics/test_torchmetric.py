"""The metric classes: equal to the functions, on several processes too, and kind to the module that owns them."""

import copy
import pickle
import warnings
from datetime import timedelta

import lightning as L
import pytest
import torch
import torchmetrics.image
from torch import distributed, multiprocessing, nn

from gans.metrics.classifiers import WEIGHTS
from gans.metrics.extractors import extractor as named
from gans.metrics.functional import fid, inception_score, kid, kid_subsets
from gans.metrics.ranges import quantised
from gans.metrics.torchmetric import FID, KID, InceptionScore
from gans.pictures.images import to_float

pytestmark = pytest.mark.filterwarnings("ignore:Metric .* will save all extracted features")
MNIST = WEIGHTS / "mnist.pt"
D = 6


class Given(nn.Identity):
    """Takes features for images, so that a test can say what they are."""

    num_features = D


class Extractor(nn.Module):
    """Features and logits of uint8 images, with everything that a careless owner would change."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(12, D), nn.BatchNorm1d(D), nn.Dropout(0.5), nn.ReLU())
        self.head = nn.Linear(D, 3)
        self.seen = []

    def forward(self, images):
        assert images.dtype == torch.uint8
        self.seen.append(images)
        features = self.layers(images.float() / 255)
        return features, self.head(features)


@pytest.fixture
def extractor():
    torch.manual_seed(0)
    return Extractor()


def draw(n, seed=0):
    return torch.randn(n, D, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def images(n, seed=0):
    return torch.randint(256, (n, 3, 2, 2), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def metrics(feature, **options):
    return (
        FID(feature, input_img_size=(3, 2, 2), **options),
        KID(feature, **options),
        InceptionScore(feature, splits=5, **options),
    )


def feed(metric, batch, real):
    metric.update(batch, real=real) if not isinstance(metric, InceptionScore) else metric.update(batch)


def values(metric):
    result = metric.compute()
    return [value.item() for value in (result if isinstance(result, tuple) else (result,))]


# -- values ------------------------------------------------------------------------------------------------------------


def test_metrics_equal_the_functions():
    real, fake = draw(200), draw(150, 1) + 0.4
    distance, kernel, score = metrics(Given())
    for batch in real.split(64):
        distance.update(batch, real=True)
        kernel.update(batch, real=True)
        score.update(batch)
    for batch in fake.split(7):
        distance.update(batch, real=False)
        kernel.update(batch, real=False)
    before = torch.get_rng_state()
    assert values(distance) == pytest.approx([fid(real, fake).item()], rel=1e-9)
    assert values(kernel) == [kid(real, fake).item(), kid_subsets(real, fake)[1].item()]
    assert values(score) == [value.item() for value in inception_score(real, 5)]
    assert torch.equal(before, torch.get_rng_state())
    assert {distance.compute().dtype, kernel.compute()[0].dtype, score.compute()[0].dtype} == {torch.float64}


@pytest.mark.filterwarnings("ignore:std.*degrees of freedom")
def test_torchmetrics_agree_where_they_are_right():
    pytest.importorskip("torch_fidelity", reason="torch_fidelity is not installed: the extra inception")
    real, fake = draw(300), draw(300, 1) + 0.4
    ours = [FID(Given()), KID(Given(), subsets=1, subset_size=300)]
    theirs = [
        torchmetrics.image.FrechetInceptionDistance(Given()),
        torchmetrics.image.KernelInceptionDistance(Given(), subsets=1, subset_size=300),
    ]
    for one, other in zip(ours, theirs, strict=True):
        assert isinstance(one, type(other))
        for metric in (one, other):
            metric.update(real, real=True)
            metric.update(fake, real=False)
        assert values(one) == pytest.approx(values(other), rel=1e-6, abs=1e-9)
    ours, theirs = InceptionScore(Given(), splits=1), torchmetrics.image.InceptionScore(Given(), splits=1)
    ours.update(real)
    theirs.update(real)
    assert values(ours) == pytest.approx([values(theirs)[0], 0], rel=1e-9)  # their deviation is NaN


def test_kid_takes_subsets_if_asked_to():
    real, fake = draw(80), draw(80, 1) + 0.4
    options = {"degree": 2, "gamma": 0.5, "coef": 2.0}
    metric = KID(Given(), subsets=10, subset_size=30, **options)
    metric.update(real, real=True)
    metric.update(fake, real=False)
    assert values(metric) == [value.item() for value in kid_subsets(real, fake, 10, 30, **options)]
    whole = KID(Given(), **options)
    whole.update(real, real=True)
    whole.update(fake, real=False)
    assert values(whole)[0] == kid(real, fake, **options).item()


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_too_few_samples_are_named():
    for metric, sentence in zip(
        metrics(Given()),
        ["samples are 0; a Gaussian needs", "real features have 0 rows; expected at least 2", "logits have 0 rows"],
        strict=True,
    ):
        with pytest.raises(ValueError, match=sentence):
            metric.compute()
        feed(metric, draw(0), True)  # an empty batch is none


def test_features_that_are_not_finite_are_named():
    for metric, sentence in zip(
        metrics(Given()),
        ["moments of the features contain NaN", "fake features contain NaN or infinity at row 1", "logits contain NaN"],
        strict=True,
    ):
        feed(metric, draw(9), True)
        feed(metric, draw(9).index_fill(0, torch.tensor(1), torch.nan), False)
        with pytest.raises(ValueError, match=sentence):
            metric.compute()


def test_the_real_side_can_be_kept():
    real, fake = draw(50), draw(50, 1)
    for metric in (FID(Given(), reset_real_features=False), KID(Given(), reset_real_features=False)):
        metric.update(real, real=True)
        metric.update(fake + 9, real=False)
        away = values(metric)
        metric.reset()
        metric.update(fake, real=False)
        assert values(metric)[0] < away[0] / 10
    for metric in metrics(Given()):
        feed(metric, real, True)
        metric.reset()
        assert all(not state.any() if torch.is_tensor(state) else state == [] for state in metric.metric_state.values())


# -- images ------------------------------------------------------------------------------------------------------------


def test_floats_are_rounded_and_clipped(extractor):
    levels = torch.arange(256, dtype=torch.uint8).repeat(3)[: 64 * 12].view(64, 3, 2, 2)
    for metric in metrics(extractor, normalize=True):
        there_and_back = ((levels.float() / 127.5 - 1) + 1) / 2  # a generator's [-1, 1], off by rounding
        assert not torch.equal((there_and_back * 255).byte(), levels)
        for floats in (levels.float() / 255, there_and_back, levels.float() / 254.6):
            feed(metric, floats, True)
            assert torch.equal(extractor.seen[-1], levels)
        with pytest.raises(ValueError, match=r"images are in \[-0\.9, -0\.9\]; normalize=True expects \[0, 1\]"):
            feed(metric, torch.full((2, 3, 2, 2), -0.9), True)
        with pytest.raises(ValueError, match=r"images are torch\.uint8; normalize=True expects floats"):
            feed(metric, levels, True)
    for metric in metrics(extractor):
        feed(metric, levels, True)
        assert torch.equal(extractor.seen[-1], levels)


@pytest.mark.parametrize("mine", [True, False])
def test_images_of_another_range_are_refused(extractor, mine):
    bytes_ = images(8)
    unit, signed = bytes_.float() / 255, bytes_.float() / 127.5 - 1
    wrong = [
        ({}, unit, r"images are torch\.float32; expected uint8, or floats with normalize=True for \[0, 1\] or value_"),
        ({}, bytes_.long(), r"images are torch\.int64; expected uint8"),
        ({"normalize": True}, bytes_.float(), r"images are in \[\d+, 25\d\]; normalize=True expects \[0, 1\]"),
        ({"normalize": True}, signed, r"images are in \[-.*, .*\]; normalize=True expects \[0, 1\]"),
        ({"normalize": True}, unit * torch.nan, r"images are in \[nan, nan\]; normalize=True expects"),
        ({"value_range": (-1, 1)}, bytes_.float(), r"images are in .* 25\d\]; value_range=\(-1, 1\) expects \[-1, 1\]"),
        ({"value_range": (-1, 1)}, bytes_, r"images are torch\.uint8; value_range=\(-1, 1\) expects floats"),
        ({"value_range": (0, 255)}, bytes_.float() * 256, r"value_range=\(0, 255\) expects \[0, 255\]"),
    ]
    for options, given, told in wrong:
        for metric in metrics(extractor if mine else "mnist", **options):
            for real in (True, False):
                with pytest.raises(ValueError, match=told):
                    feed(metric, given, real)
                assert not mine or extractor.seen == [] or extractor.seen[-1].max() == 0  # the width's black image


def overshot(pixels):
    pixels[3, 1, 0, 1] = 2.5
    return pixels


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"normalize": True}, overshot(images(40) / 255)),
        ({"normalize": True}, torch.full((9, 3, 2, 2), 0.01)),
        ({"value_range": (-1, 1)}, torch.full((9, 3, 2, 2), 1.0)),
        ({"value_range": (-1, 1)}, torch.full((9, 3, 2, 2), -1.0)),
        ({"value_range": (-1, 1)}, images(40) / 510 + 0.5),
    ],
)
def test_bright_dark_and_constant_images_and_outliers_are_of_the_range(extractor, options, given):
    for metric in metrics(extractor, **options):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            feed(metric, given, True)
        assert torch.equal(extractor.seen[-1], quantised(given, metric.value_range))


def test_images_of_every_range_give_the_same_scores(extractor):
    real, fake = images(40), images(40, 1)
    ways = [
        ({}, lambda pixels: pixels),
        ({"normalize": True}, lambda pixels: pixels.float() / 255),
        ({"value_range": (-1, 1)}, to_float),
        ({"value_range": (-1, 1)}, lambda pixels: to_float(pixels).double()),
        ({"value_range": (0, 255)}, lambda pixels: pixels.float()),
    ]
    found = []
    for options, given in ways:
        for metric in metrics(extractor, **options):
            feed(metric, given(real), True)
            feed(metric, given(fake), False)
            found.append(values(metric))
    assert found == found[:3] * len(ways)


@pytest.mark.parametrize(
    ("options", "given", "told"),
    [
        ({"value_range": (-1, 1)}, images(9).float() / 255, r"without a negative value; value_range=\(-1, 1\) expects"),
        ({"value_range": (0, 255)}, images(9).float() / 255, r"all black; value_range=\(0, 255\) expects"),
        ({}, images(9) % 2, r"images are in \[0, 1\], all black; uint8 expects \[0, 255\]"),
    ],
)
def test_images_that_look_like_another_range_are_warned_of_once(extractor, options, given, told):
    for metric in metrics(extractor, **options):
        with pytest.warns(UserWarning, match=told) as caught:
            feed(metric, given, True)
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            feed(metric, given, True)


def test_a_name_or_a_file_is_an_extractor(extractor):
    for name in ("mnist", "random", str(MNIST), MNIST):
        assert FID(name).real_features_sum.shape == (named(name).num_features,)
    there = FID("mnist", value_range=(-1, 1))
    there.update(to_float(images(30)), real=True)
    there.update(to_float(images(30, 1)), real=False)
    by_module = FID(named("mnist"))
    by_module.update(images(30), real=True)
    by_module.update(images(30, 1), real=False)
    assert values(there) == values(by_module)
    with pytest.raises(ValueError, match=r"extractor is mnits \(did you mean mnist\?\)"):
        KID("mnits")
    with pytest.raises(ValueError, match="feature is random, which has no logits; expected a classifier"):
        InceptionScore("random")
    for options in ({"value_range": (1, -1)}, {"value_range": (0, 1), "normalize": True}, {"value_range": (1, 2, 3)}):
        with pytest.raises(ValueError, match="value_range is "):
            FID(extractor, **options)


def test_a_tuple_gives_features_to_fid_and_kid_and_logits_to_the_score(extractor):
    features, logits = extractor.eval()(images(40))
    others = extractor(images(40, 1))[0]
    distance, kernel, score = metrics(extractor)
    for metric in (distance, kernel):
        metric.update(images(40), real=True)
        metric.update(images(40, 1), real=False)
    score.update(images(40))
    assert values(distance) == pytest.approx([fid(features, others).item()], rel=1e-8)
    assert values(kernel)[0] == pytest.approx(kid(features, others).item(), rel=1e-12)
    assert values(score)[0] == pytest.approx(inception_score(logits, 5)[0].item(), rel=1e-12)


# -- the extractor -----------------------------------------------------------------------------------------------------


class Owner(L.LightningModule):
    def __init__(self, extractor, child):
        super().__init__()
        if child:
            self.extractor = extractor
        self.layer = nn.Linear(2, 2)
        self.fid, self.kid, self.score = metrics(extractor)


@pytest.mark.parametrize("child", [False, True])
def test_a_module_in_training_does_not_touch_the_extractor(extractor, child):
    """Even if the module owns the extractor by another name."""
    buffers = copy.deepcopy(dict(extractor.named_buffers()))
    owner = Owner(extractor, child)
    expected = extractor(images(30))[0]
    owner.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        owner.kid.update(images(30), real=True)
        owner.fid.update(images(30), real=True)
        owner.score.update(images(30))
    torch.testing.assert_close(owner.kid.real_features[0], expected, rtol=0, atol=0)
    assert all(torch.equal(value, buffers[name]) for name, value in extractor.named_buffers())
    assert not any(parameter.requires_grad for parameter in extractor.parameters())
    if not child:
        assert sum(p.numel() for p in owner.parameters()) == 6
        assert list(owner.state_dict()) == ["layer.weight", "layer.bias"]
        assert list(owner.buffers()) == []


def test_the_width_is_found_without_moving_statistics(extractor):
    buffers = copy.deepcopy(dict(extractor.named_buffers()))
    before = torch.get_rng_state()
    metric = FID(extractor, input_img_size=(3, 2, 2))
    assert metric.real_features_sum.shape == (D,)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(value, buffers[name]) for name, value in extractor.named_buffers())
    extractor.num_features = torch.tensor(5)
    assert FID(extractor).real_features_sum.shape == (5,)


def test_other_precisions_do_not_reach_states_or_extractor(extractor):
    for metric in metrics(extractor):
        feed(metric, images(40), True)
        feed(metric, images(40, 1), False)
        expected = values(metric)
        owner = nn.ModuleList([metric])
        casts = {owner.half: (), owner.bfloat16: (), owner.to: (torch.bfloat16,), metric.set_dtype: (torch.float16,)}
        for cast, argument in casts.items():
            cast(*argument)
            metric._computed = None
            assert values(metric) == expected
    assert {parameter.dtype for parameter in extractor.parameters()} == {torch.float32}


def test_states_move_and_the_extractor_follows_the_images(extractor):
    for metric in metrics(extractor):
        feed(metric, images(4), True)
        metric.to("meta")
        held = [
            state for value in metric.metric_state.values() for state in (value if type(value) is list else [value])
        ]
        assert {state.device.type for state in held} == {metric.device.type} == {"meta"}
        assert extractor.head.weight.device.type == "cpu"


def test_metrics_can_be_copied_and_pickled(extractor):
    for metric in metrics(extractor):
        feed(metric, images(40), True)
        feed(metric, images(40, 1), False)
        extractor.seen.clear()
        for other in (metric.clone(), pickle.loads(pickle.dumps(metric))):
            assert values(other) == values(metric)
            feed(other, images(10, 2), False)
            assert values(other) != values(metric)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
def test_restored_states_can_be_computed(extractor):
    for metric, fresh in zip(metrics(extractor), metrics(extractor), strict=True):
        feed(metric, images(40), True)
        feed(metric, images(40, 1), False)
        metric.persistent(True)
        fresh.persistent(True)
        fresh.load_state_dict(metric.state_dict())
        assert values(fresh) == values(metric)


def test_the_built_in_inception_is_held_too(monkeypatch):
    """Instead of its weights, which a test cannot download, a net that says how it was made."""

    class Inception(nn.Module):
        def __init__(self, name, features_list, feature_extractor_weights_path=None, antialias=True):
            super().__init__()
            self.use_antialias, self.layer, self.path = antialias, nn.Linear(12, 64), feature_extractor_weights_path

        def forward(self, x):
            return self.layer(x.flatten(1).float())

    for name in ("fid", "kid", "inception"):
        monkeypatch.setattr(f"torchmetrics.image.{name}.NoTrainInceptionV3", Inception)
        monkeypatch.setattr(f"torchmetrics.image.{name}._TORCH_FIDELITY_AVAILABLE", True)
    for metric in (FID(64), KID(64), InceptionScore(64, splits=2)):
        assert list(metric.parameters()) == list(metric.state_dict()) == []
        assert metric.inception.held[0].use_antialias is False
        feed(metric, images(9), True)
        feed(metric, images(9, 1), False)
        assert all(value == value for value in values(metric))
    chosen = FID(64, feature_extractor_weights_path="w.pth", antialias=True).inception.held[0]
    assert (chosen.use_antialias, chosen.path) == (True, "w.pth")
    with pytest.raises(TypeError, match="unknown input to argument `feature`"):
        FID(0.5)


# -- several processes -------------------------------------------------------------------------------------------------


def batches(count):
    return [(draw(11 + i, i), draw(7 + i, 100 + i) + 0.3) for i in range(count)]


def evaluate(share, dtype=torch.float64):
    found = []
    for metric in metrics(Given()):
        for real, fake in share:
            feed(metric, real.to(dtype), True)
            if not isinstance(metric, InceptionScore):
                metric.update(fake.to(dtype), real=False)
        found += values(metric)
        left = [len(state) for state in metric.metric_state.values() if isinstance(state, list)]
        assert left == [len(share)] * len(left)  # this rank's own batches are left, to go on with
    return found


def work(rank, folder, world, shares, dtype):
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", f"file://{folder}/meeting", rank=rank, world_size=world, timeout=timedelta(seconds=30)
    )
    start, stop = sum(shares[:rank]), sum(shares[: rank + 1])
    torch.save(evaluate(batches(7)[start:stop], dtype), folder / f"{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.parametrize(
    ("shares", "dtype"),
    [((5, 2), torch.float64), ((7, 0), torch.float64), ((0, 7), torch.float32), ((3, 0, 4), torch.float32)],
)
@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_processes_with_unequal_or_no_batches_equal_one(tmp_path, shares, dtype):
    alone = evaluate(batches(7), dtype)
    multiprocessing.start_processes(work, (tmp_path, len(shares), shares, dtype), len(shares), start_method="fork")
    for rank in range(len(shares)):
        assert torch.load(tmp_path / f"{rank}.pt") == pytest.approx(alone, rel=0, abs=1e-10)
    assert alone[0] > 0.1
    assert alone[1] > 0.01
