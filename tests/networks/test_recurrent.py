"""The recurrent generator and the critic of clips, against torch's own GRU and against what they promise."""

import pytest
import torch
from torch import nn

from gans.networks import recurrent


def generator(num_classes=0, size=16, channels=1, grid=0):
    torch.manual_seed(0)
    return recurrent.Generator(5, 3, size, channels, 2, num_classes, grid).eval()


def latent(n, frames, seed=0):
    return torch.randn(n, 5 + (frames + 1) * 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("grid", [0, 1, 4])
@pytest.mark.parametrize("size", [16, (20, 28)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("frames", [1, 2, 7])
def test_the_length_of_a_latent_is_that_of_the_clip(size, channels, frames, grid):
    clips = generator(size=size, channels=channels, grid=grid)(latent(3, frames))
    assert clips.shape == (3, channels, frames, *((16, 16) if size == 16 else size))
    assert clips.abs().max() <= 1


@pytest.mark.parametrize("length", [5, 8, 10, 12])
def test_a_latent_of_another_length_is_refused(length):
    with pytest.raises(ValueError, match=rf"a latent has {length} numbers; expected 5 \+ \(frames \+ 1\) x 3"):
        generator()(torch.randn(2, length))


def test_motion_codes_are_a_gated_recurrent_unit_unrolled():
    network, z = generator(), latent(4, 6)
    whole = nn.GRU(3, 3, batch_first=True)
    whole.load_state_dict({f"{name}_l0": value for name, value in network.motion.state_dict().items()})
    state, noise = z[:, 5:8], z[:, 8:].reshape(4, 6, 3)
    expected, _ = whole(noise, state[None])
    assert torch.allclose(network.motion_codes(*network.parts(z)[1:]), expected, atol=1e-6)


def test_a_frame_is_the_image_generators_of_content_and_its_motion():
    network, z = generator(channels=3), latent(2, 4)
    motion = network.motion_codes(*network.parts(z)[1:])
    clips = network(z)
    for clip in range(2):
        for frame in range(4):
            image = network.frames.frame(torch.cat([z[clip, :5], motion[clip, frame]])[None])[0]
            assert torch.allclose(clips[clip, :, frame], image, atol=1e-6)


@pytest.mark.parametrize("grid", [0, 3])
def test_a_frame_depends_on_what_was_before_it_and_on_nothing_after(grid):
    network, z = generator(grid=grid).double(), latent(1, 6).double()
    other = z.clone()
    other[:, 8 + 3 * 3 : 8 + 4 * 3] += 1  # the noise of frame 3
    change = (network(z) - network(other)).abs().amax((0, 1, 3, 4))
    assert change[:3].max() == 0
    assert change[3:].min() > 0
    assert torch.allclose(network(z[:, : 8 + 2 * 3]), network(z)[:, :, :2], atol=1e-12)  # a shorter latent: its start


@pytest.mark.parametrize("grid", [0, 3])
def test_motion_is_in_the_noise_and_content_in_all_frames(grid):
    network, z = generator(grid=grid), latent(1, 6)
    assert network(z).diff(dim=2).abs().amax((0, 1, 3, 4)).min() > 0
    other = z.clone()
    other[:, :5] += 1
    assert torch.equal(network.motion_codes(*network.parts(z)[1:]), network.motion_codes(*network.parts(other)[1:]))
    assert (network(z) - network(other)).abs().amax((0, 1, 3, 4)).min() > 0


def test_a_class_enters_motion_and_frames():
    network, z = generator(num_classes=4), latent(2, 5)
    labels = torch.tensor([1, 3])
    seen = []
    network.frames.frame.register_forward_pre_hook(lambda module, given: seen.append(given[0].view(2, 5, -1)))
    network(z, labels)
    network(z, torch.tensor([1, 2]))
    first, second = seen
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1, :, 5:9], torch.tensor([0.0, 0, 0, 1]).expand(5, 4))
    assert (first[1, :, 9:] != second[1, :, 9:]).any(1).all()
    with pytest.raises(ValueError, match="labels are missing"):
        network(z)
    with pytest.raises(ValueError, match="labels are 1 to 4; expected classes from 0 to 3"):
        network(z, torch.tensor([1, 4]))
    with pytest.raises(ValueError, match="without classes"):
        generator()(z, labels)


def test_the_state_is_carried_in_full_precision():
    network, z = generator(), latent(2, 4)
    exact = network.motion_codes(*network.parts(z)[1:])
    with torch.autocast("cpu", torch.bfloat16):
        codes = network.motion_codes(*network.parts(z)[1:])
    assert codes.dtype == torch.float32
    assert torch.equal(codes, exact)


# -- what moves --------------------------------------------------------------------------------------------------------


def moved(grid, size=16):
    """A canvas of known pixels, shown as it is: the first of its channels."""
    torch.manual_seed(0)
    network = recurrent.Moved(5, 3, size, 1, 2, grid).eval()
    network.canvas = Known(size)
    network.finish = nn.Identity()
    return network


class Known(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.pixels = torch.rand(2, recurrent.CANVAS, size, size, generator=torch.Generator().manual_seed(1))

    def forward(self, content):
        return self.pixels


def test_one_knot_moves_the_canvas_as_a_whole():
    network = moved(1)
    with torch.no_grad():
        network.knots[2].weight.zero_()
        network.knots[2].bias.copy_(torch.tensor([2 * 3 / 16, -2 * 2 / 16]))  # 3 pixels across, 2 up
    clips = network(torch.zeros(2, 5), torch.randn(2, 4, 3))
    canvas = network.canvas.pixels
    assert clips.shape == (2, 4, 4, 16, 16)
    for frame in clips.unbind(2):
        assert torch.allclose(frame[..., 2:, :-3], canvas[..., :-2, 3:], atol=1e-5)
        assert torch.allclose(frame[..., 2:, -3:], canvas[..., :-2, -1:].expand(-1, -1, -1, 3), atol=1e-5)  # the edge


def test_more_knots_move_parts_apart():
    network = moved(2)
    with torch.no_grad():
        network.knots[2].weight.zero_()
        network.knots[2].bias.copy_(torch.tensor([0, 2 * 4 / 16, 0, 2 * 4 / 16, 0, 0, 0, 0]))  # on the right only
    frame = network(torch.zeros(2, 5), torch.randn(2, 1, 3))[:, :, 0]
    canvas = network.canvas.pixels
    assert torch.allclose(frame[..., 0], canvas[..., 0], atol=1e-5)
    assert torch.allclose(frame[..., -1], canvas[..., -1], atol=1e-5)  # from beyond the edge
    assert not torch.allclose(frame[..., 8], canvas[..., 8], atol=1e-2)


def test_each_frame_has_the_field_of_its_own_motion_code():
    network, content, motion = moved(3), torch.zeros(2, 5), torch.randn(2, 4, 3)
    clips, other = network(content, motion), motion.clone()
    other[1, 2] += 1
    change = (network(content, other) - clips).abs().amax((1, 3, 4))
    assert change[1, 2] > 0
    change[1, 2] = 0
    assert change.max() == 0


def test_what_is_still_stays_as_it_is():
    """Content alone decides what is shown: with one motion code for all frames, no frame differs."""
    network = recurrent.Moved(5, 3, 16, 3, 2, 4).eval()
    clips = network(torch.randn(2, 5), torch.randn(2, 1, 3).expand(-1, 6, -1))
    assert clips.diff(dim=2).abs().max() < 1e-6
    assert clips.std(dim=(3, 4)).min() > 0


# -- the critic --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 9, 16])
@pytest.mark.parametrize("size", [8, (20, 28)])
def test_any_clip_has_one_logit(frames, size):
    critic = recurrent.VideoCritic(frames, size, 3, 2)
    sides = (8, 8) if size == 8 else size
    assert critic(torch.randn(2, 3, frames, *sides)).shape == (2,)
    for wrong in ((frames + 4, *sides), (frames, 40, 48)):
        with pytest.raises(RuntimeError):
            critic(torch.randn(2, 3, *wrong))


@pytest.mark.parametrize("frames", [1, 0, -3])
def test_one_frame_is_no_clip(frames):
    with pytest.raises(ValueError, match=f"frames is {frames}; expected at least 2"):
        recurrent.VideoCritic(frames, 16, 1, 2)


def test_a_logit_depends_on_every_frame_of_its_own_clip_and_on_their_order():
    torch.manual_seed(0)
    critic = recurrent.VideoCritic(9, 16, 1, 4, spectral_norm=True).eval()
    clips = torch.randn(3, 1, 9, 16, 16).requires_grad_()
    (gradient,) = torch.autograd.grad(critic(clips)[1], clips)
    assert gradient[[0, 2]].abs().max() == 0
    assert gradient[1].abs().amax((0, 2, 3)).min() > 0
    with torch.no_grad():
        assert not torch.allclose(critic(clips), critic(clips.flip(2)), atol=1e-4)


def test_a_spectral_norm_is_one():
    torch.manual_seed(0)
    critic = recurrent.VideoCritic(4, 8, 1, 4, spectral_norm=True)
    for _ in range(50):  # power iterations
        critic(torch.randn(2, 1, 4, 8, 8))
    weights = [part.weight for part in critic.eval().modules() if isinstance(part, nn.Conv3d)]
    assert len(weights) == 2
    for weight in weights:
        assert float(torch.linalg.matrix_norm(weight.detach().flatten(1), 2)) == pytest.approx(1, abs=1e-3)
    plain = recurrent.VideoCritic(4, 8, 1, 4)
    assert not any("parametrizations" in name for name in plain.state_dict())


def test_weights_start_as_dcgans_do():
    torch.manual_seed(0)
    for part in recurrent.VideoCritic(16, 32, 1, 32).layers:
        if isinstance(part, nn.Conv3d):
            assert float(part.weight.std()) == pytest.approx(0.02, rel=0.1)
            assert part.bias.abs().max() == 0


@pytest.mark.parametrize("kind", ["clips", "frames"])
def test_critics_know_classes(kind):
    torch.manual_seed(0)
    if kind == "clips":
        images, critic = torch.randn(2, 1, 4, 8, 8), recurrent.VideoCritic(4, 8, 1, 4, num_classes=3)
    else:
        images, critic = torch.randn(2, 1, 8, 8), recurrent.ImageCritic(8, 1, 4, num_classes=3)
    one, other = critic(images, torch.tensor([0, 2])), critic(images, torch.tensor([1, 2]))
    assert one[0] != other[0]
    assert one[1] == other[1]
    with pytest.raises(ValueError, match="labels are missing"):
        critic(images)


def test_a_logit_of_a_frame_is_that_frames_alone():
    torch.manual_seed(0)
    critic = recurrent.ImageCritic((20, 28), 3, 2, spectral_norm=True).eval()
    frames = torch.randn(3, 3, 20, 28).requires_grad_()
    logits = critic(frames)
    (gradient,) = torch.autograd.grad(logits[1], frames)
    assert logits.shape == (3,)
    assert gradient[[0, 2]].abs().max() == 0
    assert gradient[1].abs().sum() > 0
    convolutions = [part for part in critic.modules() if isinstance(part, nn.Conv2d)]
    assert all("parametrizations" in dict(part.named_modules()) for part in convolutions)


@pytest.mark.parametrize("grid", [0, 1, 4])
def test_every_layer_learns(grid):
    network, critic = generator(num_classes=3, grid=grid).train(), recurrent.VideoCritic(6, 16, 1, 2, num_classes=3)
    labels = torch.tensor([0, 1, 2])
    clips = network(latent(3, 6), labels)
    of_frames = recurrent.ImageCritic(16, 1, 2, num_classes=3)
    (critic(clips, labels) + of_frames(clips[:, :, 2], labels)).square().mean().backward()
    for part in (network, critic, of_frames):
        for name, parameter in part.named_parameters():
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_a_critic_of_clips_has_the_same_gradients_in_bfloat16():
    """oneDNN's are not numbers where the kernel is longer than what is left of a clip: here 2 of 8 frames."""
    torch.manual_seed(0)
    critic, clips = recurrent.VideoCritic(8, 32, 1, 8), torch.randn(4, 1, 8, 32, 32)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype, enabled=dtype is torch.bfloat16):
            logits = critic(clips)
        found.append(torch.autograd.grad(logits.float().sum(), list(critic.parameters())))
    for exact, rounded in zip(*found, strict=True):
        assert (exact - rounded).norm() <= 0.1 * exact.norm()


def test_positions_that_are_no_numbers_do_not_crash():
    """torch's grid_sample ends the interpreter in the backward pass; a run that diverges shall be told so."""
    moved = recurrent.Moved(4, 3, 8, 1, 4, 1)
    clips = moved(torch.randn(2, 4), torch.full((2, 3, 3), torch.nan))
    assert clips.isnan().any()
    clips.sum().backward()
    finite = moved(torch.randn(2, 4), torch.randn(2, 3, 3))
    assert finite.isfinite().all()
