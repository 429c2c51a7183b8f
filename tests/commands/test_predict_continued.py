"""`gans predict` with a model that continues clips: folders and clips, seeds, and what is wrong with them."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from gans.models import DCGAN, SequenceGAN

CKPT = "checkpoints/last.ckpt"


@pytest.fixture
def continuing(saved, tmp_path):
    """A checkpoint that continues 2 frames of 16x16."""
    torch.manual_seed(0)
    model = SequenceGAN(16, 1, frames=4, latent_dim=4, motion_dim=3, width=2, motion_grid=1, given=2)
    torch.nn.init.normal_(model.generator_ema.dynamics.change[-1].weight)  # as if trained: noise moves the frame
    saved(model, tmp_path)
    return CKPT


def folder(path, count=3, size=(16, 16)):
    """Frames whose order is that of their numbers, not of their letters."""
    path.mkdir()
    for i in range(count):
        drawn(i, size).save(path / f"frame{8 + i}.png")
    return path


def drawn(i, size=(16, 16)):
    """A frame of a brightness, with a ramp."""
    ramp = np.tile(np.arange(size[0], dtype=np.uint8) * 4, (size[1], 1))
    return Image.fromarray(ramp + np.uint8(40 * i))


def pixels(path):
    return np.stack([np.array(Image.open(file)) for file in sorted(path.iterdir())])


def test_a_folder_of_frames_is_continued(continuing, tmp_path, gans):
    folder(tmp_path / "given", size=(20, 16))
    for name, seed, frames in (("one", 0, 5), ("again", 0, 2), ("other", 1, 5)):
        code, out, err = gans(f"predict {continuing} --input given --output {name} --frames {frames} --seed {seed}")
        assert code == 0, err
    assert "3 given and 5 new frames of 16x16" in out
    one, again, other = (pixels(tmp_path / name) for name in ("one", "again", "other"))
    assert one.shape == (8, 16, 16)
    assert [int(frame[0, 0]) for frame in one[:3]] == [8, 48, 88]  # two columns are cropped at each side
    assert np.array_equal(one[:5], again)
    assert not np.array_equal(one[3:], other[3:])


def test_a_gif_is_continued(continuing, tmp_path, gans):
    frames = [drawn(i) for i in range(4)]
    frames[0].save(tmp_path / "given.gif", save_all=True, append_images=frames[1:], duration=120, loop=0)
    code, _, err = gans(f"predict {continuing} --input given.gif --output out.gif")
    assert code == 0, err
    with Image.open(tmp_path / "out.gif") as made:
        lengths = [frame.info["duration"] for frame in ImageSequence.Iterator(made)]
    assert lengths[:3] == [120] * 3
    assert sum(lengths) == 120 * (4 + 16)  # Pillow joins equal frames


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--frames 0", "frames is 0; expected at least 1"),
        ("--seed -1", "seed is -1; expected at least 0"),
        ("--style x.png", "style is for models that translate pictures, but"),
        ("--tile 128", "tile is for models that translate pictures, but"),
        ("--format png", "format is for models that translate pictures, but"),
        ("--back", "back is for models that translate pictures, but"),
    ],
)
def test_bad_flags_are_refused(continuing, tmp_path, refused, flags, says):
    folder(tmp_path / "given")
    assert says in refused(f"predict {continuing} --input given --output out {flags}")


def test_bad_input_and_output_is_refused(continuing, tmp_path, refused):
    folder(tmp_path / "given")
    folder(tmp_path / "short", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.gif").write_bytes(b"GIF89a")
    for source, output, says in (
        ("short", "out", "has 1 frame; expected at least 2"),
        ("empty", "out", "which holds no pictures; expected a folder of frames"),
        ("none", "out", "which does not exist; expected a folder of frames"),
        ("broken.gif", "out", "broken.gif cannot be read"),
        ("given/frame8.png", "out", "expected a folder of frames, or a clip: mp4"),
        ("given", "out.txt", "expected a folder, or a file that ends with"),
        ("given", "given", "the input; expected another file or folder"),
    ):
        assert says in refused(f"predict {continuing} --input {source} --output {output}")


def test_a_model_without_given_frames_says_so(saved, tmp_path, refused):
    saved(SequenceGAN(8, 1, frames=4, latent_dim=4, motion_dim=3, width=2), tmp_path)
    folder(tmp_path / "given")
    says = "holds a SequenceGAN that was trained with given 0, so it cannot continue clips: train it with --model.given"
    assert says in refused(f"predict {CKPT} --input given --output out")
    saved(DCGAN(8, 1, latent_dim=4, width=2), tmp_path)
    assert "frames is for models of clips, but" in refused(f"predict {CKPT} --input given --output out --frames 3")
    assert "seed is for models of clips, but" in refused(f"predict {CKPT} --input given --output out --seed 3")
