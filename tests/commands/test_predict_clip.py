"""`gans predict` of a clip: frames, times, colours, sound, flicker, and what is wrong with it."""

import sys
from fractions import Fraction

import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

from gans.models import SRGAN, Inpainting, StyleTransfer

av = pytest.importorskip("av", reason="av is not installed: the extra video")


@pytest.fixture
def enlarging(saved, tmp_path):
    """A checkpoint that interpolates by 2."""
    torch.manual_seed(0)
    saved(SRGAN(16, 3, scale=2, width=4, blocks=1), tmp_path)
    return "checkpoints/last.ckpt"


def still(i, size=(32, 24)):
    """A frame whose left half gets brighter, on orange."""
    image = Image.new("RGB", size, (220, 120, 40))
    image.paste((20 * i,) * 3, (0, 0, size[0] // 2, size[1]))
    return image


def clip(path, count=6, size=(32, 24), rate=10, times=None, sound=None, rotation=0, form=None):
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "4"})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        if rotation:
            stream.set_display_rotation(rotation)
        if sound:
            track = container.add_stream(sound, rate=48000, layout="mono")
        for i in range(count):
            frame = av.VideoFrame.from_image(still(i, size))
            frame.pts, frame.time_base = (times or range(0, 10**6, 1000 // rate))[i], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if sound:
            for start in range(0, 48000 * count // rate, 960):
                wave = (9000 * np.sin(np.arange(start, start + 960) / 10)).astype(np.int16)[None]
                frame = av.AudioFrame.from_ndarray(wave, layout="mono")
                frame.rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
                container.mux(track.encode(frame))
            container.mux(track.encode())


def looked(path):
    """The frames, their times, the packets of sound, and the stream."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        frames = [(float(frame.time), np.array(frame.to_image())) for frame in container.decode(stream)]
        rate = stream.average_rate
    with av.open(str(path)) as container:
        tracks = container.streams.audio
        packets = [bytes(packet) for packet in container.demux(tracks)] if tracks else []
        kinds = [track.codec_context.name for track in tracks]
    return [time for time, _ in frames], [frame for _, frame in frames], rate, kinds, [part for part in packets if part]


@pytest.mark.parametrize(("output", "sound"), [("out.mp4", "aac"), ("deep/out.mkv", "mp3"), ("out.webm", "libopus")])
def test_a_clip_keeps_frames_rate_and_sound(gans, tmp_path, enlarging, output, sound):
    clip(tmp_path / "a.mkv", sound=sound)
    code, out, err = gans(f"predict {enlarging} --input a.mkv --output {output}")
    assert code == 0, err
    told = {line.split()[0]: line.split(maxsplit=1)[1] for line in out.splitlines()}
    assert told["clip"] == f"{output} (6 frames of 64x48, 10 frames/s, 0.6 s)"
    assert told["sound"] == f"{sound.removeprefix('lib')}, copied"
    assert told["speed"].endswith(" frames/s")
    given, made = looked(tmp_path / "a.mkv"), looked(tmp_path / output)
    assert made[0] == pytest.approx([i / 10 for i in range(6)], abs=1e-3)
    assert made[2] == given[2] == 10
    assert made[3:] == given[3:]
    for i, frame in enumerate(made[1]):
        assert frame.shape == (48, 64, 3)
        assert np.abs(frame[24, 10].astype(int) - 20 * i).max() <= 4
        assert np.abs(frame[24, 50].astype(int) - (220, 120, 40)).max() <= 5


def test_uneven_times_are_kept_and_batches_change_nothing(gans, tmp_path, enlarging):
    times = [0, 40, 200, 240, 520]
    clip(tmp_path / "a.mp4", 5, times=times)
    made = []
    for flags in ("--batch 2", "--tile 32 --overlap 8 --batch 3"):
        code, _, err = gans(f"predict {enlarging} --input a.mp4 --output out.mp4 {flags}")
        assert code == 0, err
        found = looked(tmp_path / "out.mp4")
        assert found[0] == pytest.approx([time / 1000 for time in times], abs=1e-3)
        made.append(np.stack(found[1]))
    assert np.abs(made[0].astype(int) - made[1]).max() <= 3


def test_clips_of_telephones_stand_upright(gans, tmp_path, enlarging):
    clip(tmp_path / "a.mp4", 2, rotation=90)
    code, out, err = gans(f"predict {enlarging} --input a.mp4 --output out.mp4 --outscale 1.5")
    assert code == 0, err
    assert "2 frames of 36x48" in out
    assert looked(tmp_path / "out.mp4")[1][0].shape == (48, 36, 3)


def test_gifs_are_clips_if_the_output_is_one(gans, tmp_path, enlarging):
    images = [still(i, (15, 9)) for i in range(4)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], duration=[100, 100, 300, 100])
    code, out, err = gans(f"predict {enlarging} --input a.gif --output out.gif")
    assert code == 0, err
    assert "4 frames of 30x18" in out
    with Image.open(tmp_path / "out.gif") as file:
        found = [
            (frame.info["duration"], frame.convert("RGB").getpixel((3, 9))) for frame in ImageSequence.Iterator(file)
        ]
    assert [duration for duration, _ in found[:3]] == [100, 100, 300]
    assert [colour[0] for _, colour in found] == pytest.approx([0, 20, 40, 60], abs=3)
    code, out, err = gans(f"predict {enlarging} --input a.gif --output out.mp4")
    assert code == 0, err
    assert looked(tmp_path / "out.mp4")[0] == pytest.approx([0, 0.1, 0.2, 0.5], abs=1e-3)
    code, out, err = gans(f"predict {enlarging} --input a.gif --output pictures")
    assert (code, out) == (0, "pictures     pictures (1 of 1)\n"), err


def test_flicker_is_the_difference_of_successive_frames(gans, tmp_path, saved, enlarging):
    """Of a half that gets brighter by 20 levels a frame: 10. A model that adds noise of its own flickers more."""
    clip(tmp_path / "a.mp4", size=(64, 48))
    code, out, err = gans(f"predict {enlarging} --input a.mp4 --output out.mp4")
    assert code == 0, err
    words = next(line for line in out.splitlines() if line.startswith("flicker")).split()
    assert [float(words[1]), float(words[6])] == pytest.approx([10, 10], abs=0.5)
    assert words[2:6] + words[7:] == ["of", "255", "between", "frames,", "in", "the", "input"]


def test_sound_can_be_dropped(gans, tmp_path, enlarging):
    clip(tmp_path / "a.mp4", 2, sound="aac")
    code, out, err = gans(f"predict {enlarging} --input a.mp4 --output out.webm --sound drop")
    assert code == 0, err
    assert "sound        aac, dropped" in out
    assert looked(tmp_path / "out.webm")[3] == []


def test_masks_and_styles_are_those_of_all_frames(gans, tmp_path, trainer):
    clip(tmp_path / "a.mp4", 3)
    mask = np.zeros((24, 32), np.uint8)
    mask[8:16, 20:28] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    for kind, flags in ((Inpainting, "--mask mask.png"), (StyleTransfer, "--style mask.png --strength 0.5 --batch 2")):
        torch.manual_seed(0)
        run, model = (
            trainer(1),
            kind(
                **{"size": 16, "width": 4, "discriminator_width": 2}, **({"depth": 2} if kind is StyleTransfer else {})
            ),
        )
        run.strategy.connect(model)
        model.trainer = run
        run.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
        code, _, err = gans(f"predict model.ckpt --input a.mp4 --output out.mp4 {flags}")
        assert code == 0, err
        made = looked(tmp_path / "out.mp4")[1]
        assert len(made) == 3
        if kind is Inpainting:
            apart = np.abs(made[1][:, :14].astype(int) - looked(tmp_path / "a.mp4")[1][1][:, :14])
            assert apart.mean() < 3


def test_what_is_wrong_with_a_clip_is_one_sentence(refused, tmp_path, enlarging, monkeypatch):
    clip(tmp_path / "a.mp4", 3, sound="aac")
    clip(tmp_path / "mute.mp4", 2)
    for name, size in (("one", (32, 24)), ("two", (48, 24))):
        clip(tmp_path / f"{name}.h264", 2, size, form="h264")
    parts = [(tmp_path / f"{name}.h264").read_bytes() for name in ("one", "two")]
    (tmp_path / "mixed.mp4").write_bytes(b"".join(parts))
    (tmp_path / "broken.mp4").write_text("x")
    still(1).save(tmp_path / "a.png")
    cases = {
        "--input a.mp4 --output out": "output is out; expected a file that ends with .mp4, .mov, .mkv, .webm or .gif,",
        "--input a.mp4 --output out.avi": "output is out.avi; expected a file that ends with .mp4",
        "--input a.mp4 --output a.mp4": "output is a.mp4, the input; expected another file",
        "--input none.mp4 --output out.mp4": "input is none.mp4, which does not exist",
        "--input broken.mp4 --output out.mp4": "broken.mp4 cannot be read: Invalid data",
        "--input mixed.mp4 --output out.mp4": "mixed.mp4 has frames of 32x24 pixels, but from frame 3 on 48x24",
        "--input a.mp4 --output out.webm": "out.webm cannot hold the sound of a.mp4, which is aac; expected .mp4 or",
        "--input a.mp4 --output out.gif": "out.gif cannot hold the sound of a.mp4, which is aac; expected .mp4",
        "--input a.mp4 --output out.mp4 --format png": "format is png; expected none, because a.mp4 is a clip",
        "--input a.mp4 --output out.mp4 --strength 1": "strength is for style transfer, but checkpoints/last.ckpt",
        "--input a.png --output out.mp4": "output is out.mp4, a clip, but input is a.png, which is none; expected",
    }
    for flags, says in cases.items():
        assert refused(f"predict {enlarging} {flags}").startswith(says), flags
    monkeypatch.setitem(sys.modules, "av", None)
    says = 'videos other than GIF need PyAV: pip install "lightning-gans[video]"'
    assert refused(f"predict {enlarging} --input mute.mp4 --output out.gif") == says


def test_masks_of_a_clip_are_one_file_of_its_size(refused, tmp_path, trainer):
    run, model = trainer(1), Inpainting(16, 3, width=2, discriminator_width=2)
    run.strategy.connect(model)
    model.trainer = run
    run.save_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    clip(tmp_path / "a.mp4", 2)
    (tmp_path / "masks").mkdir()
    Image.new("L", (30, 24)).save(tmp_path / "masks" / "a.png")
    cases = {
        "--mask masks": "mask is masks, which is a folder; expected one file for all frames of the clip",
        "--mask none.png": "mask is none.png, which does not exist; expected one file for all frames of the clip",
        "--mask masks/a.png": "mask has 30x24 pixels, the frames of a.mp4 32x24",
    }
    for flags, says in cases.items():
        assert refused(f"predict model.ckpt --input a.mp4 --output out.mp4 {flags}") == says


def test_frames_of_one_pixel_are_no_video(refused, enlarging, tmp_path):
    clip(tmp_path / "clip.mp4", 2)
    told = refused(f"predict {enlarging} --input clip.mp4 --output made.mp4 --outscale 0.03")
    assert told == "a frame has 1x1 pixels; a video needs at least 2 a side"
