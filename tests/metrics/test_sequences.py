"""Scores of image sequences: motion by hand, damage in time, the shipped extractor, and the same on any processes."""

import os
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from datamodules.moving import MovingDigitsDataModule
from gans.callbacks.evaluate import Evaluate
from gans.metrics import features as features_of
from gans.metrics.classifiers import SHIPPED, WEIGHTS
from gans.metrics.continuations import Continuations, table
from gans.metrics.extractors import extractor
from gans.metrics.features import Features, extract, gathered, statistics
from gans.metrics.framed import Framed
from gans.metrics.functional import fid
from gans.metrics.interface import Wrapped
from gans.metrics.sequences import (
    centres,
    disordered,
    extrapolated,
    frozen,
    motion,
    repeated,
    shuffled,
    stills,
)
from gans.metrics.suite import Protocol, scores
from gans.networks.recurrent import velocity

DATA = Path(os.environ.get("GANS_DATA", Path(__file__).parents[3] / "shared" / "data"))
SMALL = Protocol("small", samples=300, reference=300, neighbours=300, thorough=False)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path / "cache"))


class Summary(nn.Module):
    """Features of clips: pixels of a smaller clip."""

    num_features, clips = 32, True

    def forward(self, clips):
        return nn.functional.adaptive_avg_pool3d(clips.float() / 255, (2, 4, 4)).mean(1).flatten(1)


class Thumbnail(nn.Module):
    """Features of images: pixels of a smaller picture."""

    num_features = 16

    def forward(self, images):
        return nn.functional.adaptive_avg_pool2d(images.float() / 255, 4).mean(1).flatten(1)


def noise(*shape, seed=0):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def numbered(count=5, frames=6):
    """Clips whose frames are all of one value, that of their number and of the clip."""
    values = 10 * torch.arange(frames)[None] + torch.arange(count)[:, None]
    return values[:, None, :, None, None].expand(-1, 2, -1, 3, 4).to(torch.uint8)


# -- motion and damage -------------------------------------------------------------------------------------------------


def test_motion_by_hand():
    clip = torch.zeros(2, 1, 3, 2, 2, dtype=torch.uint8)
    clip[0, 0, 1, 0, 0] = 200  # appears and is gone again: 400 in 2 changes of 4 pixels
    clip[1, 0, 1:] = 255
    clip[1, 0, 2, 1, 1] = 0  # 4 x 255, then 255
    assert motion(clip).tolist() == [400 / 8, 5 * 255 / 8]
    floats = clip.float() / 127.5 - 1
    torch.testing.assert_close(motion(floats), motion(clip) / 127.5)
    assert motion(clip).dtype == torch.float64
    assert motion(clip[:0]).shape == (0,)


def test_motion_of_a_square_that_moves_a_pixel_in_each_frame():
    clip = torch.full((1, 3, 8, 10, 20), -1.0)
    for frame in range(8):
        clip[:, :, frame, 2:6, frame : frame + 5] = 1
    assert float(motion(clip)) == pytest.approx(2 * 4 * 2 / 200)  # two columns of four pixels change by two
    assert float(motion(frozen(clip))) == 0


def test_shuffled_clips_have_the_same_frames_each_in_an_order_of_its_own():
    clips, before = numbered(50), torch.get_rng_state()
    found = shuffled(clips, 3)
    assert found.dtype == torch.uint8
    assert torch.equal(found.sort(2).values, clips)
    orders = found[:, 0, :, 0, 0] - found[:, 0, :, 0, 0].min(1, keepdim=True).values
    assert len(orders.unique(dim=0)) > 40
    assert torch.equal(found, found[:, :1, :, :1, :1].expand_as(found)), "whole frames change places"
    assert torch.equal(shuffled(clips, 3), found)
    assert not torch.equal(shuffled(clips, 4), found)
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_clips_are_their_first_frames():
    clips = noise(4, 2, 5, 3, 3)
    assert torch.equal(frozen(clips), torch.stack([clips[:, :, 0]] * 5, 2))


def test_stills_are_spread_over_the_clip():
    clips = numbered(3, 16)
    found = stills(clips)
    assert found.shape == (12, 2, 3, 4)
    assert found[:, 0, 0, 0].tolist() == [10 * frame + clip for clip in range(3) for frame in (0, 5, 10, 15)]
    assert torch.equal(stills(clips[:, :, :2])[:4, 0, 0, 0], torch.tensor([0, 0, 10, 10], dtype=torch.uint8))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 101])
def test_half_of_the_clips_are_put_out_of_order(count):
    clips = noise(count, 1, 8, 4, 4)
    found, orders = disordered(clips, torch.Generator().manual_seed(0))
    assert found.shape == clips.shape
    assert orders.tolist() == sorted(orders.tolist())
    assert (orders == 0).sum() == count // 2
    assert torch.equal(found[orders == 0], clips[orders == 0])
    assert torch.equal(found[orders == 2], frozen(clips)[orders == 2])
    assert torch.equal(found[orders == 1].sort(2).values, clips[orders == 1].sort(2).values)
    for clip, whole in zip(found[orders == 1], clips[orders == 1], strict=True):
        assert not torch.equal(clip, whole)


@pytest.mark.parametrize("function", [motion, shuffled, frozen, stills])
@pytest.mark.parametrize("shape", [(2, 1, 8, 8), (2, 1, 1, 8, 8)])
def test_other_shapes_are_refused(function, shape):
    with pytest.raises(
        ValueError, match=r"clips are of shape \(.*\); expected \(N, C, T, H, W\) with 2 frames or more"
    ):
        function(torch.zeros(shape))


# -- extractors --------------------------------------------------------------------------------------------------------


def test_images_and_clips_are_not_mixed_up():
    said = r"images are torch.uint8 of shape \(2, 1, 4, 8, 8\); expected uint8 \(N, C, H, W\) for the extractor mnist"
    with pytest.raises(ValueError, match=said):
        extractor("mnist")(noise(2, 1, 4, 8, 8))
    said = r"of shape \(2, 1, 8, 8\); expected uint8 \(N, C, T, H, W\) for the extractor moving"
    with pytest.raises(ValueError, match=said):
        extractor("moving")(noise(2, 1, 8, 8))
    with pytest.raises(ValueError, match=r"expected uint8 \(N, C, T, H, W\) for the extractor Summary"):
        Wrapped(Summary())(noise(2, 1, 8, 8))
    with pytest.raises(ValueError, match="moving is an extractor of clips; expected one of images in its place"):
        Framed(Wrapped(Summary()), extractor("moving"))
    with pytest.raises(ValueError, match="mnist is an extractor of images; expected one of clips in its place"):
        Framed(extractor("mnist"), extractor("mnist"))


def test_the_shipped_file_is_the_pinned_one():
    found = extractor("moving")
    assert found.sha256 == SHIPPED["moving"] == torch.load(WEIGHTS / "moving.pt", weights_only=True)["sha256"]
    assert (found.name, found.num_features, found.num_classes) == ("moving", 64, 80)
    assert (found.resize, found.clips, found.channels) == ("32x32 bilinear antialias", True, 1)
    assert (WEIGHTS / "moving.pt").stat().st_size < 300_000
    features, logits = found(noise(3, 1, 16, 32, 32))
    assert (features.shape, logits.shape) == ((3, 64), (3, 80))
    empty = found(noise(0, 3, 7, 9, 9))
    assert (empty[0].shape, empty[1].shape) == ((0, 64), (0, 80))


def test_frames_are_resized_and_made_grey_one_by_one():
    found, clips = extractor("moving"), noise(2, 1, 5, 16, 20)
    each = [
        nn.functional.interpolate(clips[:, :, t].float(), (32, 32), mode="bilinear", antialias=True) for t in range(5)
    ]
    with torch.no_grad():
        expected = found.network(torch.stack(each, 2) / 127.5 - 1)[0]
    torch.testing.assert_close(found(clips)[0], expected)
    assert torch.equal(found(clips.expand(-1, 3, -1, -1, -1))[0], found(clips)[0])


def test_batches_do_not_matter():
    found, clips = extractor("moving"), noise(7, 1, 8, 32, 32)
    parts = torch.cat([found(part)[0] for part in clips.split(3)])
    torch.testing.assert_close(parts, found(clips)[0], rtol=1e-5, atol=1e-5)


def test_extras_are_in_the_order_of_the_clips_and_may_be_of_none():
    clips = noise(11, 2, 6, 8, 8)
    network = Framed(Wrapped(Summary(), "summary"), Wrapped(Thumbnail()))
    blocks = [(clips[:4], None), (clips[4:], None)]
    for batch_size in (3, 250):
        found = extract(iter(blocks), network, batch_size=batch_size)
        assert torch.equal(found.extras["motion"], motion(clips))
        torch.testing.assert_close(found.extras["stills"], Thumbnail()(stills(clips)).view(11, 4, 16))
        torch.testing.assert_close(found.features, Summary()(clips))
        assert [len(part) for part in found.first(5).extras.values()] == [5, 5]
    nothing = extract(iter([]), network)
    assert {name: tuple(part.shape) for name, part in nothing.extras.items()} == {"motion": (0,), "stills": (0, 4, 16)}
    assert network.name == "summary"
    assert network.sha256 != Wrapped(Summary(), "summary").sha256
    assert extract(iter([]), Wrapped(Thumbnail())).extras == {}


def test_gathering_puts_extras_in_order(monkeypatch):
    share = Features(torch.tensor([[2.0], [0.0], [1.0]]), None, None, {"motion": torch.tensor([20.0, 0.0, 10.0])})
    monkeypatch.setattr(features_of, "gather_rows", lambda tensor: tensor)
    assert gathered(share, [2, 0, 1], torch.device("cpu")).extras["motion"].tolist() == [0, 10, 20]


def test_extras_of_real_clips_come_from_the_cache():
    clips = TensorDataset(noise(40, 1, 5, 8, 8), torch.zeros(40, dtype=torch.long))
    network = Framed(Wrapped(Summary()), Wrapped(Thumbnail()))
    first, second = (statistics(clips, network, 30, keep=20) for _ in range(2))
    assert (first.cached, second.cached) == (False, True)
    for name, shape in (("motion", (20,)), ("stills", (20, 4, 16))):
        assert first.features.extras[name].shape == shape
        assert torch.equal(first.features.extras[name], second.features.extras[name])
    assert first.key != statistics(clips, Wrapped(Summary()), 30, keep=20).key


# -- what the scores see -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clips():
    """Moving digits, for reference and for damage."""
    train, _, test = MovingDigitsDataModule(source="digits", clips=200, test_clips=200).splits()
    return train, test.__getitems__(range(200))[0]


def test_real_clips_rank_before_damaged_ones(clips):
    train, real = clips
    network = extractor("moving")
    target = network(train.__getitems__(range(200))[0])[0]
    near, mixed, still = (float(fid(target, network(some)[0])) for some in (real, shuffled(real, 0), frozen(real)))
    assert 10 * near < mixed
    assert 10 * near < still


def test_scores_of_clips(clips, tmp_path, monkeypatch):
    monkeypatch.setenv("GANS_CACHE", str(tmp_path))
    train, real = clips
    network = Framed(extractor("moving"), Wrapped(Thumbnail()))
    known = statistics(train, network)
    good, mixed, still = (
        scores(known, extract(iter([(some, None)]), network), SMALL) for some in (real, shuffled(real, 0), frozen(real))
    )
    expected = motion(real).mean() / motion(train.__getitems__(range(200))[0]).mean()
    assert good["motion"].value == pytest.approx(float(expected))
    assert (good["motion"].n_real, good["motion"].n_fake) == (200, 200)
    assert 0.9 < good["motion"].value < 1.1 < mixed["motion"].value
    assert still["motion"].value == 0
    assert mixed["fid"].value > 10 * good["fid"].value
    assert mixed["frame_fid"].value < 1.5 * good["frame_fid"].value, "frames alone are blind to their order"
    assert mixed["coverage"].value < 0.2 < good["coverage"].value
    assert good["modes"].value > 40


def test_data_that_stand_still_have_no_ratio():
    still = Features(torch.randn(20, 4), extras={"motion": torch.zeros(20)})
    known = type("Known", (), {"features": still, "gaussian": features_of})

    from gans.metrics.moments import Gaussian

    known.gaussian = Gaussian.of(still.features)
    assert "motion" not in scores(known, still, SMALL)


# -- during training ---------------------------------------------------------------------------------------------------


class Film(L.LightningModule):
    """A model of somebody else's whose clips are noise around what it learns."""

    image_shape = (1, 5, 8, 8)

    def __init__(self):
        super().__init__()
        self.level = nn.Parameter(torch.zeros(()))

    def sample(self, n):
        return (self.level + torch.randn(n, *self.image_shape) / 4).clamp(-1, 1)

    def training_step(self, batch, batch_idx):
        return (self.level - batch[0].mean()).square()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def test_curves_are_the_same_on_several_processes(trainer, tmp_path):
    real = (noise(64, 1, 5, 8, 8).float() / 127.5 - 1, torch.zeros(64, dtype=torch.long))
    values = {}
    for world in (1, 2):
        logger = TensorBoardLogger(tmp_path, str(world), 0)
        scorer = Evaluate(Framed(Wrapped(Summary(), "summary"), Wrapped(Thumbnail())), 2, 301, 60)
        run = trainer(2, world, callbacks=[scorer], logger=logger, use_distributed_sampler=False)
        run.fit(Film(), DataLoader(TensorDataset(*real), batch_size=64))
        events = EventAccumulator(str(tmp_path / str(world) / "version_0"))
        events.Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag.endswith("_summary")]
        values[world] = {tag: events.Scalars(tag)[0].value for tag in tags}
    assert {f"score/{name}_summary" for name in ("fid", "motion", "frame_fid", "recall")} <= set(values[1])
    assert values[1] == pytest.approx(values[2], rel=1e-5)


def test_an_extractor_of_images_is_refused_before_training(trainer):
    data = DataLoader(TensorDataset(torch.zeros(20, 1, 5, 8, 8) - 1, torch.zeros(20)), batch_size=10)
    with pytest.raises(ValueError, match=r"expected uint8 \(N, C, H, W\) for the extractor mnist"):
        trainer(1, callbacks=[Evaluate("mnist", samples=10, reference=10)]).fit(Film(), data)


@pytest.mark.data
@pytest.mark.skipif(not (DATA / "MNIST" / "raw").is_dir(), reason=f"there is no MNIST in {DATA}")
@pytest.mark.parametrize("source", ["digits", "mnist"])
def test_the_shipped_file_knows_digits_and_directions(source):
    pairs = [
        MovingDigitsDataModule(DATA, source, labels=labels, test_clips=1000).splits()[2].__getitems__(range(1000))
        for labels in ("digit", "direction")
    ]
    found = extractor("moving")(pairs[0][0])[1].argmax(1)
    assert (found // 8 == pairs[0][1]).double().mean() > 0.85
    assert (found % 8 == pairs[1][1]).double().mean() > 0.9


# -- baselines of continuations, and positions -------------------------------------------------------------------------


def square(places, size=16, side=4):
    """A clip `(1, 1, T, size, size)` of a white square at upper left corners on black."""
    clip = -torch.ones(1, 1, len(places), size, size)
    for i, (y, x) in enumerate(places):
        clip[0, 0, i, y : y + side, x : x + side] = 1
    return clip


def test_a_square_goes_on_at_its_mean_velocity():
    places = [(8, 2), (7, 4), (7, 5), (6, 7)]
    clip = square(places)
    assert torch.allclose(velocity(clip), torch.tensor([[-2 / 3, 5 / 3]]))
    expected = square([(6 + round(-2 / 3 * i), 7 + round(5 / 3 * i)) for i in (1, 2, 3)])
    assert torch.equal(extrapolated(clip, 3), expected)
    assert torch.equal(repeated(clip, 3), square([(6, 7)] * 3))
    assert torch.equal(extrapolated(clip[:, :, -1:], 3), square([(6, 7)] * 3))


def test_of_equal_velocities_the_first_is_taken_everywhere():
    """A square comes into the frame by one pixel at one side or by two at the other. Rounding would choose."""
    clips = -torch.ones(5, 1, 2, 16, 16)
    for i in range(5):
        clips[i, 0, 0, i + 1 : i + 6, :3] = clips[i, 0, 1, i + 1 : i + 6, 1:5] = 1
    found = velocity(clips)
    assert torch.allclose(found, found[:1], atol=1e-5)
    assert 1 < found[0, 1] < 2


def test_the_velocity_of_a_texture_is_known_to_a_tenth_of_a_pixel():
    """Of noise under a camera that moves by eighths of a pixel per frame, with other content at its borders.

    A velocity in whole pixels is wrong by a quarter of a pixel in the mean, which is 3 pixels after 12 frames.
    """
    draw = torch.Generator().manual_seed(0)
    wide = torch.randn(8, 3, 320, 320, generator=draw)  # 8 x 8 numbers for a pixel of a frame
    moved = torch.tensor([[4, 9], [-3, 12], [0, 5], [7, 0], [11, -4], [-6, -6], [2, 3], [15, -13]])
    clips = torch.stack([wide[..., 32:288, 32:288], wide[..., 32:288, 32:288]], 2)
    for i, (down, along) in enumerate(moved.tolist()):
        clips[i, :, 1] = wide[i, :, 32 - down : 288 - down, 32 - along : 288 - along]
    found = velocity(torch.nn.functional.avg_pool3d(clips, (1, 8, 8)))
    assert (found - moved / 8).abs().max() < 0.1


def test_what_moves_in_is_the_background_or_repeats_the_border():
    ramp = torch.arange(16.0).expand(1, 1, 16, 16)
    still = extrapolated(torch.stack([ramp.roll(-1, 3), ramp], 2), 2)
    assert torch.equal(still[0, 0, 1, 0, :4], torch.tensor([0.0, 0.0, 0.0, 1.0]))
    draw = torch.Generator().manual_seed(0)
    thing = torch.rand(5, 6, generator=draw)
    clip = -torch.ones(1, 1, 4, 16, 16)
    clip[..., 0, 6:11, :4] = thing[:, 2:]  # two columns are outside
    for frame, x in ((1, 0), (2, 2), (3, 4)):
        clip[..., frame, 6:11, x : x + 6] = thing
    assert torch.allclose(velocity(clip[:, :, :2]), torch.tensor([[0.0, 2.0]]), atol=0.05)
    assert torch.equal(extrapolated(clip[:, :, :2], 2), clip[:, :, 2:])


def test_the_centre_of_brightness_follows_an_object():
    places = [(8, 2), (0, 4)]
    assert torch.allclose(centres(square(places)), torch.tensor(places).double()[None] + 1.5)
    assert centres(-torch.ones(1, 3, 2, 8, 8)).isfinite().all()


def test_continuations_of_the_truth_are_perfect():
    """A model that knows what follows has the best scores, and the extractor's class of the true clip."""
    data = MovingDigitsDataModule(source="digits", speed=(1, 2), val_clips=12)
    batch = next(iter(data.val_dataloader()))[0].float() / 127.5 - 1

    class Knowing:
        given, device = 4, torch.device("cpu")

        def continued(self, first, frames):
            assert torch.allclose(first, batch[:, :, :4])
            assert frames == 12
            return batch[:, :, 4:]

    scored = Continuations("moving")
    scored.objects = 1
    scored.add(Knowing(), (batch,), 0)
    found = {name: float(value) for name, value in scored.compute(Knowing()).items()}
    ahead = {name: curve.tolist() for name, curve in scored.ahead.items()}
    assert (found["psnr"], found["position"], found["same_class/moving"]) == (100, 0, 1)
    assert ahead["ssim"] == pytest.approx([1] * 12)
    assert abs(found["fid/moving"]) < 1e-3 < found["linear/fid/moving"] < found["repeat/fid/moving"]
    assert found["motion"] == pytest.approx(found["motion/data"]) != 0
    assert found["diversity"] == 0
    assert found["linear/psnr"] == pytest.approx(sum(ahead["linear/psnr"]) / 12)
    assert ahead["linear/psnr"][0] > ahead["linear/psnr"][11]
    assert ahead["linear/position"][0] < ahead["repeat/position"][0] < ahead["repeat/position"][3]
    head, *rows = [line.split() for line in table(ahead).splitlines()]
    kinds = [name for score in ("position", "psnr", "ssim") for name in (score, "repeat", "linear")]
    assert head == ["frames", "ahead", *kinds]
    assert [row[0] for row in rows] == [str(n) for n in range(1, 13)]
    assert float(rows[3][5]) == pytest.approx(ahead["repeat/psnr"][3], abs=1e-3)


def test_an_extractor_of_images_cannot_score_continuations():
    with pytest.raises(ValueError, match="features is mnist, an extractor of images; expected one of clips"):
        Continuations("mnist").extractor(torch.device("cpu"))
