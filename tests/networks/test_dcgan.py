"""DCGAN against the paper's 64x64 network written out in plain layers, and its shapes at every other size."""

import pytest
import torch
from torch import nn

from gans.networks import dcgan

torch.set_num_threads(1)


def reference_generator(latent_dim=100, width=64, channels=3):
    """Figure 1 of arXiv 1511.06434 from 4x4, but with the 512 channels of the authors' code, not the figure's 1024."""
    w = width
    return nn.Sequential(
        nn.ConvTranspose2d(latent_dim, 8 * w, 4, 1, 0, bias=False),
        nn.BatchNorm2d(8 * w),
        nn.ReLU(),
        nn.ConvTranspose2d(8 * w, 4 * w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(4 * w),
        nn.ReLU(),
        nn.ConvTranspose2d(4 * w, 2 * w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * w),
        nn.ReLU(),
        nn.ConvTranspose2d(2 * w, w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(w),
        nn.ReLU(),
        nn.ConvTranspose2d(w, channels, 4, 2, 1),
        nn.Tanh(),
    )


def reference_discriminator(width=64, channels=3):
    w = width
    return nn.Sequential(
        nn.Conv2d(channels, w, 4, 2, 1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(w, 2 * w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(2 * w),
        nn.LeakyReLU(0.2),
        nn.Conv2d(2 * w, 4 * w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(4 * w),
        nn.LeakyReLU(0.2),
        nn.Conv2d(4 * w, 8 * w, 4, 2, 1, bias=False),
        nn.BatchNorm2d(8 * w),
        nn.LeakyReLU(0.2),
        nn.Conv2d(8 * w, 1, 4, 1, 0),
    )


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def copy_state(source, target):
    """Copy by order: the names of layers are nobody's business."""
    target.load_state_dict(dict(zip(target.state_dict(), source.state_dict().values(), strict=True)))


def test_64_pixels_have_the_papers_parameters():
    # PyTorch's DCGAN example has 3,576,704 and 2,765,568: no bias at the image (3 and 64) and at the logit (1).
    generator, discriminator = dcgan.Generator(100, 64, 3, 64), dcgan.Discriminator(64, 3, 64)
    assert parameters(generator) == parameters(reference_generator()) == 3_576_704 + 3
    assert parameters(discriminator) == parameters(reference_discriminator()) == 2_765_568 + 64 + 1


@pytest.mark.parametrize("training", [True, False])
def test_64_pixels_give_the_papers_outputs(training):
    torch.manual_seed(0)
    generator, discriminator = dcgan.Generator(12, 64, 3, 8), dcgan.Discriminator(64, 3, 8)
    references = reference_generator(12, 8), reference_discriminator(8)
    for network, reference in zip((generator, discriminator), references, strict=True):
        reference.to(memory_format=torch.channels_last)  # or sums are taken in another order
        for buffer in network.buffers():  # statistics that matter in evaluation
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 2)
        copy_state(network, reference)
        network.train(training)
        reference.train(training)
    z, images = torch.randn(5, 12), torch.rand(5, 3, 64, 64) * 2 - 1
    assert torch.equal(generator(z), references[0](z[:, :, None, None]))
    assert torch.equal(discriminator(images), references[1](images)[:, 0, 0, 0])


def test_weights_start_as_in_the_paper():
    torch.manual_seed(0)
    for network in (dcgan.Generator(100, 64, 3, 32), dcgan.Discriminator(64, 3, 32)):
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                assert module.weight.std().item() == pytest.approx(0.02, rel=0.1)
                assert abs(module.weight.mean()) < 0.002
            if isinstance(module, nn.BatchNorm2d):
                assert module.weight.mean().item() == pytest.approx(1, abs=0.02)


def pair(size):
    return (size, size) if isinstance(size, int) else size


SIZES = [2, 3, 4, 5, 7, 8, 15, 16, 17, 28, 32, 64, 96, (48, 80), (80, 48), (2, 9), (4, 100), (33, 64)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_shapes(size, channels, batch_norm):
    images = dcgan.Generator(6, size, channels, 2)(torch.randn(2, 6))
    assert images.shape == (2, channels, *pair(size))
    assert images.abs().max() <= 1
    logits = dcgan.Discriminator(size, channels, 2, batch_norm)(images)
    assert logits.shape == (2,)
    assert dcgan.Discriminator(size, channels, 2, batch_norm).eval()(images[:1]).shape == (1,)


def test_418_pixels_are_448_less_15_at_each_edge():
    torch.manual_seed(0)
    generator = dcgan.Generator(6, 418, 3, 1).eval()
    z = torch.randn(1, 6)
    images = generator(z)
    whole = generator.layers(z[:, :, None, None])
    assert whole.shape == (1, 3, 448, 448)
    assert torch.equal(images, whole[:, :, 15:-15, 15:-15])
    assert dcgan.Discriminator(418, 3, 1).eval()(images).shape == (1,)


@pytest.mark.parametrize(
    ("size", "base", "levels"),
    [(4, (2, 2), 1), (28, (7, 7), 2), (32, (4, 4), 3), (64, (4, 4), 4), ((48, 80), (6, 10), 3), (418, (7, 7), 6)],
)
def test_sizes_double_from_their_rounded_up_quotient(size, base, levels):
    generator, discriminator = dcgan.Generator(6, size, 1, 1), dcgan.Discriminator(size, 1, 1)
    up = [m for m in generator.modules() if isinstance(m, nn.ConvTranspose2d)]
    down = [m for m in discriminator.modules() if isinstance(m, nn.Conv2d)]
    assert up[0].kernel_size == base
    assert [m.stride for m in up] == [(1, 1)] + levels * [(2, 2)]
    assert [m.stride for m in down] == levels * [(2, 2)] + [(1, 1)]
    assert [m.in_channels for m in up[1:]][::-1] == [m.out_channels for m in down[:-1]]
    assert [m.out_channels for m in down[:-1]] == [1, 2, 4, 8, 8, 8][:levels]


@pytest.mark.parametrize("size", [1, (1, 64), (64, 1)])
def test_a_side_of_one_pixel_is_refused_by_both_networks(size):
    message = "size is {}x{}; a convolutional network needs at least 2 pixels a side".format(*pair(size))
    for make in (lambda: dcgan.Generator(6, size, 3, 2), lambda: dcgan.Discriminator(size, 3, 2)):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize(
    ("size", "channels", "width", "message"),
    [
        (0, 3, 2, "size is 0"),
        (8, 2, 2, "channels is 2"),
        (8, 3, 0, "width is 0; expected at least 1"),
        (8, 3, -1, "width is -1"),
    ],
)
def test_other_bad_values_are_refused(size, channels, width, message):
    for make in (lambda: dcgan.Generator(6, size, channels, width), lambda: dcgan.Discriminator(size, channels, width)):
        with pytest.raises(ValueError, match=message):
            make()


@pytest.mark.parametrize("size", [16, 64])
def test_images_of_another_size_than_the_critic_was_built_for_are_refused(size):
    with pytest.raises(RuntimeError):  # not several logits an image, which every loss would average
        dcgan.Discriminator(32, 3, 2)(torch.randn(4, 3, size, size))


def test_logits_are_raw_scores():
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(16, 1, 4, batch_norm=False)
    assert not any(isinstance(m, nn.Sigmoid) for m in discriminator.modules())
    with torch.no_grad():
        discriminator.layers[-1].weight.mul_(1e5)
    logits = discriminator(torch.randn(64, 1, 16, 16))
    assert logits.max() > 1
    assert logits.min() < 0


@pytest.mark.parametrize(("batch_norm", "independent"), [(True, False), (False, True)])
def test_batch_norm_is_what_makes_samples_see_each_other(batch_norm, independent):
    torch.manual_seed(0)
    discriminator = dcgan.Discriminator(32, 3, 4, batch_norm).double()
    assert any(isinstance(m, nn.BatchNorm2d) for m in discriminator.modules()) == batch_norm
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64).requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(images)[1], images)
    assert gradient[1].abs().sum() > 0
    assert (gradient[[0, 2, 3]].abs().sum() == 0) == independent


def test_every_layer_learns():
    generator, discriminator = dcgan.Generator(6, 28, 3, 2), dcgan.Discriminator(28, 3, 2)
    discriminator(generator(torch.randn(4, 6))).square().mean().backward()
    for network in (generator, discriminator):
        for name, parameter in network.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_images_vary_with_the_latent_at_the_edges_of_a_cropped_size_too():
    torch.manual_seed(0)
    images = dcgan.Generator(6, (33, 50), 3, 4).eval()(torch.randn(64, 6))
    assert (images.std(0) > 0).all()


def test_networks_lie_pixel_by_pixel_and_give_what_they_would_channel_by_channel():
    torch.manual_seed(0)
    generator, discriminator = dcgan.Generator(6, 28, 3, 2).eval(), dcgan.Discriminator(28, 3, 2, batch_norm=False)
    z, images = torch.randn(2, 6), torch.randn(2, 3, 28, 28)
    made, logits = generator(z), discriminator(images)
    assert made.is_contiguous()
    assert not generator.layers[3].weight.is_contiguous()
    assert not discriminator.layers[2].weight.is_contiguous()
    for network in (generator, discriminator):
        network.to(memory_format=torch.contiguous_format)
    torch.testing.assert_close(generator(z), made, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(discriminator(images), logits, rtol=1e-4, atol=1e-7)
    last = images.to(memory_format=torch.channels_last)
    torch.testing.assert_close(discriminator(last), logits, rtol=1e-4, atol=1e-7)
