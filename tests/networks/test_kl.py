"""AutoencoderKL of diffusers as a coder: the library's own numbers, any size, tiles, files and bad input.

The folders are made here, with few channels and random weights.
"""

import json
import sys

import pytest
import torch

diffusers = pytest.importorskip("diffusers", reason="diffusers is not installed: the extra latents")

from gans.models.coders import coder_of, load_coder  # noqa: E402  (after the skip)
from gans.networks import kl  # noqa: E402


def made(**options):
    """An autoencoder of diffusers with few channels, factor 8."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 4, "up_block_types": ("UpDecoderBlock2D",) * 4}
    sizes = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4, "sample_size": 32}
    return diffusers.AutoencoderKL(**blocks, **sizes, **options).eval()


@pytest.fixture(scope="module")
def library():
    return made()


@pytest.fixture(scope="module")
def folder(library, tmp_path_factory):
    path = tmp_path_factory.mktemp("kl")
    library.save_pretrained(path)
    return path


@pytest.fixture
def coder(folder):
    return kl.load(folder)


def images(n=2, height=32, width=48):
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_numbers_are_those_of_the_library(library, coder):
    with torch.no_grad():
        posterior = library.encode(images()).latent_dist
        codes = posterior.mean * library.config.scaling_factor
        decoded = library.decode(codes / library.config.scaling_factor).sample
    mean, std = coder.stored(images()).chunk(2, 1)
    torch.testing.assert_close(mean, codes)
    torch.testing.assert_close(std, posterior.std * library.config.scaling_factor)
    assert torch.equal(coder.encode(images()), mean)
    torch.testing.assert_close(coder.decode(codes), decoded)


def test_a_draw_is_mean_and_noise_times_standard_deviation(coder):
    stored, noise = coder.stored(images()), torch.randn(2, 4, 4, 6)
    mean, std = stored.chunk(2, 1)
    assert torch.equal(coder.drawn(stored, torch.zeros_like(noise)), coder.encode(images()))
    torch.testing.assert_close(coder.drawn(stored, noise) - mean, noise * std)


@pytest.mark.parametrize(
    ("options", "shift", "spread"),
    [
        ({"scaling_factor": 0.5, "shift_factor": 0.25}, [0.25] * 4, [1.0] * 4),
        (
            {"latents_mean": [0.1, 0.2, 0.3, 0.4], "latents_std": [1.0, 2.0, 3.0, 4.0]},
            [0.1, 0.2, 0.3, 0.4],
            [1, 2, 3, 4],
        ),
    ],
)
def test_shift_and_scale_of_the_configuration_normalise_codes(options, shift, spread):
    library = made(**options)
    coder = kl.AutoencoderKL(options | {name: library.config[name] for name in kl.arguments(type(library))})
    coder.network.load_state_dict(library.state_dict())
    with torch.no_grad():
        raw = library.encode(images()).latent_dist.mean
        back = library.decode(raw).sample
    shift, spread = (torch.tensor(part)[:, None, None] for part in (shift, spread))
    codes = (raw - shift) * library.config.scaling_factor / spread
    torch.testing.assert_close(coder.encode(images()), codes)
    torch.testing.assert_close(coder.decode(codes), back)


def test_shapes_follow_the_size_of_the_images(folder, coder):
    assert (coder.image_shape, coder.code_shape) == ((3, 32, 32), (4, 4, 4))  # of the configuration
    larger = kl.load(folder, 256)
    assert (larger.code_shape, larger.stored_shape) == ((4, 32, 32), (8, 32, 32))
    assert kl.load(folder, [64, 48]).code_shape == (4, 8, 6)
    assert larger.digest == coder.digest
    with pytest.raises(ValueError, match=r"size is 60; expected multiples of 8"):
        kl.load(folder, 60)


def test_batches_are_cut_without_a_trace(coder, monkeypatch):
    codes = coder.encode(images(5))
    whole = coder.decode(codes)
    monkeypatch.setattr(kl, "PIXELS", 2 * 32 * 48)  # two images a pass
    torch.testing.assert_close(coder.encode(images(5)), codes)
    torch.testing.assert_close(coder.decode(codes), whole)


def test_tiles_equal_the_whole_where_tiles_have_its_statistics(coder, monkeypatch):
    # Attention and GroupNorm see a tile in place of the image. On codes that repeat, both see about the same.
    codes = torch.randn(1, 4, 4, 4).repeat(1, 1, 12, 8)
    with torch.no_grad():
        whole = coder.decode(codes)
        coder.tile, seen, decoded = 256, [], coder.decoded
        monkeypatch.setattr(coder, "decoded", lambda part: (seen.append(part.shape[-2:]), decoded(part))[1])
        tiled = coder.decode(codes)
    assert tiled.shape == whole.shape
    assert max(max(shape) for shape in seen) * coder.factor == coder.tile
    assert (tiled - whole).square().mean().sqrt() < 0.05 * whole.std()
    codes.requires_grad_()
    (gradient,) = torch.autograd.grad(coder.decode(codes).sum(), codes)
    assert gradient.abs().amin() > 0


def test_gradients_flow_through_the_decoder_alone(coder):
    codes = torch.randn(1, 4, 2, 3, requires_grad=True)
    loss = coder.decode(codes).square().sum()
    loss.backward()
    assert codes.grad.abs().min() > 0
    assert all(parameter.grad is None for parameter in coder.parameters())


def test_the_coder_stays_frozen_and_in_eval_mode(coder):
    holder = torch.nn.Sequential(coder).train()
    assert holder.training
    assert not any(part.training for part in coder.modules())
    assert not any(parameter.requires_grad for parameter in coder.parameters())


def test_weights_and_digest_survive_a_checkpoint_without_the_folder(coder):
    described = json.loads(json.dumps(coder.description()))  # plain values
    again = coder_of(described)
    assert again.digest != coder.digest
    again.load_state_dict(coder.state_dict())
    assert again.digest == coder.digest == again.double().digest
    assert (again.image_shape, again.description()) == (coder.image_shape, described)


def test_digests_depend_on_weights_and_configuration(coder):
    scaled = kl.AutoencoderKL(coder.config | {"scaling_factor": 0.5})
    scaled.network.load_state_dict(coder.network.state_dict())
    assert scaled.digest != coder.digest
    trained = kl.AutoencoderKL(coder.config)
    trained.network.load_state_dict(coder.network.state_dict())
    with torch.no_grad():
        next(trained.network.parameters()).view(-1)[0] += 1e-3
    assert trained.digest not in (coder.digest, scaled.digest)


def test_a_checkpoint_has_the_dtype_of_the_file(library, tmp_path):
    made().half().save_pretrained(tmp_path)
    coder = kl.load(tmp_path)
    assert {tensor.dtype for name, tensor in coder.state_dict().items() if name != "seal"} == {torch.float16}
    assert coder.encode(images()).dtype == torch.float32
    again = coder_of(coder.description())
    again.load_state_dict(coder.state_dict())
    assert torch.equal(again.encode(images()), coder.encode(images()))


def test_nothing_is_drawn(folder):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    coder_of(kl.load(folder).description())
    assert torch.equal(torch.rand(2), expected)


def test_precision_is_that_of_the_argument_whatever_autocast_says(folder, coder):
    codes = torch.randn(1, 4, 4, 4)
    exact = coder.decode(codes)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(coder.decode(codes), exact)
    half = kl.load(folder, precision="bfloat16").decode(codes)
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.1 * exact.abs().max()


def test_folders_are_coders_for_models(folder, coder):
    assert load_coder(str(folder)).digest == coder.digest
    assert load_coder(folder, (64, 32)).image_shape == (3, 64, 32)


def test_the_vae_of_a_folder_of_stable_diffusion_is_found(library, coder, tmp_path):
    library.save_pretrained(tmp_path / "vae")
    assert kl.load(tmp_path).digest == coder.digest


def test_bad_folders_are_told_in_a_sentence(library, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"nowhere; expected a folder with config.json and diffusion_pytorch_"):
        kl.load(tmp_path / "nowhere")
    (tmp_path / "config.json").write_text('{"_class_name": "UNet2DModel"}')
    (tmp_path / kl.WEIGHTS).write_bytes(b"")
    with pytest.raises(ValueError, match="names the class UNet2DModel; expected AutoencoderKL"):
        kl.load(tmp_path)
    library.save_config(tmp_path)
    with pytest.raises(ValueError, match=r"which cannot be used: ") as told:
        kl.load(tmp_path)
    assert "\n" not in str(told.value)


def test_without_the_hub_a_local_folder_is_asked_for(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    with pytest.raises(ValueError, match=r"the Hub does not give it \(ConnectionError\); expected a local folder with"):
        kl.load("stabilityai/sd-vae-ft-mse")


def test_without_the_package_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(ValueError, match=r"pip install 'lightning-gans\[latents\]'"):
        kl.load(folder)


def test_bad_arguments_are_refused(coder):
    with pytest.raises(ValueError, match="precision is float16; expected auto, bfloat16 or float32"):
        kl.AutoencoderKL(coder.config, precision="float16")
    with pytest.raises(ValueError, match="dtype is int8; expected one of float64"):
        kl.AutoencoderKL(coder.config, dtype="int8")
