"""Frozen autoencoders: normalised codes, gradients through the decoder, and one digest wherever they are loaded."""

import re

import lightning as L
import pytest
import torch

from gans.models import DCGAN, Autoencoder, GridAutoencoder
from gans.models.coders import Coder, GridCoder, coder_of, load_coder


def model(**given) -> GridAutoencoder:
    """A small autoencoder with moments of its codes that are not those of N(0, 1)."""
    L.seed_everything(0)
    made = GridAutoencoder(size=(8, 16), channels=3, code_channels=2, factor=4, width=16, depth=1, **given)
    for generator in (made.generator, made.generator_ema):
        for _ in range(3):
            generator.codes.update(made.coded(torch.rand(64, 3, 8, 16) * 2 - 1))
    return made.eval()


@pytest.mark.parametrize("kl", [0.0, 1e-3])
def test_a_coder_gives_whitened_codes_and_the_images_of_its_model(saved, tmp_path, kl):
    held = model(kl=kl)
    path = saved(held, tmp_path)
    coder = load_coder(path)
    images = torch.rand(64, 3, 8, 16) * 2 - 1
    codes = coder.encode(images)
    assert (coder.image_shape, coder.code_shape, coder.factor) == ((3, 8, 16), (2, 2, 4), 4)
    assert codes.shape == (64, *coder.code_shape) == (64, *coder.stored_shape)
    assert torch.allclose(codes, held.generator_ema.codes.whiten(held.encode(images)), atol=1e-5)
    assert torch.allclose(coder.decode(codes), held.reconstruct(images), atol=1e-5)
    assert codes.mean((0, 2, 3)).abs().max() < 0.3
    assert ((codes.std((0, 2, 3)) - 1).abs() < 0.3).all()
    assert coder.drawn(coder.stored(images)).equal(codes)


def test_gradients_pass_the_decoder_to_the_codes_and_reach_no_weight():
    coder = GridCoder(model()).train()
    codes = torch.randn(2, *coder.code_shape, requires_grad=True)
    coder.decode(codes).square().sum().backward()
    assert codes.grad is not None
    assert bool(codes.grad.any())
    assert not any(part.training for part in coder.modules())
    assert all(weight.grad is None and not weight.requires_grad for weight in coder.parameters())


def test_the_digest_names_the_weights_after_a_save_and_load_in_any_dtype(saved, tmp_path):
    held = model()
    path = saved(held, tmp_path)
    coder = load_coder(path)
    with torch.random.fork_rng():
        before = torch.get_rng_state()
        again = coder_of(coder.description())
        assert torch.get_rng_state().equal(before)
    assert again.digest != coder.digest
    again.to(torch.bfloat16).load_state_dict(coder.state_dict())
    assert again.digest == coder.digest == load_coder(path).digest
    assert re.fullmatch("[0-9a-f]{64}", coder.digest)
    with torch.no_grad():
        next(held.generator_ema.encoder.parameters())[0] += 1e-3
    assert GridCoder(held).digest != coder.digest


def test_a_rebuilt_coder_has_the_same_images():
    coder = GridCoder(model())
    again = coder_of(coder.description())
    again.load_state_dict(coder.state_dict())
    codes = torch.randn(2, *coder.code_shape)
    assert isinstance(again, Coder)
    assert again.decode(codes).equal(coder.decode(codes))


def test_what_is_no_grid_autoencoder_is_refused(saved, tmp_path):
    path = saved(Autoencoder(size=8, channels=1, latent_dim=4, width=4), tmp_path)
    with pytest.raises(ValueError, match=r"autoencoder is .*: codes of an Autoencoder are flat; expected"):
        load_coder(path)
    path = saved(DCGAN(size=8, channels=1, width=4), tmp_path)
    with pytest.raises(ValueError, match=r"autoencoder is .*last\.ckpt, which holds a DCGAN; expected"):
        load_coder(path)
    nothing = tmp_path / "nothing.ckpt"
    with pytest.raises(ValueError, match=rf"^autoencoder is {nothing}: there is no checkpoint: No such file"):
        load_coder(nothing)
    nothing.write_text("no checkpoint")
    with pytest.raises(ValueError, match=rf"^autoencoder is {nothing}, which is not a checkpoint of this framework"):
        load_coder(nothing)
    with pytest.raises(ValueError, match="description names os"):
        coder_of({"model": "os.system", "arguments": {}})
