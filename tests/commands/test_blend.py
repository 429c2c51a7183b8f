"""`gans blend`: what is between two checkpoints, what is not interpolated, where it is from, and what is refused."""

import pytest
import torch

from gans.engine.blend import blend
from gans.engine.checkpoint import check_resumable, init_from, load_model
from gans.hub import config_of, told_origin
from gans.models import DCGAN, SRGAN, StyleGAN2
from gans.networks.spectral import spectral_layers


@pytest.fixture
def checkpoint(trainer, tmp_path):
    """Return a function that writes a model's checkpoint, as training leaves it."""

    def write(name, model):
        run = trainer(1)
        run.strategy.connect(model)
        model.trainer = run
        (tmp_path / name).parent.mkdir(exist_ok=True)
        run.save_checkpoint(tmp_path / name, weights_only=True)
        return model

    return write


def made(kind=SRGAN, seed=0, **options):
    torch.manual_seed(seed)
    model = kind(**({"size": 16, "channels": 3, "width": 4} | options))
    for part in (*model.parameters(), *model.buffers()):
        if part.is_floating_point():
            part.data += 0.05 * torch.randn_like(part).abs()
    return model


SMALL = {"scale": 2, "blocks": 1}


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_images_are_those_of_the_interpolated_weights(gans, tmp_path, checkpoint, weight):
    first, second = (checkpoint(f"{seed}.ckpt", made(seed=seed, **SMALL)) for seed in (0, 1))
    code, out, err = gans(f"blend 0.ckpt 1.ckpt {weight} --out new/c.ckpt")
    assert code == 0, err
    assert out.splitlines()[0] == f"blended      {1 - weight:g} of 0.ckpt and {weight:g} of 1.ckpt (SRGAN)"
    assert "which is far" in out
    assert "gans predict new/c.ckpt" in out
    found = load_model(tmp_path / "new" / "c.ckpt")
    for part in ("generator", "generator_ema"):
        weights = zip(getattr(first, part).parameters(), getattr(second, part).parameters(), strict=True)
        for there, (one, other) in zip(getattr(found, part).parameters(), weights, strict=True):
            assert torch.allclose(there, (1 - weight) * one + weight * other, atol=1e-6)
    if weight in (0, 1):
        image = torch.rand(1, 3, 9, 7)
        assert torch.equal(found.translate(image), (first, second)[int(weight)].eval().translate(image))


def test_spectral_norms_are_those_of_the_new_weights(checkpoint, gans, tmp_path):
    for seed in (0, 1):
        checkpoint(f"{seed}.ckpt", made(seed=seed, **SMALL))
    assert gans("blend 0.ckpt 1.ckpt 0.5")[0] == 0
    layers = spectral_layers(load_model(tmp_path / "blend-0.5.ckpt").discriminator)
    assert layers
    for norm, weight in layers:
        exact = torch.linalg.matrix_norm(weight.original.flatten(1), 2)
        estimate = norm._u @ weight.original.flatten(1) @ norm._v
        assert float(estimate / exact) == pytest.approx(1, abs=1e-2)


def test_statistics_are_interpolated_and_other_buffers_are_not():
    first, second = (made(DCGAN, seed, size=16, width=4) for seed in (0, 1))
    counters = [model.generator.state_dict() for model in (first, second)]
    names = [name for name in counters[0] if name.endswith("num_batches_tracked")]
    for name in names:
        counters[1][name].fill_(7)
    before = {name: part.clone() for name, part in second.generator.state_dict().items()}
    blend(first, second, 0.25)
    after = second.generator.state_dict()
    means = [name for name in after if name.endswith(("running_mean", "running_var"))]
    assert names
    assert means
    assert all(after[name] == 7 for name in names)
    for name in means:
        assert torch.allclose(after[name], 0.75 * counters[0][name] + 0.25 * before[name], atol=1e-6)
        assert not torch.allclose(after[name], before[name])


def test_the_mean_of_w_is_interpolated_and_noise_is_not():
    first, second = (made(StyleGAN2, seed, size=8, width=4, latent_dim=4) for seed in (0, 1))
    one, other = dict(first.named_buffers()), {name: part.clone() for name, part in second.named_buffers()}
    blend(first, second, 0.5)
    found = dict(second.named_buffers())
    noise, means = ([name for name in found if name.endswith(end)] for end in (".noise", ".mean_w"))
    assert len(noise) == len(means) == 2  # those of the generator and of its average
    assert all(torch.equal(found[name], other[name]) for name in noise)
    assert all(torch.allclose(found[name], (one[name] + other[name]) / 2) for name in means)


def test_a_blend_says_where_it_is_from(gans, tmp_path, checkpoint):
    first, second = made(seed=0, **SMALL), made(seed=0, **SMALL, lr=1e-5)
    first.origin = {"source": "someone's page", "licence": "BSD", "missing": ["discriminator"]}
    checkpoint("0.ckpt", first)
    checkpoint("1.ckpt", second)
    code, out, err = gans("blend 0.ckpt 1.ckpt 0.8")
    assert code == 0, err
    assert "apart        0.000" in out
    assert "far" not in out
    assert "differing    lr (0.0001, 1e-05); the second is kept" in out
    origin = load_model(tmp_path / "blend-0.8.ckpt").origin
    assert origin["source"] == "0.2 of 0.ckpt (someone's page) and 0.8 of 1.ckpt"
    assert (origin["licence"], origin["missing"]) == ("BSD", ["discriminator"])
    assert [len(hashed) for hashed in origin["files"].values()] == [64, 64]
    assert gans("blend blend-0.8.ckpt 1.ckpt 0.5 --out c.ckpt")[0] == 0


def test_a_blend_of_checkpoints_without_a_licence_has_none(gans, tmp_path, checkpoint):
    checkpoint("0.ckpt", made(**SMALL))
    checkpoint("1.ckpt", made(**SMALL))
    assert gans("blend 0.ckpt 1.ckpt 0.5")[0] == 0
    blended = load_model(tmp_path / "blend-0.5.ckpt")
    assert "licence" not in blended.origin
    assert told_origin(config_of(blended)) == " Its weights come from 0.5 of 0.ckpt and 0.5 of 1.ckpt."


def test_what_cannot_be_blended_is_one_sentence(refused, checkpoint, tmp_path):
    checkpoint("a.ckpt", made(**SMALL))
    checkpoint("b.ckpt", made(**SMALL))
    checkpoint("wide.ckpt", made(scale=2, blocks=1, width=6))
    checkpoint("dcgan.ckpt", made(DCGAN))
    (tmp_path / "link").mkdir()
    cases = {
        "a.ckpt b.ckpt 1.5": "weight is 1.5; expected a number from 0 to 1",
        "a.ckpt b.ckpt much": "weight is much; expected",
        "a.ckpt b.ckpt": "weight must be given",
        "a.ckpt none.ckpt 0.5": "there is no checkpoint none.ckpt",
        "a.ckpt b.ckpt 0.5 --out b.ckpt": "out is b.ckpt, a checkpoint that is read; expected another",
        "a.ckpt b.ckpt 0.5 --out link/../b.ckpt": "out is link/../b.ckpt, a checkpoint that is read; expected another",
        "a.ckpt b.ckpt 0.5 --out c.png": "out is c.png; expected a name that ends with .ckpt",
        "a.ckpt dcgan.ckpt 0.5": "a.ckpt and dcgan.ckpt cannot be blended: the models are gans.models.srgan.SRGAN",
        "a.ckpt wide.ckpt 0.5": "a.ckpt and wide.ckpt cannot be blended: generator.head.weight is (4, 3, 3, 3) and",
    }
    for line, says in cases.items():
        assert refused(f"blend {line}").startswith(says), line


def test_a_blend_starts_runs_and_resumes_none(gans, tmp_path, checkpoint):
    for seed in (0, 1):
        checkpoint(f"{seed}.ckpt", made(DCGAN, seed))
    assert gans("blend 0.ckpt 1.ckpt 0.5 --out c.ckpt")[0] == 0
    with pytest.raises(ValueError, match="no run can resume from it: --init_from takes its weights"):
        check_resumable(torch.load(tmp_path / "c.ckpt", weights_only=True))
    model = made(DCGAN, 2)
    assert init_from(model, tmp_path / "c.ckpt") == []
    blended = load_model(tmp_path / "c.ckpt").generator_ema.state_dict()
    assert all(torch.equal(part, blended[name]) for name, part in model.generator_ema.state_dict().items())
