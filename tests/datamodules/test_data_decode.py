"""One image of every kind that PIL writes, and what a reader would see of it."""

import os
import runpy
import sys
import warnings

import numpy as np
import pytest
import torch
from broken_images import BROKEN, photo
from PIL import Image, ImageOps

import datamodules.decode
from datamodules.decode import Target, UnreadableImageError, centred, look, read_image, read_whole

torch.set_num_threads(1)
RGB = Target(3, (8, 8))


def ramp(height=8, width=8):
    return np.linspace(0, 255, height * width).reshape(height, width)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated.jpg", "truncated"),
        ("truncated.png", "."),
        ("empty.png", "empty file"),
        ("text.jpg", "not an image"),
        ("bomb.png", "more than .* pixels"),
        ("headless.gif", "."),
    ],
)
def test_broken_files_give_a_reason_and_stay_closed(tmp_path, name, reason):
    BROKEN[name](tmp_path / name)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with pytest.raises(UnreadableImageError, match=reason) as caught:
        read_image(tmp_path / name, RGB)
    assert str(tmp_path) not in str(caught.value)
    with pytest.raises(UnreadableImageError, match="no such file"):
        read_image(tmp_path / "absent.png", RGB)
    if before:
        assert len(os.listdir("/proc/self/fd")) == before


def read(path, image, target=RGB, **options):
    image.save(path, **options)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = read_image(path, target)
    assert not before or len(os.listdir("/proc/self/fd")) == before
    assert result.dtype == torch.uint8
    assert result.shape == (target.channels, *target.size)
    assert result.is_contiguous()
    return result


def test_rgb_pixels_are_exact_in_their_own_size(tmp_path):
    image = photo(8, 8)
    assert torch.equal(read(tmp_path / "a.png", image).permute(1, 2, 0), torch.from_numpy(np.array(image)))


def test_cmyk_keeps_its_colours(tmp_path):
    image = Image.new("RGB", (8, 8), (200, 40, 90))
    found = read(tmp_path / "a.jpg", image.convert("CMYK"), quality=100)
    assert (found.float().mean((1, 2)) - torch.tensor([200.0, 40, 90])).abs().max() < 3


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    image = Image.fromarray((ramp() * 257).astype(np.uint16))
    found = read(tmp_path / f"a.{suffix}", image, Target(1, (8, 8)))
    assert (found[0].numpy() - ramp()).__abs__().max() <= 1


@pytest.mark.parametrize("highest", [1, 255])
def test_floats_of_either_convention_are_scaled(tmp_path, highest):
    image = Image.fromarray((ramp() / 255 * highest).astype(np.float32))
    assert (read(tmp_path / "a.tif", image)[1].numpy() - ramp()).__abs__().max() <= 1


NUMBERS = [  # type, what it holds, what shall be seen
    ("int32", [0, 100, 255], [0, 100, 255]),
    ("int32", [0, 25700, 65535], [0, 100, 255]),
    ("int32", [0, 2**29, 2**30], [0, 128, 255]),
    ("int32", [-1000, 0, 1000], [0, 128, 255]),
    ("float32", [0, 0.5, 1], [0, 128, 255]),
    ("float32", [0, 100, 255], [0, 100, 255]),
    ("float32", [0, 25700, 65535], [0, 100, 255]),
    ("float32", [0, 5e6, 1e7], [0, 128, 255]),
    ("float32", [-1, 0, 1], [0, 128, 255]),
    ("float32", [-3, 0, 3], [0, 128, 255]),
    ("float32", [0, np.nan, np.inf, 0.5], [0, 0, 255, 128]),
]


@pytest.mark.parametrize(("kind", "held", "seen"), NUMBERS)
def test_numbers_are_scaled_by_what_they_hold(tmp_path, kind, held, seen):
    picture = Image.fromarray(np.array([held] * 2, dtype=kind))
    found = read(tmp_path / "a.tif", picture, Target(1, (2, len(held))))
    assert np.abs(found[0, 0].numpy().astype(int) - seen).max() <= 1, found[0, 0]
    assert torch.equal(read_whole(tmp_path / "a.tif", 1), found)


def test_dark_sixteen_bits_stay_dark(tmp_path):
    for suffix in ("png", "pgm", "tif"):
        found = read(tmp_path / f"a.{suffix}", Image.fromarray(np.full((8, 8), 200, np.uint16)), Target(1, (8, 8)))
        assert found.unique().tolist() == [1]


def test_a_file_that_is_no_picture_by_its_content_is_not_run(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\nshowpage\n")
    with pytest.raises(UnreadableImageError, match="not an image"):
        read_image(tmp_path / "a.png", RGB)


def test_a_whole_picture_keeps_its_size_and_is_turned(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    photo(16, 9).save(tmp_path / "a.png", exif=exif)
    assert read_whole(tmp_path / "a.png").shape == (3, 16, 9)
    assert read_whole(tmp_path / "a.png", 1).shape == (1, 16, 9)


def test_one_bit_is_black_and_white(tmp_path):
    found = read(tmp_path / "a.png", Image.fromarray(ramp() > 127))
    assert torch.equal(found[0], torch.from_numpy((ramp() > 127) * 255).byte())


def test_a_palette_with_transparency_is_composited_over_white(tmp_path):
    image = Image.new("P", (8, 8), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (0, 0, 4, 8))
    found = read(tmp_path / "a.png", image, transparency=0)
    assert found[:, 0, 0].tolist() == [200, 100, 50]
    assert found[:, 0, 7].tolist() == [255, 255, 255]
    kept = read(tmp_path / "a.png", image, Target(4, (8, 8)), transparency=0)
    assert kept[3, 0].tolist() == [255] * 4 + [0] * 4
    plain = read(tmp_path / "a.png", image)
    assert plain[:, 0, 7].tolist() == [10, 20, 30]


@pytest.mark.parametrize(("mode", "colour"), [("RGBA", (100, 0, 50, 128)), ("LA", (100, 128))])
def test_alpha_is_composited_over_white_or_kept(tmp_path, mode, colour):
    image = Image.new(mode, (8, 8), colour)
    expected = [round(value * 128 / 255 + 255 * 127 / 255) for value in (colour[:3] if mode == "RGBA" else [100] * 3)]
    found = read(tmp_path / "a.png", image)[:, 4, 4]
    assert (found.int() - torch.tensor(expected)).abs().max() <= 1
    kept = read(tmp_path / "a.png", image, Target(4, (8, 8)))[:, 4, 4]
    assert kept.tolist() == ([*colour] if mode == "RGBA" else [100, 100, 100, 128])


def test_an_animation_is_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in ("gif", "webp", "tif"):
        found = read(tmp_path / f"a.{suffix}", frames[0], save_all=True, append_images=frames[1:])
        assert (found[:, 4, 4].int() - torch.tensor([255, 0, 0])).abs().max() < 6


def test_exif_orientation_is_applied(tmp_path):
    image = Image.new("RGB", (16, 8), "black")
    image.paste("white", (0, 0, 8, 8))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: what is left comes up
    found = read(tmp_path / "a.png", image, Target(1, (16, 8)), exif=exif)[0]
    assert found[:8].min() == 255
    assert found[8:].max() == 0


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_of_a_jpeg_is_applied(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    landscape(96, 64).save(tmp_path / "a.jpg", exif=exif, quality=95)
    turned = ImageOps.exif_transpose(Image.open(tmp_path / "a.jpg"))
    exact = torch.from_numpy(np.array(turned)).permute(2, 0, 1)
    assert torch.equal(read_whole(tmp_path / "a.jpg"), exact)
    assert torch.equal(read_image(tmp_path / "a.jpg", Target(3, tuple(exact.shape[1:]))), exact)


def test_colour_becomes_grey_by_luminance(tmp_path):
    found = read(tmp_path / "a.png", Image.new("RGB", (8, 8), (255, 0, 0)), Target(1, (8, 8)))
    assert found.unique().tolist() == [round(0.299 * 255)]


def test_large_but_readable_images_give_no_warning(tmp_path, monkeypatch):
    photo(40, 30).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_image(tmp_path / "a.png", RGB)
        look(tmp_path / "a.png")


@pytest.mark.parametrize("size", [(17, 31), (64, 64), (1, 1), (500, 7)])
@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_any_size_becomes_any_size(tmp_path, size, fit):
    for i, (width, height) in enumerate([(418, 418), (48, 80), (1, 300)]):
        assert read(tmp_path / f"{i}.jpg", photo(width, height), Target(3, size, fit)).max() > 0


def test_fit_crops_pads_or_stretches(tmp_path):
    image = Image.new("RGB", (32, 16), "red")
    image.paste("lime", (8, 0, 24, 16))  # the middle square

    def seen(fit):
        return read(tmp_path / "a.png", image, Target(3, (8, 8), fit))[:, 4]

    assert seen("crop")[:, 1:7].T.unique(dim=0).tolist() == [[0, 255, 0]]
    assert seen("stretch")[0, [0, 7]].tolist() == [255, 255]
    assert seen("stretch")[1, 3:5].tolist() == [255, 255]
    padded = read(tmp_path / "a.png", image, Target(3, (8, 8), "pad"))
    assert padded[:, :2].max() == padded[:, 6:].max() == 0
    assert (padded.amax(0)[2:6] > 150).all()
    transparent = read(tmp_path / "a.png", image.convert("RGBA"), Target(4, (8, 8), "pad"))
    assert transparent[3, 0].max() == 0


def test_the_centre_crop_is_in_original_pixels(tmp_path):
    image = photo(178, 218)
    found = read(tmp_path / "a.png", image, Target(3, (148, 148), crop=(148, 148)))
    assert torch.equal(found.permute(1, 2, 0), torch.from_numpy(np.array(image)[35:183, 15:163]))
    found = read(tmp_path / "a.jpg", photo(640, 640), Target(3, (16, 16), crop=(16, 16)), quality=100)
    exact = torch.from_numpy(np.array(photo(640, 640))[312:328, 312:328]).permute(2, 0, 1)
    assert (found.float() - exact.float()).abs().mean() < 60, "not a reduced JPEG"
    assert centred(torch.zeros(3, 20, 10), (148, 148)).shape == (3, 20, 10), "no more than there is"


def test_reducing_is_antialiased_also_where_a_jpeg_is_decoded_small(tmp_path):
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    for name in ("a.png", "a.jpg"):
        found = read(tmp_path / name, Image.fromarray(stripes), Target(1, (16, 16)))
        assert (found.float() - 127.5).abs().max() < 8
    smooth = Image.fromarray(ramp(512, 512).astype(np.uint8)).convert("RGB")
    exact = np.array(smooth.convert("L").resize((16, 16), Image.Resampling.BICUBIC), dtype=int)
    found = read(tmp_path / "b.jpg", smooth, Target(1, (16, 16)), quality=95)[0]
    assert np.abs(found.numpy().astype(int) - exact).max() <= 3
    detailed = photo(64, 64).resize((512, 512), Image.Resampling.BICUBIC)
    png, jpg = (read(tmp_path / f"c.{kind}", detailed, Target(1, (128, 128)), quality=95) for kind in ("png", "jpg"))
    assert (png.float() - jpg.float()).abs().mean() < 3


def landscape(width, height):
    """An image with the spectrum of photographs, in which amplitudes fall with the frequency."""
    generator = np.random.default_rng(0)
    down, across = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None]
    radius = np.hypot(down, across)
    radius[0, 0] = np.inf
    waves = np.fft.fft2(generator.normal(size=(height, width, 3)), axes=(0, 1)) / radius[..., None]
    values = np.fft.ifft2(waves, axes=(0, 1)).real
    return Image.fromarray((127.5 + 45 * values / values.std()).clip(0, 255).astype(np.uint8))


def by_pillow(image, target):
    """Return the result of Pillow's resizing, without a reduced decoding."""
    height, width = target.size
    if target.fit == "crop":
        scale = min(image.width / width, image.height / height)
        across, down = max(1, round(width * scale)), max(1, round(height * scale))
        left, top = (image.width - across) // 2, (image.height - down) // 2
        image = image.crop((left, top, left + across, top + down))
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).view(height, width, -1).permute(2, 0, 1)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(40, 40), (150, 90), (7, 200), (1, 1)])
@pytest.mark.parametrize("fit", ["crop", "stretch"])
def test_pixels_differ_from_pillows_by_one_level_at_most(tmp_path, mode, size, fit):
    image = landscape(150, 90)
    if mode == "RGBA":
        image.putalpha(landscape(90, 150).convert("L").rotate(90, expand=True))
    image = image.convert(mode)
    target = Target({"L": 1, "RGB": 3, "RGBA": 4}[mode], size, fit)
    difference = (read(tmp_path / "a.png", image, target).int() - by_pillow(image, target).int()).abs()
    assert difference.max() <= (0 if mode == "RGBA" or size == (90, 150) else 1)


def test_pixels_outside_the_crop_have_no_influence(tmp_path):
    image = landscape(96, 64)
    before = read(tmp_path / "a.png", image, Target(3, (20, 20)))
    image.paste("white", (0, 0, 16, 64))
    image.paste("black", (80, 0, 96, 64))
    assert torch.equal(read(tmp_path / "a.png", image, Target(3, (20, 20))), before)


@pytest.mark.parametrize(("side", "size", "decoded"), [(512, 64, 256), (384, 64, 192), (512, 32, 128), (512, 256, 512)])
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK", "progressive"])
def test_a_jpeg_decoded_small_differs_little_from_one_decoded_in_full(tmp_path, monkeypatch, side, size, decoded, kind):
    seen, original = [], datamodules.decode.bicubic

    def recorded(pixels, size):
        seen.append(tuple(pixels.shape[1:]))
        return original(pixels, size)

    monkeypatch.setattr(datamodules.decode, "bicubic", recorded)
    image = landscape(side, side).convert("RGB" if kind == "progressive" else kind)
    found = read(tmp_path / "a.jpg", image, Target(3, (size, size)), quality=90, progressive=kind == "progressive")
    assert seen == [(decoded, decoded)]
    full = Image.open(tmp_path / "a.jpg").convert("RGB")
    difference = (found.int() - by_pillow(full, Target(3, (size, size))).int()).abs().float()
    assert difference.mean() < 1
    assert difference.max() <= (1 if decoded == side else 12)


@pytest.mark.skipif(datamodules.decode.decode_jpeg is None, reason="needs torchvision's decoder")
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}, {"restart": 2}])
@pytest.mark.parametrize("half", [None, "left", "right"])
def test_both_decoders_give_the_same_pixels(tmp_path, monkeypatch, options, half):
    path, target = tmp_path / "a.jpg", Target(3, (60, 70), half=half)
    if "restart" in options:
        options = {"restart_marker_rows": options["restart"]}
    landscape(151, 90).save(path, **options)
    calls, original = [], datamodules.decode.decode_jpeg

    def recorded(data):
        calls.append(len(data))
        return original(data)

    monkeypatch.setattr(datamodules.decode, "decode_jpeg", recorded)
    found = read_image(path, target)
    assert calls == [path.stat().st_size]
    monkeypatch.setattr(datamodules.decode, "decode_jpeg", None)
    assert torch.equal(read_image(path, target), found)


def test_a_jpeg_that_torchvision_refuses_is_read_by_pillow(tmp_path, monkeypatch):
    def refuse(data):
        raise RuntimeError("not supported")

    monkeypatch.setattr(datamodules.decode, "decode_jpeg", refuse)
    image = landscape(40, 30)
    found = read(tmp_path / "a.jpg", image, Target(3, (30, 40)))
    assert torch.equal(found, torch.from_numpy(np.array(Image.open(tmp_path / "a.jpg"))).permute(2, 0, 1))


def test_a_jpeg_is_read_without_warnings(tmp_path, recwarn):
    warnings.simplefilter("always")  # `read` would turn them into errors, after which Pillow reads
    landscape(40, 30).save(tmp_path / "a.jpg")
    read_image(tmp_path / "a.jpg", Target(3, (30, 40)))
    assert [str(warning.message) for warning in recwarn] == []


@pytest.mark.parametrize("missing", ["function", "module"])
def test_without_torchvisions_decoder_pillow_reads_the_same_pixels(tmp_path, monkeypatch, missing):
    landscape(40, 30).save(tmp_path / "a.jpg")
    if missing == "function":
        monkeypatch.delattr("torchvision.io.decode_jpeg", raising=False)
    else:
        monkeypatch.setitem(sys.modules, "torchvision.io", None)
    without = runpy.run_path(datamodules.decode.__file__)
    assert without["decode_jpeg"] is None
    found = without["read_image"](tmp_path / "a.jpg", without["Target"](3, (30, 40)))
    assert torch.equal(found, read_image(tmp_path / "a.jpg", Target(3, (30, 40))))


def test_look_tells_colour_and_alpha(tmp_path):
    for mode, expected in {
        "L": (False, False),
        "LA": (False, True),
        "RGB": (True, False),
        "RGBA": (True, True),
    }.items():
        Image.new(mode, (8, 8)).save(tmp_path / "a.png")
        assert look(tmp_path / "a.png") == expected
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(UnreadableImageError):
        look(tmp_path / "a.png")
