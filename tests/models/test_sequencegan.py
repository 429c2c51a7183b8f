"""What SequenceGAN promises besides what every model does: two critics, classes, clips of any length, its pictures."""

import lightning as L
import pytest
import torch
from checkpoints import assert_near, freeze_batch_norm
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.nn.functional import pad
from torch.utils.data import DataLoader, TensorDataset

from datamodules import MovingDigitsDataModule
from gans.engine.checkpoint import Checkpoint, load_model
from gans.models import SequenceGAN
from gans.networks import spectral
from gans.networks.recurrent import surrounded
from gans.penalties import zero_centered

FRAMES = 4


def make(kind=SequenceGAN, **options):
    torch.manual_seed(0)
    model = kind(**{"size": 8, "frames": FRAMES, "latent_dim": 4, "motion_dim": 3, "width": 2, **options})
    model.seed = 1
    return model


def loader(n=32, frames=FRAMES, size=8, labels=True):
    clips = torch.rand(n, 1, frames, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return DataLoader(TensorDataset(clips, *([torch.arange(n) % 3] if labels else [])), batch_size=8)


def digits(**options):
    """Clips of digits for models of `make`."""
    sizes = {"size": 8, "frames": FRAMES, "batch_size": 8, "clips": 100, "val_clips": 8, "test_clips": 8}
    return MovingDigitsDataModule(source="digits", **{**sizes, **options})


class Spy(SequenceGAN):
    """Keeps what each player's steps minimised, what each critic saw, and what was recorded."""

    def descend(self, loss, optimizer):
        self.losses = [*getattr(self, "losses", []), (self.players[self.player_optimizers().index(optimizer)], loss)]
        super().descend(loss, optimizer)

    def critic(self, images, *labels):
        self.seen = [*getattr(self, "seen", []), (images.detach(), *labels)]
        return super().critic(images, *labels)

    def record(self, name, value):
        self.recorded = {**getattr(self, "recorded", {}), name: value.detach()}
        super().record(name, value)


# -- training ----------------------------------------------------------------------------------------------------------


def test_critics_see_clips_and_frames_of_the_same_clips(trainer):
    model = make(Spy, stills=3)
    trainer(1).fit(model, loader())
    assert [player for player, _ in model.losses] == ["discriminator", "image_critic", "generator"]
    shapes = [tuple(images.shape) for images, *_ in model.seen]
    clips, frames = (8, 1, FRAMES, 8, 8), (24, 1, 8, 8)
    assert shapes == [clips, clips, frames, frames, clips, frames]
    real, fake, real_frames, fake_frames, again, again_frames = (images for images, *_ in model.seen)
    for whole, stills in ((real, real_frames), (fake, fake_frames), (again, again_frames)):
        same = whole.repeat_interleave(3, 0) == stills[:, :, None]
        assert same.flatten(3).all(3).any(2).all()  # three frames of the first clip, three of the second, ...
    assert not torch.equal(fake, again)


@pytest.mark.parametrize("pieces", [1, 2])
def test_spectral_norms_have_one_power_iteration_for_each_player(trainer, monkeypatch, pieces):
    layers, power_iteration = [], spectral.power_iteration

    def counting(matrices, *options):
        layers.append(len(matrices))
        return power_iteration(matrices, *options)

    model = make(accumulate=pieces)
    monkeypatch.setattr(spectral, "power_iteration", counting)
    trainer(1).fit(model, loader())
    assert sum(layers) == 3 * len(spectral.spectral_layers(model)) > 0


def test_the_critic_of_frames_sees_all_frames_equally_often():
    model = make(stills=2)
    clips = torch.arange(5.0).view(1, 1, 5, 1, 1).expand(4000, 1, 5, 8, 8)
    model._trainer = None
    chosen = model.stills(clips)[0][:, 0, 0, 0].long()
    assert (chosen.bincount(minlength=5) - 1600).abs().max() < 150  # deviation 36
    pairs = (5 * chosen[::2] + chosen[1::2]).bincount(minlength=25)
    assert (pairs - 160).abs().max() < 60  # one frame says nothing about the other; deviation 12


def test_the_generator_minimises_both_critics(trainer):
    model = make(Spy, spectral_norm=False, lr=1e-9)
    trainer(1).fit(model, loader())
    *_, (clips,), (frames,) = model.seen
    (_, of_clips), (_, of_frames), (_, of_generator) = model.losses
    with torch.no_grad():
        expected = -model.discriminator(clips).mean() - model.image_critic(frames).mean()
    assert float(of_generator) == pytest.approx(float(expected), abs=1e-5)
    assert float(of_clips) == pytest.approx(float(model.recorded["loss/discriminator"]))
    assert float(of_frames) == pytest.approx(float(model.recorded["loss/image_critic"]))
    tags = {"loss/generator", "logits/real", "logits/fake", "logits/image_real", "logits/image_fake"}
    assert tags | {"accuracy/discriminator", "accuracy/image_critic", "motion/ratio"} <= model.recorded.keys()


def test_the_curve_of_motion_compares_with_the_data(trainer):
    model = make(Spy)
    trainer(1).fit(model, loader())
    (real,), (fake,), *_ = model.seen
    change = [float((clips[:, :, 1:] - clips[:, :, :-1]).abs().mean()) for clips in (fake, real)]
    assert float(model.recorded["motion/ratio"]) == pytest.approx(change[0] / change[1], rel=1e-4)


def test_clips_that_stand_still_have_a_finite_curve(trainer):
    model, clips = make(Spy), torch.zeros(8, 1, FRAMES, 8, 8)
    with torch.no_grad():
        for parameter in model.generator.parameters():
            parameter.zero_()
    trainer(1).fit(model, DataLoader(TensorDataset(clips), batch_size=8))
    assert float(model.recorded["motion/ratio"]) == 0


def test_all_players_have_the_rates_that_they_are_given():
    groups = [o.param_groups[0] for o in make(lr=1e-3, discriminator_lr=4e-4, betas=(0, 0.9)).configure_optimizers()]
    assert [group["lr"] for group in groups] == [1e-3, 4e-4, 4e-4]
    assert {group["betas"] for group in groups} == {(0.0, 0.9)}


@pytest.mark.parametrize("objective", ["nonsaturating", "hinge", "least_squares", "wasserstein", "relativistic"])
def test_any_objective_works(trainer, objective):
    trainer(1).fit(make(objective=objective), loader())


def test_penalties_are_taken_of_both_critics(trainer):
    plain, penalised = make(Spy, spectral_norm=False), make(Spy, spectral_norm=False, r1=3000.0)
    fresh = make(spectral_norm=False)
    for model in (plain, penalised):
        trainer(1).fit(model, loader())
    real, real_frames = plain.seen[0][0], plain.seen[2][0]
    expected = [float(zero_centered(fresh.discriminator, real)), float(zero_centered(fresh.image_critic, real_frames))]
    found = [float(penalised.losses[i][1] - plain.losses[i][1]) for i in range(2)]
    assert found == pytest.approx([3000 * value for value in expected], rel=1e-3)
    curves = [float(penalised.recorded[f"penalty/{name}"]) for name in ("r1", "image_r1")]
    assert curves == pytest.approx(expected, rel=1e-3)


def test_the_generator_waits_its_turn(trainer):
    model = make(Spy, critic_steps=2)
    run = trainer(1)
    run.fit(model, loader())
    assert [player for player, _ in model.losses] == ["discriminator", "image_critic"] * 2 + ["generator"]
    assert (run.global_step, model.batches_seen) == (1, 2)


def test_held_out_clips_are_judged_by_the_critic_of_clips(trainer):
    for options in ({}, {"num_classes": 3}):
        model = make(**options)
        [values] = trainer(1).validate(model, loader(8), verbose=False)
        batch = next(iter(loader(8)))
        with torch.no_grad():
            logits = model.eval().discriminator(batch[0], *(batch[1:] if options else ()))
        assert values["val/logits/real"] == pytest.approx(float(logits.mean()), abs=1e-6)
        assert {"val/loss/discriminator", "val/logits/fake"} <= values.keys()


@pytest.mark.parametrize(
    ("options", "data", "precision"),
    [
        ({"num_classes": 8}, {"labels": "direction"}, "32-true"),
        ({"num_classes": 8, "motion_grid": 2, "given": 2}, {"labels": "direction"}, "32-true"),
        ({"motion_grid": 2, "given": 2}, {"digits": 2}, "32-true"),
        ({"motion_grid": 2, "given": 2}, {"digits": 2}, "bf16-mixed"),
    ],
)
def test_a_run_that_goes_on_is_the_run_that_never_stopped(trainer, tmp_path, options, data, precision):
    def run(steps, folder, resume=None):
        torch.manual_seed(7)
        clips = MovingDigitsDataModule(source="digits", size=8, frames=FRAMES, batch_size=8, **data)
        saver = Checkpoint(steps, str(tmp_path / folder))
        more = {"precision": precision, "enable_checkpointing": True, "limit_val_batches": 0}
        loop = trainer(steps, callbacks=[saver], **more)
        loop.fit(make(critic_steps=2, **options), clips, ckpt_path=resume)
        return tmp_path / folder / "last.ckpt"

    whole = torch.load(run(4, "whole"), weights_only=True)
    again = torch.load(run(4, "again", run(2, "half")), weights_only=True)
    for name, value in whole["state_dict"].items():
        assert torch.equal(value, again["state_dict"][name]), name
    for one, other in zip(whole["optimizer_states"], again["optimizer_states"], strict=True):
        for index, state in one["state"].items():
            assert all(torch.equal(value, other["state"][index][name]) for name, value in state.items())


# What a checkpoint of `SequenceGAN(motion_grid=...)` held before there was `given`, but for the critics' layers.
BEFORE = {
    "motion.weight_ih", "motion.weight_hh", "motion.bias_ih", "motion.bias_hh",
    *(f"frames.canvas.layers.{name}" for name in ("0.weight", "1.weight", "1.bias", "1.running_mean", "1.running_var")),
    *(f"frames.canvas.layers.{name}" for name in ("1.num_batches_tracked", "3.weight", "3.bias")),
    *(f"frames.{name}" for name in ("knots.0.weight", "knots.0.bias", "knots.2.weight", "knots.2.bias")),
    *(f"frames.{name}" for name in ("finish.0.weight", "finish.0.bias", "finish.2.weight", "finish.2.bias")),
}  # fmt: skip


def test_a_checkpoint_from_before_given_frames_generates_and_resumes(trainer, tmp_path):
    """Such a file has no `given`, `given_weight`, `future_weight` and `features`, and no encoder."""

    def run(steps, folder, resume=None):
        saver = Checkpoint(steps, str(tmp_path / folder))
        model = make(motion_grid=2)
        loop = trainer(steps, callbacks=[saver], enable_checkpointing=True, limit_val_batches=0)
        loop.fit(model, digits(), ckpt_path=resume)
        return model.eval(), tmp_path / folder / "last.ckpt"

    _, half = run(2, "half")
    held = torch.load(half, weights_only=True)
    for name in ("given", "given_weight", "future_weight", "features"):
        del held["hyper_parameters"][name]
    networks = {name.partition(".")[0] for name in held["state_dict"]}
    assert networks == {"generator", "generator_ema", "discriminator", "image_critic"}
    for network in ("generator", "generator_ema"):
        names = {name.partition(".")[2] for name in held["state_dict"] if name.startswith(f"{network}.")}
        assert names == BEFORE
    torch.save(held, tmp_path / "old.ckpt")
    model = load_model(tmp_path / "old.ckpt")
    assert model.given == 0
    assert torch.equal(model.sample(2, seed=3), load_model(half).sample(2, seed=3))
    whole, resumed = run(4, "whole")[0], run(4, "resumed", tmp_path / "old.ckpt")[0]
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


# -- classes -----------------------------------------------------------------------------------------------------------


def test_classes_reach_all_networks(trainer):
    model = make(Spy, num_classes=3, stills=2)
    trainer(1).fit(model, loader())
    clips, frames = torch.arange(8) % 3, (torch.arange(8) % 3).repeat_interleave(2)
    for given, expected in zip(model.seen, [clips, clips, frames, frames, clips, frames], strict=True):
        assert torch.equal(given[1], expected)
    model.eval()
    one, other = (model.sample(2, labels=torch.tensor([0, last]), seed=0) for last in (1, 2))
    assert torch.equal(one[0], other[0])
    assert (one[1] - other[1]).abs().amax((0, 2, 3)).min() > 0  # every frame of it is another
    assert torch.equal(model.sample(5, seed=0), model.sample(5, labels=torch.arange(5) % 3, seed=0))
    with pytest.raises(ValueError, match="labels are"):
        model.sample(1, labels=torch.tensor([3]))
    with pytest.raises(ValueError, match="SequenceGAN is not conditional"):
        make().sample(1, labels=torch.tensor([0]))


def test_a_model_with_classes_needs_labels(trainer):
    with pytest.raises(ValueError, match="a batch has no labels"):
        trainer(1).fit(make(num_classes=3), loader(labels=False))
    trainer(1).fit(make(), loader(labels=False))


# -- samples -----------------------------------------------------------------------------------------------------------


def test_longer_clips_go_on_from_shorter_ones(trainer):
    model = make(num_classes=3)
    trainer(1).fit(model, loader())
    model.eval()
    short, usual, long = (model.sample(3, seed=5, frames=frames) for frames in (2, None, 9))
    assert [clips.shape[2] for clips in (short, usual, long)] == [2, FRAMES, 9]
    assert torch.allclose(short, usual[:, :, :2], atol=1e-6)
    assert torch.allclose(usual, long[:, :, :FRAMES], atol=1e-6)
    assert long.diff(dim=2).abs().amax((0, 1, 3, 4)).min() > 0
    assert torch.equal(usual, model.sample(3, seed=5, frames=FRAMES))
    assert torch.equal(long, model.sample(3, seed=5, frames=9))
    with pytest.raises(ValueError, match="frames is 0; expected at least 1"):
        model.sample(3, frames=0)


def test_a_seed_decides_and_a_truncation_squeezes():
    model = make().eval()
    assert torch.equal(model.sample(2, seed=5), model.sample(2, seed=5))
    assert not torch.equal(model.sample(2, seed=5), model.sample(2, seed=6))
    assert not torch.equal(model.sample(2), model.sample(2))
    means = [float(model.sample(64, seed=5, truncation=limit, frames=9).std(0).mean()) for limit in (0.1, None)]
    assert means[0] < means[1] / 2


def test_many_samples_are_made_in_pieces(monkeypatch):
    model, counts = make().eval(), []
    monkeypatch.setattr("gans.models.sequencegan.FRAMES_AT_ONCE", 10)
    model.generator_ema.register_forward_pre_hook(lambda module, given: counts.append(len(given[0])))
    assert model.sample(5, seed=0).shape == (5, 1, FRAMES, 8, 8)
    assert model.sample(2, seed=0, frames=20).shape == (2, 1, 20, 8, 8)
    assert counts == [2, 2, 1, 1, 1]


def test_what_moves_is_one_content_in_all_frames():
    """Rows of the picture `motion` that share a content show one canvas; those that share a motion, one path."""
    model = make(motion_grid=2).eval()
    fields, canvases = [], []
    model.generator_ema.frames.canvas.register_forward_hook(lambda module, given, made: canvases.append(made))
    model.generator_ema.frames.knots.register_forward_hook(lambda module, given, made: fields.append(made))
    clips = model.pictures(())["motion"][0]
    [canvas], [field] = canvases, fields
    assert clips.shape == (8, 1, FRAMES, 8, 8)
    assert torch.allclose(canvas[:4], canvas[:1].expand(4, -1, -1, -1), atol=1e-6)
    assert not torch.allclose(canvas[0], canvas[4])
    paths = field.view(8, FRAMES, -1)
    assert torch.allclose(paths[:4], paths[4:], atol=1e-6)
    assert (paths[0] - paths[1]).abs().max() > 1e-3


def test_pictures_tell_content_from_motion():
    drawn = make().eval().generator_ema
    kept = []
    drawn.frames.frame.register_forward_pre_hook(lambda module, given: kept.append(given[0].view(8, FRAMES, -1)))
    model = make().eval()
    model.generator_ema = drawn
    shown = model.pictures(())
    assert {name: (tuple(clips.shape), columns) for name, (clips, columns) in shown.items()} == {
        "motion": ((8, 1, FRAMES, 8, 8), None)
    }
    content, motion = kept[0][..., :4], kept[0][..., 4:]
    assert torch.equal(content, content[[0] * 4 + [4] * 4][:, :1].expand(-1, FRAMES, -1))
    assert not torch.equal(content[0], content[4])
    assert torch.allclose(motion[:4], motion[4:])
    assert motion[:4].unique(dim=0).shape[0] == 4
    assert torch.equal(shown["motion"][0], model.pictures(())["motion"][0])
    shown = make(num_classes=3).eval().pictures(())
    assert shown["classes"][0].shape == (3, 1, FRAMES, 8, 8)
    assert shown["motion"][0].shape == (8, 1, FRAMES, 8, 8)


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"frames": 1}, "frames is 1; expected at least 2"),
        ({"motion_dim": 0}, "motion_dim is 0; expected at least 1"),
        ({"latent_dim": 0}, "latent_dim is 0; expected at least 1"),
        ({"stills": 0}, "stills is 0; expected at least 1"),
        ({"motion_grid": -1}, "motion_grid is -1; expected at least 0"),
        ({"num_classes": -1}, "num_classes is -1; expected at least 0"),
        ({"size": 1}, "size is 1x1"),
        ({"r1": "heuristic"}, "r1 is heuristic; expected a number"),
        ({"augment": "diffaugment"}, "SequenceGAN has no argument augment"),
        ({"instance_noise": 0.1}, "SequenceGAN has no argument instance_noise"),
        ({"lecam": 0.1}, "SequenceGAN has no argument lecam"),
        ({"lazy": 4}, "SequenceGAN has no argument lazy"),
        ({"prior": "uniform"}, "SequenceGAN has no argument prior"),
    ],
)
def test_bad_options_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_clips_of_another_length_or_images_are_refused(trainer):
    with pytest.raises(ValueError, match=r"clips of shape \(1, 5, 8, 8\) .* built for \(1, 4, 8, 8\)"):
        trainer(1).fit(make(), loader(frames=5))
    images = DataLoader(TensorDataset(torch.rand(8, 1, 8, 8)), batch_size=8)
    with pytest.raises(ValueError, match=r"the model was built for \(1, 4, 8, 8\)"):
        trainer(1).fit(make(), images)


# -- given frames ------------------------------------------------------------------------------------------------------


def test_a_model_without_given_frames_is_the_one_before():
    """Old checkpoints load, and a seed gives the same weights."""
    plain, continuing = make(motion_grid=2), make(motion_grid=2, given=2)
    before, after = plain.state_dict(), continuing.state_dict()
    new = {name for name in after if ".encoder." in name or ".dynamics." in name}
    assert after.keys() - before.keys() == new != set()
    for name, value in plain.generator.state_dict().items():
        assert torch.equal(value, after[f"generator.{name}"]), name


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("options", [{"motion_grid": 2}, {}, {"motion_grid": 1, "num_classes": 3}])
def test_continued_clips_are_trained_beside_generated_ones(trainer, options, precision):
    model = make(Spy, given=2, spectral_norm=False, **options)
    before = {name: value.clone() for name, value in model.generator.state_dict().items()}
    trainer(1, precision=precision).fit(model, loader())
    for name, value in model.generator.state_dict().items():
        if value.is_floating_point():
            assert not torch.equal(value, before[name]), name
    assert {"reconstruction/given", "reconstruction/future"} <= model.recorded.keys()


def test_the_reconstruction_is_the_l1_distance_of_continued_clips():
    model = make(Spy, given=2, given_weight=3.0, future_weight=5.0)
    real, fake = torch.zeros(2, 1, 4, 8, 8), torch.ones(2, 1, 4, 8, 8)
    fake[:, :, 2:] *= 2
    model.record = lambda name, value: None
    found = [float(model.reconstruction(fake, real, torch.tensor(rows))) for rows in ([True, True], [True, False])]
    assert found == pytest.approx([(3 * 1 + 5 * 2) / 0.5, 3 * 1 + 5 * 2])
    fake[:, :, 2:] = 0
    fake[:, :, 3] = 1  # of two frames that follow, the second counts less
    assert float(model.reconstruction(fake, real, torch.tensor([True, True]))) == pytest.approx(6 + 10 * 0.7 / 1.7)


@pytest.mark.parametrize("options", [{"motion_grid": 2}, {"num_classes": 3}])
def test_an_extended_clip_begins_with_the_given_one(options):
    model = make(given=2, **options).eval()
    clips = torch.rand(3, 1, 5, 8, 8) * 2 - 1
    short, long, other = (model.extend(clips, frames, seed=seed) for frames, seed in ((2, 0), (9, 0), (9, 1)))
    assert long.shape == (3, 1, 14, 8, 8)
    assert torch.equal(long[:, :, :5], clips)
    assert torch.allclose(short, long[:, :, :7], atol=1e-6)
    assert torch.equal(long, model.extend(clips, 9, seed=0))
    assert not torch.equal(long, other)
    changed = clips.clone()
    changed[:, :, :3] = 0  # before the last two frames
    assert torch.equal(model.extend(changed, 2, seed=0)[:, :, 5:], short[:, :, 5:])
    changed[:, :, 3] = 0
    assert not torch.equal(model.extend(changed, 2, seed=0)[:, :, 5:], short[:, :, 5:])


def test_the_last_given_frame_is_what_moves():
    """A clip begins with the given frames themselves."""
    model, first = make(given=2, motion_grid=2, motion_dim=5), torch.rand(3, 1, 2, 8, 8) * 2 - 1
    with torch.no_grad():
        clips = model.generator(model.drawn(3, model.latent_dim, 0), None, first)
    assert torch.equal(clips[:, :, :2], first)
    assert not torch.allclose(clips[:, :, 3], first[:, :, 1], atol=1e-3)


def test_continuations_are_scored_beside_baselines(trainer):
    [values] = trainer(1).validate(make(given=2, motion_grid=1), digits(), verbose=False)
    for name in ("psnr", "ssim", "position"):
        assert {f"val/{name}", f"val/repeat/{name}", f"val/linear/{name}"} <= values.keys()
    assert {"val/motion", "val/motion/data", "val/diversity"} <= values.keys()
    [values] = trainer(1).test(make(given=2), digits(), verbose=False)
    assert "test/psnr" in values
    [values] = trainer(1).validate(make(), digits(), verbose=False)
    assert "val/psnr" not in values


def test_an_object_at_the_border_leaves_no_streak():
    """It comes into the frame: what is outside is the background, not the object's border."""
    model, first = make(given=2, motion_grid=1, size=16), -torch.ones(1, 1, 2, 16, 16)
    first[..., 0, 4:9, :2] = first[..., 1, 4:9, :4] = 1  # a square of 5 x 5 of which four columns are inside
    shift = torch.tensor([-4.0, 0.0]) / 8 * torch.tensor([[1.0], [2.0]])  # 4 and 8 pixels to the right
    motion = torch.zeros(1, 4, 3)
    with torch.no_grad():
        moved = model.generator.frames(torch.zeros(1, 4), motion, first, shift[None], torch.tensor([True]))
    expected = -torch.ones(2, 16, 16)
    expected[0, 4:9, 4:8] = expected[1, 4:9, 8:12] = 1
    assert torch.allclose(moved[0, 0, 2:], expected, atol=1e-5)


def test_a_texture_goes_on_where_it_ended():
    """Without a background the nearest pixels are repeated. What is an object in front of it is not."""
    draw = torch.Generator().manual_seed(0)
    texture = torch.rand(1, 3, 1, 16, 16, generator=draw).expand(-1, -1, 2, -1, -1) / 2 - 0.25
    assert torch.equal(surrounded(texture), pad(texture[:, :, -1], (1, 1, 1, 1), mode="replicate"))
    covered = texture.clone()
    covered[:, :, :, :4, 4:9] = 1
    ring = surrounded(covered)
    assert torch.equal(ring[:, :, 1:-1, 1:-1], covered[:, :, -1])
    assert float(ring[:, :, 0].max()) < 0.5


@pytest.mark.parametrize(("data", "why"), [(digits(digits=2), "a clip has 2"), (loader(8), "the data do not say")])
def test_a_position_is_that_of_one_object(trainer, capfd, data, why):
    """The centre of brightness of several objects, or of a picture, is the position of none."""
    [values] = trainer(1).test(make(given=2), data)
    assert "test/psnr" in values
    assert not [name for name in values if "position" in name]
    out = capfd.readouterr().out
    assert "position is left out" in out
    assert why in out


def test_a_test_prints_a_row_for_each_frame_ahead_and_logs_curves_over_them(trainer, tmp_path, capfd):
    logger = TensorBoardLogger(tmp_path, "", 0)
    model = make(given=1, motion_grid=1)
    [values] = trainer(1, logger=logger).test(model, digits(test_frames=9))
    out = capfd.readouterr().out
    head = next(line for line in out.splitlines() if line.startswith("frames ahead"))
    rows = out[out.index(head) :].splitlines()[1:9]
    assert head.split()[2:5] == ["position", "repeat", "linear"]
    assert [int(row.split()[0]) for row in rows] == list(range(1, 9))
    assert len(values) < 25
    events = EventAccumulator(str(tmp_path / "version_0"))
    events.Reload()
    curve = events.Scalars("test/ahead/repeat/psnr")
    assert [point.step for point in curve] == list(range(1, 9))
    mean = sum(point.value for point in curve) / 8
    assert mean == pytest.approx(values["test/repeat/psnr"], rel=1e-5)
    assert [float(row.split()[5]) for row in rows] == pytest.approx([point.value for point in curve], abs=1e-3)


def test_validations_of_a_run_log_curves_over_its_steps(trainer, tmp_path, capfd):
    logger = TensorBoardLogger(tmp_path, "", 0)
    trainer(2, logger=logger, val_check_interval=1).fit(make(given=1), digits(frames=4))
    assert "frames ahead" not in capfd.readouterr().out
    events = EventAccumulator(str(tmp_path / "version_0"))
    events.Reload()
    assert {f"val/psnr/{n}" for n in (1, 2, 3)} <= set(events.Tags()["scalars"])
    assert [point.step for point in events.Scalars("val/psnr/2")] == [1, 2]


def test_scores_are_the_same_on_two_processes(trainer, tmp_path):
    class Keep(L.Callback):
        def on_validation_end(self, trainer, pl_module):
            if trainer.is_global_zero:
                kept = {name: value for name, value in trainer.callback_metrics.items() if "diversity" not in name}
                torch.save(kept | {f"ahead/{n}": v for n, v in pl_module.held_out.ahead.items()}, f"{folder}/{world}")

    folder, found = tmp_path, []
    for world in (1, 2):
        data = digits(val_clips=24, batch_size=12 // world)
        options = {"precision": "64-true", "callbacks": [Keep()]}
        trainer(1, world, **options).validate(make(given=2, motion_grid=1, features="moving"), data, verbose=False)
        found.append(torch.load(f"{folder}/{world}"))
    one, two = found
    assert {"val/psnr", "val/position", "val/fid/moving", "ahead/psnr"} <= one.keys() == two.keys()
    for name, value in one.items():
        exact = "linear/" in name or "repeat/" in name
        # Noise belongs to a place in a batch, and batches of two processes have other clips in their places.
        assert torch.allclose(value.double(), two[name].double(), rtol=1e-5 if exact else 1e-2), name


def test_tests_may_look_farther_ahead_than_training(trainer):
    """Critics judge the first frames of longer clips, continuations go on to their end."""
    model = make(given=2, motion_grid=1)
    [short] = trainer(1).test(model, digits(), verbose=False)
    [long] = trainer(1).test(model, digits(test_frames=11), verbose=False)
    assert model.held_out.ahead["psnr"].shape == (9,)
    assert long["test/logits/real"] == pytest.approx(short["test/logits/real"])
    with pytest.raises(ValueError, match=r"clips of shape \(1, 3, 8, 8\) .* built for \(1, 4, 8, 8\)"):
        trainer(1).test(model, digits(test_frames=3), verbose=False)


@pytest.mark.parametrize(("grid", "count"), [pytest.param(0, 1, marks=pytest.mark.slow), (2, 1), (2, 2)])
def test_continuing_is_the_same_on_two_processes_and_in_pieces(trained_by, grid, count):
    states = []
    for world, accumulate in ((1, 1), (1, 3), (2, 1)):
        model = make(size=16, given=2, motion_grid=grid, spectral_norm=False, accumulate=accumulate)
        freeze_batch_norm(model)
        model.seed = 3
        data = digits(size=16, digits=count, batch_size=12 // world)
        states.append(trained_by(world, model, data, 2)["state_dict"])
    for other in states[1:]:
        assert_near(states[0], other)


def test_pictures_show_what_follows_beside_the_truth():
    model = make(given=2, motion_grid=1).eval()
    clips = next(iter(loader()))[0]
    shown = model.pictures((clips,))["continued"][0]
    assert shown.shape == (8, 1, FRAMES, 8, 8)
    assert torch.equal(shown[::2], clips[:4])
    assert torch.equal(shown[1::2, :, :2], clips[:4, :, :2])
    assert not torch.equal(shown[1::2, :, 2:], clips[:4, :, 2:])


def test_a_process_continues_the_rows_that_one_process_would():
    whole, halves = make(given=2).eval(), [make(given=2).eval() for _ in range(2)]
    z, clips = whole.drawn(8, whole.latent_dim, 0), next(iter(loader()))[0]
    whole._draws.begin(1, "train", 1)
    expected, which = whole.generated(z, clips)
    assert which.any()
    assert not which.all()
    found = []
    for rank, model in enumerate(halves):
        rows = slice(4 * rank, 4 * rank + 4)
        model._draws.begin(1, "train", 1)
        model._draws.rows, model._draws.piece, model._draws.offset = 4, 4, 4 * rank
        found.append(model.generated(z[rows], clips[rows]))
    assert torch.equal(torch.cat([some for _, some in found]), which)
    assert torch.allclose(torch.cat([made for made, _ in found]), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"given": 4}, "given is 4; expected less than frames, 4"),
        ({"given": -1}, "given is -1; expected at least 0"),
        ({"future_weight": -1.0}, "future_weight is -1.0; expected at least 0"),
    ],
)
def test_bad_given_frames_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        make(**options)


def test_clips_that_cannot_be_continued_are_refused():
    with pytest.raises(ValueError, match="trained with given 0, so it cannot continue clips"):
        make().extend(torch.zeros(1, 1, 4, 8, 8), 2)
    model = make(given=3)
    for shape in ((1, 1, 2, 8, 8), (1, 3, 4, 8, 8), (1, 1, 4, 9, 8), (1, 4, 8, 8)):
        with pytest.raises(ValueError, match=r"expected \(N, 1, T, 8, 8\) with 3 frames or more"):
            model.extend(torch.zeros(shape), 2)
    with pytest.raises(ValueError, match="frames is 0; expected at least 1"):
        model.extend(torch.zeros(1, 1, 4, 8, 8), 0)
