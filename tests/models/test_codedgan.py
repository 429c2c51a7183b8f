"""GANs on the codes of a frozen autoencoder: the base class, with a tiny autoencoder of these tests."""

import pytest
import torch
from checkpoints import assert_equal, freeze_batch_norm
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gans.engine.checkpoint import init_from, load_model
from gans.engine.interface import pretended, real_images
from gans.engine.module import AdversarialModule
from gans.models import codedgan
from gans.models.codedgan import CodedGAN
from gans.networks import dcgan
from gans.networks.coder import Coder


class Tiny(Coder):
    """Autoencoder of images 3 x 8 x 8 with codes 4 x 4 x 4 and a BatchNorm, so that its mode matters."""

    def __init__(self, seed=0, image_shape=(3, 8, 8)):
        super().__init__(image_shape, (4, 4, 4))
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.BatchNorm2d(4))
        self.up = nn.ConvTranspose2d(4, 3, 2, 2)
        with torch.no_grad():
            for parameter in self.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))

    def encode(self, images):
        return self.down(images)

    def decode(self, codes):
        return self.up(codes).tanh()

    def description(self):
        return {"kind": "tiny"}


class Drawn(Tiny):
    """The same with random codes: their mean and standard deviation are stored."""

    stored_shape = (8, 4, 4)

    def stored(self, images):
        mean = self.encode(images)
        return torch.cat([mean, torch.full_like(mean, 0.5)], 1)

    def drawn(self, stored, noise=None):
        mean, deviation = stored.chunk(2, 1)
        return mean if noise is None else mean + deviation * noise


KINDS = {"tiny.ckpt": lambda: Tiny(), "other.ckpt": lambda: Tiny(1), "random.ckpt": lambda: Drawn()}
KINDS["wide.ckpt"] = lambda: Tiny(image_shape=(3, 8, 16))


class Small(CodedGAN):
    """Convolutional players on codes."""

    def make_generator(self, size, channels, width):
        return dcgan.Generator(self.latent_dim, size, channels, width)

    def make_discriminator(self, size, channels, width):
        return dcgan.Discriminator(size, channels, width, batch_norm=False)


@pytest.fixture(autouse=True)
def files(monkeypatch):
    """Checkpoints of autoencoders that are no files."""
    monkeypatch.setattr(codedgan, "load_coder", lambda path, size: KINDS[path]().sealed())
    monkeypatch.setattr(codedgan, "coder_of", lambda description: Tiny(seed=7))


def small(autoencoder="tiny.ckpt", **options):
    return Small(**{"size": 8, "channels": 3, "latent_dim": 3, "width": 2, "autoencoder": autoencoder, **options})


def images(count=8):
    return torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(3)) * 2 - 1


def batches(first, count=4):
    return DataLoader(TensorDataset(first), batch_size=count)


class Codes:
    """What a data module of stored codes says of them."""

    def __init__(self, digest):
        self.digest = digest


def test_players_see_codes_and_samples_are_images():
    model = small()
    assert model.code_shape == (4, 4, 4)
    assert model.image_shape == (3, 8, 8)
    assert model.generator(torch.randn(5, 3)).shape == (5, 4, 4, 4)
    z = torch.randn(5, 3)
    assert torch.equal(model(z), model.coder.decode(model.generator_ema(z)))
    assert model.sample(5, seed=1).shape == (5, 3, 8, 8)


def test_without_an_autoencoder_the_players_see_images():
    model = small(None)
    assert model.coder is None
    assert model.generator(torch.randn(5, 3)).shape == model.sample(5).shape == (5, 3, 8, 8)


def test_autoencoder_is_frozen(trainer):
    torch.manual_seed(0)
    model = small()
    before = {name: tensor.clone() for name, tensor in model.coder.state_dict().items()}
    players = {name: tensor.clone() for name, tensor in model.generator.state_dict().items()}
    trainer(2).fit(model, batches(images()))
    assert_equal(dict(model.coder.state_dict()), before)
    assert not any(torch.equal(players[name], tensor) for name, tensor in model.generator.named_parameters())
    model.train()
    assert not any(part.training for part in model.coder.modules())
    held = {
        id(p) for optimizer in model.configure_optimizers() for group in optimizer.param_groups for p in group["params"]
    }
    assert not held & {id(p) for p in model.coder.parameters()}
    assert not [name for name in model.generator_ema.state_dict() if "down" in name]
    model.coder.double()
    assert not any(buffer.dtype == torch.float64 for buffer in model._running_statistics())


@pytest.mark.parametrize("stored", ["tiny.ckpt", "random.ckpt"])
def test_stored_codes_train_as_their_images_do(trainer, stored):
    found = []
    for codes in (False, True):
        torch.manual_seed(0)
        model = small(stored)
        first = model.coder.stored(images()).detach() if codes else images()
        model.seed = 1
        trainer(2).fit(model, batches(first))
        found.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
    assert_equal(*found)


def test_random_codes_are_drawn_anew(trainer):
    seen = []

    class Looks(Small):
        def discriminator_step(self, real, *labels, **options):
            seen.append(real)
            return super().discriminator_step(real, *labels, **options)

    model = Looks(size=8, channels=3, latent_dim=3, width=2, autoencoder="random.ckpt")
    trainer(2).fit(model, batches(images(4).repeat(2, 1, 1, 1)))
    assert not torch.equal(*seen)


def test_pieces_make_the_same_step(trainer):
    found = []
    for accumulate in (1, 2):
        torch.manual_seed(0)
        model = small("random.ckpt", accumulate=accumulate).double()
        freeze_batch_norm(model)
        model.seed = 1
        trainer(2, precision="64-true").fit(model, batches(images().double()))
        found.append(torch.cat([p.flatten() for p in model.generator.parameters()]))
    assert torch.allclose(*found, rtol=1e-9, atol=1e-12)


def test_held_out_images_are_judged_as_codes(trainer):
    model = small()
    found = trainer(1).validate(model, batches(images()), verbose=False)
    assert "val/logits/real" in found[0]


def test_real_images_of_codes_are_decoded():
    model = small()
    codes = model.coder.encode(images())
    assert torch.equal(real_images(model, (images(),)), images())
    assert torch.equal(real_images(model, (codes,)), model.coder.decode(codes))
    assert pretended(model, 2)[0].shape == (2, 3, 8, 8)


def test_checkpoint_loads_without_the_file(trainer, tmp_path, monkeypatch):
    model = small()
    run = trainer(1)
    run.fit(model, batches(images()))
    run.save_checkpoint(tmp_path / "a.ckpt")
    monkeypatch.setattr(codedgan, "load_coder", None)
    again = load_model(tmp_path / "a.ckpt", model=Small)
    assert again.hparams["autoencoder"] == {"kind": "tiny"}
    assert again.coder.digest == model.coder.digest
    assert torch.equal(again.sample(3, seed=1), model.eval().sample(3, seed=1))


def test_run_resumes_with_its_autoencoder_only(trainer, tmp_path):
    run = trainer(1)
    run.fit(small(), batches(images()))
    run.save_checkpoint(tmp_path / "a.ckpt")
    trainer(2).fit(small(), batches(images()), ckpt_path=tmp_path / "a.ckpt", weights_only=True)
    with pytest.raises(ValueError, match="autoencoder is another than that with which the checkpoint's run began"):
        trainer(2).fit(small("other.ckpt"), batches(images()), ckpt_path=tmp_path / "a.ckpt", weights_only=True)


def test_new_run_from_weights_keeps_its_own_autoencoder(trainer, tmp_path):
    model, run = small(), trainer(1)
    run.fit(model, batches(images()))
    run.save_checkpoint(tmp_path / "a.ckpt")
    fresh = small("other.ckpt")
    digest, weight = fresh.coder.digest, fresh.coder.up.weight.clone()
    assert init_from(fresh, tmp_path / "a.ckpt") == []
    assert torch.equal(fresh.coder.up.weight, weight)
    assert fresh.coder.digest == digest
    assert_equal(dict(fresh.generator.state_dict()), dict(model.generator.state_dict()))


def test_other_codes_are_refused(trainer):
    for model, digest, message in [
        (small(), Tiny(1).sealed().digest, "the data are codes of the autoencoder"),
        (small(None), "ab", "the data are codes, but autoencoder is None"),
    ]:
        model.trainer = trainer(1)
        model.trainer.datamodule = Codes(digest)
        with pytest.raises(ValueError, match=message):
            model.setup("fit")
    model = small()
    model.trainer = trainer(1)
    model.trainer.datamodule = Codes(model.coder.digest)
    model.setup("fit")


def test_images_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"autoencoder is wide.ckpt, which has images of \(3, 8, 16\)"):
        small("wide.ckpt")


def test_augmentations_of_images_are_refused():
    with pytest.raises(ValueError, match="augment is ada, for images; expected codes, for codes"):
        small(augment="ada")
    small(augment="codes")
    small(None, augment="ada")


def test_terms_see_codes(trainer):
    seen = []

    class Looks(Small):
        def discriminator_step(self, real, *labels, **options):
            seen.append(tuple(real.shape))
            return super().discriminator_step(real, *labels, **options)

    model = Looks(size=8, channels=3, latent_dim=3, width=2, autoencoder="tiny.ckpt", r1="heuristic")
    trainer(1).fit(model, batches(images()))
    assert seen == [(4, 4, 4, 4)]
    assert isinstance(model, AdversarialModule)
