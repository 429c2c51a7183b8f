"""What NextFrame promises besides what every model does: its windows, its losses, its continuations, its pictures."""

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from datamodules import MovingDigitsDataModule
from gans.engine.checkpoint import Checkpoint
from gans.models import NextFrame
from gans.networks.advection import Advection, outputs

FRAMES = 6


def make(kind=NextFrame, **options):
    torch.manual_seed(0)
    model = kind(**{"size": 8, "frames": FRAMES, "given": 2, "width": 2, **options})
    model.seed = 1
    return model


def clips(n=8, frames=FRAMES, channels=1, size=8):
    return torch.rand(n, channels, frames, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def loader(n=32, labels=False, **shape):
    return DataLoader(TensorDataset(clips(n, **shape), *([torch.arange(n) % 3] if labels else [])), batch_size=8)


class Spy(NextFrame):
    """Keeps what the critic saw, what the generator was given, and what was recorded."""

    def critic(self, images, *given):
        self.seen = [*getattr(self, "seen", []), (images.detach(), *given)]
        return super().critic(images, *given)

    def record(self, name, value):
        self.recorded = {**getattr(self, "recorded", {}), name: value.detach()}
        super().record(name, value)

    def descend(self, loss, optimizer):
        self.losses = [*getattr(self, "losses", []), (self.players[self.player_optimizers().index(optimizer)], loss)]
        super().descend(loss, optimizer)


class Repeating(torch.nn.Module):
    """A network whose next frame is the first of the frames before."""

    def __init__(self, channels=1):
        super().__init__()
        self.unused, self.channels = torch.nn.Parameter(torch.zeros(1)), channels

    def forward(self, images):
        return images[:, : self.channels] + 0 * self.unused


# -- training ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [False, True])
def test_the_critic_sees_each_frame_with_the_frames_before_it(trainer, labels):
    model = make(Spy, rollout=3, channels=3, network="resnet", blocks=1)
    trainer(1).fit(model, loader(channels=3, labels=labels))
    assert [player for player, _ in model.losses] == ["discriminator", "generator"]
    real, fake, again = model.seen
    batch = clips(32, channels=3)
    for frame, past in zip(*real, strict=True):
        three = torch.cat([past, frame]).view(3, 3, 8, 8).transpose(0, 1)
        windows = batch.unfold(2, 3, 1).movedim(5, 3).flatten(0, -1).view(32, 3, FRAMES - 2, 3, 8, 8)
        assert (windows == three[None, :, None]).flatten(3).all(3).all(1).any()
    assert torch.equal(real[1][:8], fake[1][:8])  # the given frames are true
    assert torch.equal(fake[1][8:16, :3], real[1][8:16, :3])
    assert torch.equal(fake[1][8:16, 3:], fake[0][:8])  # then come those that it has made itself
    assert torch.equal(fake[1][16:, :3], fake[0][:8])
    assert torch.equal(fake[0], again[0])


def test_windows_begin_at_every_place_equally_often():
    model = make()
    model._trainer = None
    numbered = torch.arange(6.0).view(1, 1, 6, 1, 1).expand(4000, 1, 6, 8, 8)
    windows = model.windows(numbered)[:, 0, :, 0, 0]
    assert torch.equal(windows - windows[:, :1], torch.arange(3.0).expand(4000, 3))
    assert (windows[:, 0].long().bincount(minlength=4) - 1000).abs().max() < 120  # deviation 27


def test_the_generator_minimises_l1_and_the_critic(trainer):
    model = make(Spy, l1_weight=3.0, adversarial_weight=0.5, lr=1e-9, rollout=2, norm="none")
    trainer(1).fit(model, loader())
    (real, _), (fake, past), _ = model.seen
    l1 = float((real - fake).abs().mean())
    with torch.no_grad():
        game = float(torch.nn.functional.softplus(-model.discriminator(fake, past)).mean())
    assert float(model.losses[-1][1]) == pytest.approx(3 * l1 + 0.5 * game, rel=1e-4)
    assert float(model.recorded["loss/l1"]) == pytest.approx(l1, rel=1e-5)


def test_without_an_adversarial_loss_the_critic_does_not_move(trainer):
    model = make(Spy, adversarial_weight=0.0)
    before = [value.clone() for value in model.discriminator.parameters()]
    trainer(2).fit(model, loader())
    assert all(torch.equal(*pair) for pair in zip(before, model.discriminator.parameters(), strict=True))
    assert [player for player, _ in model.losses] == ["generator"] * 2


def test_the_network_learns_to_continue(trainer):
    """Of grey frames whose sign alternates."""
    alternating = clips(64, 1)[..., :1, :1].repeat(1, 1, FRAMES, 8, 8)
    alternating[:, :, 1::2] *= -1
    model = make(norm="none", network="resnet", blocks=1, reach=0, width=4, lr=3e-3, rollout=2, ema_halflife=0)
    trainer(150, limit_val_batches=0).fit(model, DataLoader(TensorDataset(alternating), batch_size=16))
    made = model.eval().extend(alternating[:, :, :2], 4)
    assert (made - alternating).abs().mean() < 0.3 * alternating.abs().mean()


@pytest.mark.parametrize("pieces", [1, 2])
def test_a_run_that_goes_on_is_the_run_that_never_stopped(trainer, tmp_path, pieces):
    def run(steps, folder, resume=None):
        torch.manual_seed(7)
        saver = Checkpoint(steps, str(tmp_path / folder))
        loop = trainer(steps, callbacks=[saver], enable_checkpointing=True, limit_val_batches=0)
        data = MovingDigitsDataModule(source="digits", size=8, frames=FRAMES, batch_size=8)
        loop.fit(make(rollout=2, accumulate=pieces), data, ckpt_path=resume)
        return tmp_path / folder / "last.ckpt"

    whole = torch.load(run(4, "whole"), weights_only=True)
    again = torch.load(run(4, "again", run(2, "half")), weights_only=True)
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name]), name


def test_colours_do_not_leave_those_of_the_last_frame_and_of_the_drawn_pixel():
    """After many frames, also of a network whose weights are drawn at random."""
    model = make(channels=3, network="resnet", blocks=1, reach=1).eval()
    advection = model.generator_ema
    for part in advection.parameters():
        part.data = torch.randn(part.shape, generator=torch.Generator().manual_seed(3))
    made = model.extend(clips(3, 5, channels=3), 30)
    assert made.abs().max() <= 1 + 1e-5


def test_a_pixel_is_a_mean_of_those_in_reach_and_of_a_drawn_one():
    class Fixed(torch.nn.Module):
        """Draws 1 everywhere, and puts all weight on one place of the neighbourhood, or on the drawn pixel."""

        def forward(self, images):
            maps = -torch.ones(len(images), outputs(3, 1), *images.shape[2:])
            maps[:, :3] = 1
            maps[0, 3 + 3 + 2] = 1  # one pixel to the right
            maps[1, -1] = 1
            return maps

    images = clips(2, 2, channels=3).transpose(1, 2).flatten(1, 2)
    moved, drawn = Advection(Fixed(), 3, 1)(images)
    assert torch.allclose(moved[..., :-1], images[0, 3:, :, 1:], atol=1e-4)
    assert torch.allclose(moved[..., -1], images[0, 3:, :, -1], atol=1e-4)  # the border is repeated
    assert torch.allclose(drawn, torch.ones(()), atol=1e-4)


# -- continuations -----------------------------------------------------------------------------------------------------


def test_a_clip_is_continued_by_the_networks_own_output():
    model = make(channels=3)
    model.generator = Repeating(3)
    model.eval()
    given = clips(3, 5, channels=3)
    made = model.extend(given, 4)
    assert torch.equal(made, torch.cat([given, given[:, :, [3, 4, 3, 4]]], 2))
    assert torch.equal(model.extend(given, 2, seed=9), made[:, :, :7])
    assert torch.equal(model.translate(*model.inputs((given,))), given[:, :, 0])
    assert torch.equal(model.targets((given,)), given[:, :, 2])


def test_many_clips_are_continued_in_pieces(monkeypatch):
    model, counts = make().eval(), []
    whole = model.extend(clips(5), 4)
    monkeypatch.setattr("gans.models.nextframe.FRAMES_AT_ONCE", 8)
    model.generator_ema.register_forward_pre_hook(lambda module, given: counts.append(len(given[0])))
    assert torch.allclose(model.extend(clips(5), 4), whole, atol=1e-5)
    assert counts == [2] * 8 + [1] * 4


def test_continuations_are_scored_beside_baselines(trainer):
    [values] = trainer(1).validate(make(), loader(8), verbose=False)
    for name in ("psnr", "ssim"):
        assert {f"val/{name}", f"val/repeat/{name}", f"val/linear/{name}"} <= values.keys()
    assert values["val/diversity"] == 0  # a clip has one continuation
    model = make()
    model.generator = Repeating()
    still = clips(8, 1).expand(-1, -1, FRAMES, -1, -1)
    [values] = trainer(1).test(model, DataLoader(TensorDataset(still), batch_size=8), verbose=False)
    assert values["test/psnr"] == 100
    assert values["test/motion"] == 0


def test_pictures_show_what_follows_beside_the_truth():
    model, batch = make().eval(), clips()
    shown = model.pictures((batch,))["continued"][0]
    assert shown.shape == (8, 1, FRAMES, 8, 8)
    assert torch.equal(shown[::2], batch[:4])
    assert torch.equal(shown[1::2, :, :2], batch[:4, :, :2])
    assert not torch.equal(shown[1::2, :, 2:], batch[:4, :, 2:])


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"given": 0}, "given is 0; expected at least 1"),
        ({"rollout": 0}, "rollout is 0; expected at least 1"),
        ({"given": 4, "rollout": 3}, "given is 4 and rollout is 3; expected together at most frames, 6"),
        ({"network": "vgg"}, "network is vgg; expected unet or resnet"),
        ({"l1_weight": -1.0}, "l1_weight is -1.0; expected at least 0"),
        ({"channels": 2}, "channels is 2"),
        ({"source_channels": 3}, "NextFrame has no argument source_channels"),
        ({"dropout": 0.5}, "NextFrame has no argument dropout"),
        ({"latent_dim": 3}, "NextFrame has no argument latent_dim"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_an_extractor_of_images_is_refused_before_training(trainer):
    with pytest.raises(ValueError, match="features is mnist, an extractor of images; expected one of clips"):
        trainer(1).fit(make(features="mnist"), loader())


def test_clips_of_another_length_or_images_are_refused(trainer):
    with pytest.raises(ValueError, match=r"clips of shape \(1, 5, 8, 8\) .* built for \(1, 6, 8, 8\)"):
        trainer(1).fit(make(), loader(frames=5))
    images = DataLoader(TensorDataset(torch.rand(8, 1, 8, 8)), batch_size=8)
    with pytest.raises(ValueError, match=r"the model was built for \(1, 6, 8, 8\)"):
        trainer(1).fit(make(), images)
    for shape in ((1, 1, 1, 8, 8), (1, 3, 4, 8, 8), (1, 1, 4, 9, 8), (1, 4, 8, 8)):
        with pytest.raises(ValueError, match=r"expected \(N, 1, T, 8, 8\) with 2 frames or more"):
            make().extend(torch.zeros(shape), 2)
    with pytest.raises(ValueError, match="frames is 0; expected at least 1"):
        make().extend(torch.zeros(1, 1, 4, 8, 8), 0)


@pytest.mark.parametrize("stage", ["validate", "test"])
@pytest.mark.parametrize("shape", [{"channels": 3}, {"frames": 2}, {"size": 9}])
def test_held_out_clips_that_do_not_fit_are_refused(trainer, stage, shape):
    with pytest.raises(ValueError, match=r"expected \(N, 1, T, 8, 8\) with 3 frames or more"):
        getattr(trainer(1), stage)(make(), loader(**shape), verbose=False)
