"""From images to scores: which samples, the cache of real images, and what the scores catch."""

import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import TensorDataset

from datamodules import DigitsDataModule
from gans.callbacks.evaluate import Evaluate
from gans.engine.checkpoint import Best, Checkpoint
from gans.engine.interface import samples
from gans.metrics import cache as caches
from gans.metrics import suite
from gans.metrics.features import Features, extract, gathered, of_subject, statistics
from gans.metrics.interface import Wrapped
from gans.metrics.rows import chosen, stored
from gans.metrics.sampling import BLOCK, Samples
from gans.metrics.suite import PROTOCOLS, Protocol, Score, over_seeds, scores
from gans.models import GAN

SMALL = Protocol("small", samples=300, reference=300, neighbours=300, thorough=True)


class Thumbnail(nn.Module):
    """Pixels of a smaller picture as features, and logits that are a linear function of them."""

    num_features, num_classes = 16, 10

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(16, 10)
        nn.init.normal_(self.head.weight, std=scale)

    def forward(self, images):
        features = nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).mean(1).flatten(1)
        return features, self.head(features)


class Conditional(nn.Module):
    """A model of somebody else's whose brightness is the class, with dropout and torch's own random numbers."""

    num_classes = 3

    def __init__(self):
        super().__init__()
        self.drop = nn.Dropout(0.5)

    def sample(self, n, labels=None):
        noise = self.drop(torch.randn(n, 1, 8, 8)) / 10
        return noise + (labels.view(-1, 1, 1, 1) - 1) / 2


@pytest.fixture
def network():
    return Wrapped(Thumbnail(), "thumbnail")


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def digits(size=8):
    data = DigitsDataModule(size=size)
    data.setup()
    return data.train_dataloader().dataset


def pictures(blocks):
    blocks = list(blocks)
    return torch.cat([images for images, _ in blocks])


def model():
    torch.manual_seed(1)
    return GAN(size=8, latent_dim=4, width=2)


# -- which samples -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world", [1, 2, 3, 7])
def test_the_samples_do_not_depend_on_the_processes(world):
    gan, count = model(), 1003
    whole = pictures(Samples(gan).images(count, seed=5))
    assert whole.shape == (count, 1, 8, 8)
    shares = [list(Samples(gan).images(count, seed=5, rank=rank, world=world)) for rank in range(world)]
    assert sum(len(images) for share in shares for images, _ in share) == count
    for number in range(-(-count // BLOCK)):
        assert torch.equal(shares[number % world][number // world][0], whole[number * BLOCK : (number + 1) * BLOCK])


def test_fewer_samples_are_the_first_of_more_and_another_seed_gives_others():
    gan = model()
    many = pictures(Samples(gan).images(600, seed=0))
    assert torch.equal(pictures(Samples(gan).images(333, seed=0)), many[:333])
    assert not torch.equal(pictures(Samples(gan).images(600, seed=1)), many)
    assert len(many.unique(dim=0)) == 600


def test_sampling_leaves_everything_as_it_was():
    gan, before = model().train(), torch.get_rng_state()
    expected = {name: part.training for name, part in gan.named_modules()}
    state = {name: value.clone() for name, value in gan.state_dict().items()}
    samples(gan, 10, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    assert {name: part.training for name, part in gan.named_modules()} == expected
    assert all(torch.equal(value, state[name]) for name, value in gan.state_dict().items())


def test_a_conditional_model_gets_its_classes_in_turn():
    [(images, labels)] = Samples(Conditional()).images(100, seed=0)
    assert torch.equal(labels, torch.arange(100) % 3)
    means = torch.stack([images[labels == c].float().mean() for c in range(3)])
    assert torch.allclose(means, torch.tensor([64.0, 127.5, 191.0]), atol=1)


def test_a_model_without_sample_is_refused():
    with pytest.raises(ValueError, match="Linear has no sample"):
        list(Samples(nn.Linear(1, 1)).images(10, 0))


def test_rows_are_a_seeded_choice():
    assert sorted(chosen(50, None)) == list(range(50))
    assert chosen(50, 20) == chosen(50, None)[:20] != chosen(50, 20, seed=1)
    with pytest.raises(ValueError, match="51 images were asked for, but there are 50"):
        chosen(50, 51)


@pytest.mark.parametrize("labelled", [True, False])
def test_any_dataset_gives_bytes(labelled):
    images = torch.randint(0, 256, (300, 1, 8, 8), dtype=torch.uint8)
    labels = torch.arange(300)
    floats = images.float() / 127.5 - 1
    parts = (floats, labels) if labelled else (floats,)
    rows = list(range(299, -1, -1))
    blocks = list(stored(TensorDataset(*parts), rows))
    assert torch.equal(pictures(blocks), images.flip(0))
    found = [labels for _, labels in blocks]
    assert torch.equal(torch.cat(found), labels.flip(0)) if labelled else found == [None, None]


# -- features ----------------------------------------------------------------------------------------------------------


def test_batches_and_processes_do_not_change_fid(network):
    gan, real = model(), statistics(digits(), network, 1000)
    values = [
        scores(real, of_subject(Samples(gan), network, 1003, batch_size=size), SMALL)["fid"]
        for size in (BLOCK, 50, 64, 1003)
    ]
    assert {value.n_fake for value in values} == {1003}
    assert values[0].value > 1e-3
    for value in values[1:]:
        assert value.value == pytest.approx(values[0].value, rel=1e-8)


def test_no_images_are_no_features(network):
    nothing = extract(iter([]), network)
    assert nothing.features.shape == (0, 16)
    assert nothing.logits.shape == (0, 10)


# -- the cache ---------------------------------------------------------------------------------------------------------


def test_the_second_time_comes_from_the_disk(network, cache):
    first, second = (statistics(digits(), network, 500, keep=100) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    assert first.key == second.key
    for name in ("mean", "covariance", "root"):
        assert torch.equal(getattr(first.gaussian, name), getattr(second.gaussian, name))
    assert torch.equal(first.features.features, second.features.features)
    assert torch.equal(first.features.labels, second.features.labels)
    assert (second.gaussian.n, len(second.features)) == (500, 100)
    assert [path.name for path in cache.iterdir()] == [f"reference-{first.key}.pt"]


def test_whatever_changes_the_statistics_is_another_key(network):
    images = torch.randint(0, 256, (400, 1, 8, 8), dtype=torch.uint8)
    changed = images.clone()
    changed[7, 0, 3, 3] ^= 1
    resized = Wrapped(Thumbnail(), "thumbnail")
    resized.resize = "other"
    keys = {
        statistics(TensorDataset(pixels), net, count, keep).key
        for pixels, net, count, keep in [
            (images, network, None, None),
            (images.clone(), Wrapped(Thumbnail(), "thumbnail"), None, None),  # the same once more
            (changed, network, None, None),
            (images, Wrapped(Thumbnail(2.0), "thumbnail"), None, None),
            (images, resized, None, None),
            (images, network, 399, None),
            (images, network, None, 100),
        ]
    }
    assert len(keys) == 6


def test_a_damaged_cache_is_an_error(network, cache):
    real = statistics(digits(), network, 300)
    path = cache / f"reference-{real.key}.pt"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"statistics .*{real.key}.* are damaged: delete the file"):
        statistics(digits(), network, 300)


def test_an_interrupted_write_leaves_nothing_that_looks_whole(tmp_path, monkeypatch):
    def interrupted(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(caches.os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        caches.write(tmp_path / "a.pt", {"x": 1})
    assert not (tmp_path / "a.pt").exists()


# -- the scores --------------------------------------------------------------------------------------------------------


def clouds(count, seed, spread=1.0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 8, generator=generator) * spread
    return Features(features, features @ torch.eye(8, 4) * 5)


class Known:
    """A reference whose features are known."""

    def __init__(self, features):
        from gans.metrics.moments import Gaussian

        self.gaussian, self.features = Gaussian.of(features.features), features


def test_collapse_and_copies_are_caught():
    real, other = clouds(600, 0), clouds(600, 1)
    collapsed = Features(other.features[:10].repeat(60, 1), other.logits[:10].repeat(60, 1))
    protocol = Protocol("test", 600, None, 600, True)
    good, few, copied = (scores(Known(real), fake, protocol) for fake in (other, collapsed, real))
    assert good["recall"].value > 0.8
    assert good["coverage"].value > 0.8
    assert few["recall"].value < 0.2
    assert few["coverage"].value < 0.2
    assert few["vendi"].value < good["vendi"].value
    assert few["fid"].value > 2 * good["fid"].value
    assert good["authenticity"].value > 30
    assert copied["authenticity"].value < 1
    assert copied["one_nn_accuracy"].value < 0.1 < 0.35 < good["one_nn_accuracy"].value < 0.65
    assert abs(copied["fid"].value) < 1e-6
    assert set(good) == {
        *("fid", "fid_infinity", "kid", "precision", "recall", "density", "coverage", "vendi"),
        *("authenticity", "one_nn_accuracy", "inception_score", "modes", "mode_kl"),
    }
    assert all(np.isfinite(score.value) for score in good.values())


def test_every_score_says_how_many_images_it_saw():
    found = scores(Known(clouds(500, 0)), clouds(400, 1), Protocol("test", 400, None, 100, False))
    assert found["fid"].plain() == {"value": found["fid"].value, "n_real": 500, "n_fake": 400}
    assert (found["recall"].n_real, found["recall"].n_fake, found["recall"].k) == (100, 100, 3)
    assert found["density"].k == 5
    assert "fid_infinity" not in found


def test_without_a_classifier_there_is_no_inception_score():
    real, fake = clouds(200, 0), clouds(200, 1)
    found = scores(Known(Features(real.features)), Features(fake.features), SMALL)
    assert not {"inception_score", "modes", "mode_kl", "class_fid"} & set(found)


def test_classes_are_compared_one_by_one():
    real, fake = clouds(400, 0), clouds(400, 1)
    labels = torch.arange(400) % 2
    shifted = fake.features + 3 * labels[:, None]  # right on the whole, wrong in each class
    mixed = Features(torch.cat([real.features - 1.5, real.features + 1.5]), None, torch.arange(800) % 2)
    found = scores(Known(mixed), Features(shifted - 1.5, None, labels), SMALL)
    assert found["class_fid"].value > 3 * found["fid"].value


def test_a_classifier_that_knows_the_classes_says_whether_they_are_right():
    labels = torch.arange(400) % 4
    asked = torch.nn.functional.one_hot(labels, 4).float()
    real = Features(clouds(400, 0).features, asked, labels)
    wrong = asked.clone()
    wrong[:100] = asked[:100].roll(1, 1)
    found = scores(Known(real), Features(clouds(400, 1).features, wrong, labels), SMALL)
    assert found["class_accuracy"].value == 0.75
    seven = torch.cat([asked, asked[:, :3]], 1)  # an extractor for other classes
    assert "class_accuracy" not in scores(Known(real), Features(clouds(400, 1).features, seven, labels), SMALL)


def test_seeds_give_a_mean_and_a_deviation():
    runs = [{"fid": Score(value, 10, 10)} for value in (1.0, 2.0, 6.0)]
    assert over_seeds(runs)["fid"].value == 3
    assert over_seeds(runs)["fid"].std == pytest.approx(7**0.5)
    assert over_seeds(runs[:1])["fid"].std is None


# -- during training ---------------------------------------------------------------------------------------------------


def test_training_is_watched_and_the_best_is_kept(trainer, tmp_path, network):
    torch.manual_seed(0)
    scorer = Evaluate(network, every_n_steps=4, samples=300, reference=400)
    best = Best("score/fid_thumbnail", 4, str(tmp_path / "kept"))
    run = trainer(
        10,
        logger=TensorBoardLogger(tmp_path),
        callbacks=[scorer, best, Checkpoint(100, str(tmp_path / "kept"))],
        enable_checkpointing=True,
    )
    run.fit(GAN(size=8, latent_dim=4, width=4, lr=1e-3), DigitsDataModule(size=8, batch_size=64))
    events = EventAccumulator(run.logger.log_dir)
    events.Reload()
    curve = events.Scalars("score/fid_thumbnail")
    assert [point.step for point in curve] == [4, 8, 10]
    assert {f"score/{name}_thumbnail" for name in ("kid", "recall", "coverage", "precision", "modes")} <= set(
        events.Tags()["scalars"]
    )
    lowest = min(curve, key=lambda point: point.value)
    saved = torch.load(tmp_path / "kept" / "best.ckpt", weights_only=True)
    assert saved["global_step"] == lowest.step
    assert float(best.best_model_score) == pytest.approx(lowest.value)
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["best.ckpt", "last.ckpt"]


def test_evaluation_changes_nothing_in_the_run(trainer, network):
    states = []
    for callbacks in ([], [Evaluate(network, 2, 300, 300)]):
        torch.manual_seed(0)
        gan = GAN(size=8, latent_dim=4, width=2)
        gan.seed = 1
        trainer(6, callbacks=callbacks).fit(gan, DigitsDataModule(size=8, batch_size=16))
        states.append(gan.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_several_processes_give_the_same_scores(trainer, tmp_path, network):
    values = {}
    for world in (1, 2):
        torch.manual_seed(0)
        gan = GAN(size=8, latent_dim=4, width=2)
        gan.seed = 1
        logger = TensorBoardLogger(tmp_path, str(world), 0)
        scorer = Evaluate(network, 3, 601, 300)
        data = DigitsDataModule(size=8, batch_size=24 // world)
        run = trainer(3, world, callbacks=[scorer], logger=logger, precision="64-true", limit_val_batches=0)
        run.fit(gan, data)
        events = EventAccumulator(str(tmp_path / str(world) / "version_0"))
        events.Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag.startswith("score/")]
        values[world] = {tag: events.Scalars(tag)[0].value for tag in tags}
    assert len(values[1]) >= 11
    assert values[1] == pytest.approx(values[2], rel=1e-5)


@pytest.mark.parametrize("option", [{"every_n_steps": 0}, {"samples": 9}, {"reference": 9}])
def test_too_little_is_refused(option):
    with pytest.raises(ValueError, match=r"is (0|9); expected at least"):
        Evaluate(**option)


def test_data_that_cannot_be_compared_are_refused(trainer, network):
    class Stream(torch.utils.data.IterableDataset):
        def __iter__(self):
            return iter([(torch.zeros(1, 8, 8), 0)] * 16)

    with pytest.raises(ValueError, match="Evaluate cannot choose images from a Stream"):
        trainer(1, callbacks=[Evaluate(network)]).fit(model(), torch.utils.data.DataLoader(Stream(), batch_size=8))
    with pytest.raises(ValueError, match="without a negative value; a data set of floats expects"):
        list(stored(TensorDataset(torch.rand(10, 1, 8, 8)), range(10)))
    for broken in (torch.rand(10, 1, 8, 8) * 510 - 255, torch.full((10, 1, 8, 8), torch.nan)):
        with pytest.raises(ValueError, match=r"images are in .*; a data set of floats expects \[-1, 1\]"):
            list(stored(TensorDataset(broken), range(10)))
    with pytest.raises(ValueError, match="an item of the dataset is a str"):
        list(stored(["a", "b"], [0, 1]))


def test_a_broken_generator_is_an_error():
    gan = model()
    next(gan.generator_ema.parameters()).data.fill_(float("nan"))
    with pytest.raises(ValueError, match="sample gave NaN or infinity"):
        list(Samples(gan).images(10, 0))


def test_only_what_is_asked_for_is_computed(monkeypatch):
    real, fake = Known(clouds(60, 0)), clouds(60, 1)
    everything = scores(real, fake, SMALL)
    monkeypatch.setattr(suite, "neighbour_scores", lambda *given: pytest.fail("neighbours were sought"))
    monkeypatch.setattr(suite, "vendi", lambda *given: pytest.fail("vendi was computed"))
    found = scores(real, fake, SMALL, ["fid", "kid"])
    assert found == {name: everything[name] for name in ("fid", "kid")}


def test_each_score_is_the_same_alone(monkeypatch):
    real, fake = Known(clouds(60, 0)), clouds(60, 1)
    for name, score in scores(real, fake, SMALL).items():
        assert scores(real, fake, SMALL, [name]) == {name: score}


def test_samples_of_another_range_are_an_error_and_overshoot_is_clipped():
    class Made(nn.Module):
        def sample(self, n):
            return self.low + torch.rand(n, 1, 8, 8) * (self.high - self.low)

    gan = Made()
    gan.low, gan.high = 0.0, 255.0
    with pytest.raises(ValueError, match=r"Made.sample gave images in \[.*, 255\]; expected \[-1, 1\]"):
        list(Samples(gan).images(10, 0))
    gan.low, gan.high = -3.0, 3.0
    assert sum(len(images) for images, _ in Samples(gan).images(10, 0)) == 10
    gan.sample = lambda n: torch.full((n, 1, 8, 8), torch.inf)
    with pytest.raises(ValueError, match="sample gave NaN or infinity"):
        list(Samples(gan).images(10, 0))


def test_what_is_kept_is_what_is_saved(network, cache):
    small, whole = (statistics(digits(), network, 1000, keep) for keep in (10, None))
    sizes = [(cache / f"reference-{real.key}.pt").stat().st_size for real in (small, whole)]
    assert sizes[0] < sizes[1] / 5


def test_scores_that_one_seed_lacks_are_left_out():
    runs = [{"fid": Score(1.0, 1, 1), "mode_kl": Score(0.1, 1, 1)}, {"fid": Score(2.0, 1, 1)}]
    assert set(over_seeds(runs)) == {"fid"}


def test_the_protocols():
    assert PROTOCOLS["quick"].samples == 5000
    assert PROTOCOLS["final"].samples == 50_000


def test_gathering_puts_rows_in_order(monkeypatch):
    from gans.metrics import features

    share = Features(torch.tensor([[2.0], [0.0], [1.0]]), None, torch.tensor([7, 5, 6]))
    monkeypatch.setattr(features, "gather_rows", lambda tensor: tensor)
    whole = gathered(share, [2, 0, 1], torch.device("cpu"))
    assert whole.features.flatten().tolist() == [0, 1, 2]
    assert whole.labels.tolist() == [5, 6, 7]


def test_a_process_without_images_takes_part(monkeypatch, network):
    from gans.metrics import features

    sent = []
    monkeypatch.setattr(features, "gather_rows", lambda tensor: sent.append(tensor) or tensor)
    for rank in (0, 1):
        of_subject(Samples(Conditional()), network, 10, rank=rank, world=2)
    first, second = sent[: len(sent) // 2], sent[len(sent) // 2 :]
    assert [part.shape[1:] for part in first] == [part.shape[1:] for part in second]
    assert [part.dtype for part in first] == [part.dtype for part in second]
    assert {len(part) for part in first} == {10}
    assert {len(part) for part in second} == {0}
