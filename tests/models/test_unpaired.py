"""CycleGAN and CUT: pools, contrast, identity, mirrored images, both ways, what held-out images say."""

import pytest
import torch
from checkpoints import assert_near
from torch.utils.data import DataLoader, TensorDataset

from datamodules import DigitsDataModule, UnpairedDigitsDataModule
from gans.engine.checkpoint import load_model
from gans.engine.pool import ImagePool
from gans.metrics.extractors import extractor
from gans.metrics.functional import fid
from gans.models import CUT, CycleGAN
from gans.models.cut import mirrored
from gans.networks.contrast import Heads, patch_nce
from gans.pictures.images import to_uint8

SIZE = 16
SMALL = {"size": SIZE, "channels": 1, "width": 4, "blocks": 1}


def cyclegan(**options):
    torch.manual_seed(0)
    return CycleGAN(**{**SMALL, "pool": 8, **options})


def cut(**options):
    torch.manual_seed(0)
    return CUT(**{**SMALL, "patches": 16, "patch_dim": 8, **options})


MAKERS = [cyclegan, cut]


def both(n=24, channels=(1, 1)):
    """Images with a bright spot on a dark ground, and with a dark one on a bright ground, elsewhere."""
    generator = torch.Generator().manual_seed(0)
    sides = []
    for sign, count in zip((1, -1), channels, strict=True):
        coarse = (torch.rand(n, 1, 4, 4, generator=generator) > 0.8).float() * 2 - 1
        sides.append(sign * torch.nn.functional.interpolate(coarse, (SIZE, SIZE)).expand(-1, count, -1, -1))
    return sides


def loader(n=24, batch_size=8, channels=(1, 1), labels=True):
    third = [torch.arange(n) % 10] if labels else []
    return DataLoader(TensorDataset(*both(n, channels), *third), batch_size=batch_size)


class Curves:
    """Notes what a model records."""

    def __init__(self, model):
        self.seen = {}
        note = model.record

        def record(name, value):
            self.seen.setdefault(name, []).append(float(value.detach().float().mean()))
            note(name, value)

        model.record = record


# -- the pool ----------------------------------------------------------------------------------------------------------


def numbered(*values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def test_a_pool_shows_what_it_has_kept():
    pool = ImagePool(3)
    first = numbered(0, 1)
    assert torch.equal(pool.swap(first, torch.zeros(2, 2)), first)
    # Two fit no more: one takes the last place and is shown, the next changes with the second, the third stays out.
    draws = torch.tensor([[0.0, 0.0], [0.49, 0.5], [0.5, 0.0], [0.1, 0.4]])
    shown = pool.swap(numbered(2, 3, 4, 5), draws)
    assert shown.flatten().tolist() == [2, 1, 4, 3]
    assert [float(image) for image in pool.images] == [0, 5, 2]
    first.fill_(9)
    assert float(pool.images[0]) == 0


def test_half_of_what_a_pool_shows_is_old():
    pool, generator = ImagePool(50), torch.Generator().manual_seed(0)
    pool.swap(numbered(*range(50)), torch.rand(50, 2, generator=generator))
    fresh = numbered(*range(50, 2050))
    shown = pool.swap(fresh, torch.rand(2000, 2, generator=generator))
    assert float((shown != fresh).float().mean()) == pytest.approx(0.5, abs=0.03)
    age = (fresh - shown).flatten()
    assert (age >= 0).all()
    assert float(age[age > 0].mean()) == pytest.approx(100, rel=0.2)  # each of 50 leaves with probability 1 in 100
    assert len(set(shown.flatten().tolist())) == 2000  # none twice


def test_a_pool_of_none_and_one_that_is_restored():
    assert ImagePool(0).swap(numbered(1), torch.zeros(1, 2)) is not None
    assert ImagePool(0).state_dict() == {}
    pool = ImagePool(2)
    pool.swap(numbered(1, 2), torch.zeros(2, 2))
    again = ImagePool(2)
    again.load_state_dict(pool.state_dict())
    draws = torch.tensor([[0.0, 0.9]])
    assert torch.equal(again.swap(numbered(3), draws), pool.swap(numbered(3), draws))


def test_the_critics_see_the_pool(trainer):
    model, fed = cyclegan(pool=4), []
    judged = model.judged

    def spy(way, images):
        fed.append((way, images.requires_grad, images))
        return judged(way, images)

    model.judged = spy
    made = []
    model.generator.there.register_forward_hook(lambda *call: made.append(call[2].detach().clone()))
    trainer(4).fit(model, loader(batch_size=4))
    old = [images for way, grad, images in fed if way == "there" and not grad][1::2]
    fakes = made[0 :: len(made) // 4]
    assert torch.equal(old[0], fakes[0])  # it was empty
    everything = torch.cat(fakes)
    for step in (1, 2, 3):
        rows = [int((everything - image).abs().flatten(1).sum(1).argmin()) for image in old[step]]
        assert all(torch.equal(everything[row], image) for row, image in zip(rows, old[step], strict=True))
        assert all(row < 4 * (step + 1) for row in rows)
    late = torch.cat(old[1:])
    assert 0 < sum(not torch.equal(a, b) for a, b in zip(late, everything[4:], strict=True)) < 12


@pytest.mark.slow
def test_a_pool_is_the_same_on_two_processes_and_in_pieces(trained_by):
    found = []
    for world, accumulate in ((1, 1), (2, 1), (2, 3)):
        model = cyclegan(accumulate=accumulate)
        model.seed = 3
        found.append(trained_by(world, model, UnpairedDigitsDataModule(size=SIZE, batch_size=12 // world), 3))
    for other in found[1:]:
        for mine, yours in zip(found[0]["pools"], other["pools"], strict=True):
            assert mine["images"].shape == (8, 1, SIZE, SIZE)
            assert torch.allclose(mine["images"], yours["images"], atol=1e-9)
        assert_near(found[0]["state_dict"], other["state_dict"])


# -- contrast ----------------------------------------------------------------------------------------------------------


def test_patch_nce_against_its_definition():
    generator = torch.Generator().manual_seed(0)
    query, key = (torch.nn.functional.normalize(torch.randn(3, 5, 4, generator=generator), dim=2) for _ in range(2))
    total = 0.0
    for n in range(3):
        for s in range(5):
            scores = [float(query[n, s] @ key[n, r]) / 0.07 for r in range(5)]
            total -= scores[s] - float(torch.logsumexp(torch.tensor(scores), 0))
    assert float(patch_nce(query, key)) == pytest.approx(total / 15, rel=1e-4)
    same = torch.eye(4).expand(2, -1, -1)
    assert float(patch_nce(same, same)) < 1e-5
    assert float(patch_nce(same, same.flip(1))) == pytest.approx(1 / 0.07, rel=1e-3)
    query.requires_grad_()
    key.requires_grad_()
    patch_nce(query, key).backward()
    assert query.grad.abs().sum() > 0
    assert key.grad is None


def test_heads_look_at_places():
    torch.manual_seed(0)
    heads = Heads([3, 5], 6)
    maps = [torch.randn(2, 3, 4, 4), torch.randn(2, 5, 2, 2)]
    places = [torch.tensor([[0, 7, 15], [1, 2, 3]]), torch.tensor([[3], [0]])]
    first, second = heads(maps, places)
    assert (first.shape, second.shape) == ((2, 3, 6), (2, 1, 6))
    assert torch.allclose(first.norm(dim=2), torch.ones(2, 3))
    alone = torch.nn.functional.normalize(heads.stages[0](maps[0][0, :, 1, 3]), dim=0)
    assert torch.allclose(first[0, 1], alone, atol=1e-6)


def test_places_are_different_and_of_the_row(trainer):
    model = cut()
    model._draws.begin(0, "train", 1)
    places = model.places(6, 50)
    assert places.shape == (6, 16)
    assert all(len(set(row)) == 16 for row in places.tolist())
    assert len({tuple(row) for row in places.tolist()}) == 6
    assert sorted(model.places(1, 9)[0].tolist()) == list(range(9))


def test_the_contrast_is_low_where_places_stay():
    """For any generator and heads, an image is like itself, and unlike itself moved."""
    model = cut(stages=(0, 2), patches=64)
    model._draws.begin(0, "train", 1)
    images = torch.rand(4, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    turned = torch.tensor([True, False, True, False])
    itself = float(model.contrast(images, images).detach())
    assert itself < float(model.contrast(images, images.roll(5, 3)).detach())
    there = mirrored(images, turned)
    assert torch.equal(there[1], images[1])
    assert torch.equal(there[0], images[0].flip(-1))
    # The image's own stage alone, where mirroring back is exact.
    model = cut(stages=(0,), patches=10**6)
    model._draws.begin(0, "train", 1)
    with torch.no_grad():
        itself = float(model.contrast(images, images))
        assert float(model.contrast(images, there, turned)) == pytest.approx(itself, rel=1e-5)
        assert float(model.contrast(images, there)) > itself


def test_the_stages_are_the_papers():
    assert cut(blocks=9).stages == [0, 2, 3, 4, 8]
    assert cut(blocks=1).stages == [0, 2, 3, 4]
    model = cut(blocks=3)
    maps = model.generator.features(torch.zeros(1, 1, SIZE, SIZE), range(len(model.generator.widths)))
    assert [stage.shape[1] for stage in maps] == model.generator.widths
    with torch.device("meta"):
        maps = CUT().generator.features(torch.zeros(1, 3, 256, 256), [0, 2, 3, 4, 8])
    assert [tuple(stage.shape[1:]) for stage in maps] == [(3, 262, 262), (128, 256, 256), (256, 128, 128),
                                                          (256, 64, 64), (256, 64, 64)]  # fmt: skip


def test_cut_begins_as_its_authors():
    """Weights of Glorot and Bengio, times .02, in all three networks; CycleGAN's are N(0, .02)."""
    torch.manual_seed(0)
    model = CUT(SIZE, 3, width=32, blocks=2, patch_dim=64)
    for network in (model.generator, model.discriminator, model.heads):
        for weight in (p for p in network.parameters() if p.numel() > 1000):
            area = weight[0][0].numel()
            expected = 0.02 * (2 / (area * (weight.shape[0] + weight.shape[1]))) ** 0.5
            assert float(weight.detach().std()) == pytest.approx(expected, rel=0.1)
    for network in (CycleGAN(SIZE, 3, width=32, blocks=2).generator, CUT(SIZE, 3, 32, blocks=2, init="normal").heads):
        weight = next(network.parameters())
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.1)


def test_antialiasing_can_be_left_out():
    plain, blurred = (CUT(32, 3, width=4, blocks=1, antialias=on) for on in (False, True))
    cycle = CycleGAN(32, 3, width=4, blocks=1)
    assert [*plain.generator.state_dict()] == [*cycle.generator.there.state_dict()]
    plain.generator.load_state_dict(cycle.generator.there.state_dict())
    given = torch.rand(2, 3, 32, 32) * 2 - 1
    assert torch.equal(plain.generator(given), cycle.generator.there(given))
    with pytest.raises(RuntimeError, match="Missing key"):  # and weights of one are not taken for the other's
        blurred.generator.load_state_dict(plain.generator.state_dict())


# -- what they learn ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["32-true", pytest.param("bf16-mixed", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("make", "term"), [(cyclegan, "loss/cycle"), (cut, "loss/contrast")])
def test_the_tie_to_the_source_pulls(trainer, make, term, precision):
    weight = {"cycle_weight": 10.0} if make is cyclegan else {"nce_weight": 1.0}
    model = make(adversarial_weight=0.0, lr=4e-3, **weight)
    curves = Curves(model)
    trainer(12, precision=precision).fit(model, loader(batch_size=4))
    found = curves.seen[term]
    assert len(found) == 12
    assert sum(found[-3:]) < 0.8 * sum(found[:3])


@pytest.mark.parametrize("make", MAKERS)
def test_identity_is_an_option(trainer, make):
    off = {"identity_weight": 0.0} if make is cyclegan else {"identity": False}
    for options, there in (({}, True), (off, False)):
        model = make(**options)
        curves = Curves(model)
        trainer(1).fit(model, loader())
        assert ("loss/identity" in curves.seen) == there


def test_identity_keeps_what_is_there(trainer):
    model = cyclegan(adversarial_weight=0.0, cycle_weight=0.0, identity_weight=0.5)
    fresh = {name: value.clone() for name, value in model.generator.state_dict().items()}
    trainer(2).fit(model, loader())
    assert all(torch.equal(value, fresh[name]) for name, value in model.generator.state_dict().items())
    model = cyclegan(adversarial_weight=0.0, cycle_weight=1.0, identity_weight=10.0, lr=4e-3, ema_halflife=20)
    target = both()[1]
    before = float((model.translate(target) - target).abs().mean())
    trainer(12).fit(model, loader(batch_size=4))
    assert float((model.translate(target) - target).abs().mean()) < 0.6 * before


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("options", [{"objective": "relativistic"}, {"objective": "hinge", "spectral_norm": True},
                                     {"scales": 2, "norm": "batch"}, {"instance_noise": 0.1}])  # fmt: skip
def test_options_train(trainer, make, options):
    model = make(**options)
    trainer(2).fit(model, loader(8, 4))
    assert all(p.isfinite().all() for p in model.parameters())


def test_mirrored_images_train(trainer):
    model = cut(mirror=True, identity=False, nce_weight=10.0)
    trainer(2).fit(model, loader(8, 4))
    assert all(p.isfinite().all() for p in model.parameters())


def test_kinds_may_differ_in_channels(trainer):
    model = cyclegan(channels=3, source_channels=1, identity_weight=0.0)
    data = loader(8, 4, (1, 3), labels=False)
    trainer(2).fit(model, data, data)
    source, target = both(8, (1, 3))
    assert model.translate(source).shape == target.shape
    assert model.back(target).shape == source.shape


# -- what is held out, and shown ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", MAKERS)
def test_held_out_scores(trainer, make):
    model, data = make(features="mnist"), loader(20, 7)
    [found] = trainer(1).test(model, data, verbose=False)
    source, target, labels = data.dataset.tensors
    judge = extractor("mnist")
    features, logits = judge(to_uint8(model.translate(source)))
    as_it_is, kind = (judge(to_uint8(images))[0] for images in (source, target))
    assert found["test/baseline/fid/mnist"] == pytest.approx(float(fid(kind, as_it_is)), rel=1e-3)
    assert found["test/label_kept/mnist"] == pytest.approx(float((logits.argmax(1) == labels).float().mean()), abs=1e-6)
    assert found["test/fid/mnist"] == pytest.approx(float(fid(judge(to_uint8(target))[0], features)), rel=1e-3)
    if make is cyclegan:
        back = judge(to_uint8(model.back(target)))[0]
        assert found["test/baseline/fid_back/mnist"] == pytest.approx(float(fid(as_it_is, kind)), rel=1e-3)
        assert found["test/fid_back/mnist"] == pytest.approx(float(fid(judge(to_uint8(source))[0], back)), rel=1e-3)
        for name, first, second, given in (("cycle_psnr", model.translate, model.back, source),
                                           ("cycle_psnr_back", model.back, model.translate, target)):  # fmt: skip
            error = (second(first(given)) - given).square().flatten(1).mean(1)
            assert found[f"test/{name}"] == pytest.approx(float((10 * (4 / error).log10()).mean()), rel=1e-4)
    else:
        assert set(found) == {"test/label_kept/mnist", "test/fid/mnist", "test/baseline/fid/mnist", "step"}


def test_labels_count_where_they_can(trainer):
    class Right(CUT):
        def translate(self, *inputs):
            return -inputs[0]

    data = UnpairedDigitsDataModule("invert", size=28, batch_size=50)
    [found] = trainer(1).test(Right(28, 1, width=2, blocks=1, features="mnist"), data, verbose=False)
    images, labels = DigitsDataModule(size=28).splits()[2].__getitems__(range(197))
    known = float((extractor("mnist")(images)[1].argmax(1) == labels).float().mean())
    assert known > 0.5  # these digits are not MNIST's
    assert found["test/label_kept/mnist"] == pytest.approx(known, abs=0.006)
    [found] = trainer(1).test(cut(), loader(), verbose=False)  # features say nothing of classes
    assert set(found) == {"test/fid/random", "test/baseline/fid/random", "step"}
    [found] = trainer(1).test(cut(features="mnist"), loader(labels=False), verbose=False)
    assert set(found) == {"test/fid/mnist", "test/baseline/fid/mnist", "step"}


def test_pictures_show_what_returns_or_an_example():
    batch = both()
    shown, columns = cyclegan().pictures(batch)["translations"]
    model = cyclegan().eval()
    assert columns == 9
    assert torch.equal(shown[0], batch[0][0])
    assert torch.allclose(shown[1], model.translate(batch[0][:1])[0], atol=1e-5)
    assert torch.allclose(shown[2], model.back(model.translate(batch[0][:1]))[0], atol=1e-5)
    back, _ = model.pictures(batch)["back"]
    assert torch.equal(back[0], batch[1][0])
    shown, _ = cut().pictures(batch)["translations"]
    assert torch.equal(shown[5], batch[1][1])


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "options", "says"),
    [
        (cyclegan, {"pool": -1}, "pool is -1; expected at least 0"),
        (cyclegan, {"cycle_weight": -1}, "cycle_weight is -1"),
        (cyclegan, {"source_channels": 3}, "identity_weight is 0.5; expected 0 for sources of 3 channels and 1"),
        (cut, {"features": "discriminator"}, "features is discriminator, which changes; expected vgg19, random"),
        (cyclegan, {"features": "discriminator"}, "features is discriminator, which changes; expected vgg19, random"),
        (cut, {"init": "zeros"}, "init is zeros; expected xavier or normal"),
        (cut, {"temperature": 0}, "temperature is 0; expected a number above 0"),
        (cut, {"patches": 1}, "patches is 1; expected at least 2"),
        (cut, {"patch_dim": 0}, "length is 0"),
        (cut, {"stages": (0, 9)}, r"stages is \(0, 9\); expected numbers from 0 to 4"),
        (cut, {"stages": (2, 0)}, "expected numbers from 0 to 4, the last residual block, in order"),
        (cut, {"mirror": True, "size": 30}, "size is 30; expected a width in multiples of 4 for mirror"),
        (cyclegan, {"size": 6}, "size is 6x6; a residual translator needs at least 8"),
    ],
)
def test_wrong_options(make, options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


@pytest.mark.parametrize(("make", "name"), [(cyclegan, "feature_weight"), (cut, "feature_weight"),
                                            (cut, "source_channels")])  # fmt: skip
def test_options_without_a_use_are_no_arguments(make, name):
    with pytest.raises(TypeError, match=name):
        make(**{name: 1})


@pytest.mark.parametrize("make", MAKERS)
def test_checkpoints_that_hold_them_load(saved, tmp_path, make):
    model = make()
    path = saved(model, tmp_path)
    held = torch.load(path, weights_only=True)
    torch.save({**held, "hyper_parameters": {**held["hyper_parameters"], "feature_weight": 0.0}}, path)
    source = both()[0]
    assert torch.equal(load_model(path).translate(source), model.eval().translate(source))


def test_checkpoints_from_before_antialiasing_load(saved, tmp_path):
    model = cut(antialias=False)
    path = saved(model, tmp_path)
    held = torch.load(path, weights_only=True)
    kept = {key: value for key, value in held["hyper_parameters"].items() if key not in ("antialias", "init")}
    torch.save({**held, "hyper_parameters": kept}, path)
    source = both()[0]
    assert torch.equal(load_model(path).translate(source), model.eval().translate(source))


def test_one_network_sees_sources_and_targets(trainer):
    with pytest.raises(ValueError, match=r"the data gives images of shape \(3, 16, 16\)"):
        trainer(1).fit(cut(), loader(8, 4, (3, 1)))


@pytest.mark.parametrize("make", MAKERS)
def test_images_alone_are_refused(trainer, make):
    images = both()[0]
    with pytest.raises(ValueError, match="a batch is not a pair of images"):
        trainer(1).fit(make(), DataLoader(TensorDataset(images, torch.zeros(len(images))), batch_size=8))
