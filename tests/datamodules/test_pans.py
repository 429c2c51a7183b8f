"""Clips by a camera over a photograph: constant motion at exact places, without leaving the photograph."""

import pytest
import torch

from datamodules.pans import Camera, Motion, filmed, motion

CAMERA = Camera(size=(12, 16), frames=9, speed=(0.5, 2.0), zoom=1.5)


def photograph(height=60, width=80, channels=3):
    """A smooth pattern, so that places between pixels are known."""
    y, x = torch.meshgrid(torch.arange(height) / 7, torch.arange(width) / 9, indexing="ij")
    waves = 100 * y.sin() * x.cos() + 127
    return waves.round().to(torch.uint8).expand(channels, -1, -1).contiguous()


def test_a_motion_stays_in_the_photograph_and_in_its_settings():
    height, width = CAMERA.needed()
    found = [motion(CAMERA, (height + extra, width), 0, extra) for extra in range(300)]
    for extra, path in enumerate(found):
        for i in (0, CAMERA.frames - 1):
            scale = path.scale * path.zoom ** (-i / (CAMERA.frames - 1))
            assert scale >= 1 - 1e-9  # nothing is enlarged
            for axis, most in enumerate((height + extra, width)):
                place, half = path.centre[axis] + i * path.velocity[axis], scale * CAMERA.size[axis] / 2
                assert -1e-9 <= place - half <= place + half <= most + 1e-9
        assert 0.5 <= torch.tensor(path.velocity).norm() / path.scale <= 2
        assert 1 / 1.5 <= path.zoom <= 1.5
    assert found[3] == motion(CAMERA, (height + 3, width), 0, 3) != motion(CAMERA, (height + 3, width), 1, 3)
    assert {(path.velocity[0] > 0, path.velocity[1] > 0, path.zoom > 1) for path in found} == {
        (a, b, c) for a in (True, False) for b in (True, False) for c in (True, False)
    }


@pytest.mark.parametrize("scale", [1, 2])
def test_whole_pixels_move_exactly(scale):
    path = Motion((30.0, 24.0), (scale * -1.0, scale * 2.0), scale, 1.0)
    clip = filmed(photograph(), CAMERA, path)
    assert clip.shape == (3, 9, 12, 16)
    assert torch.equal(clip[:, 1:, 1:, :-2], clip[:, :-1, :-1, 2:])
    if scale == 1:
        assert torch.equal(clip[:, 0], photograph()[:, 24:36, 16:32])


def test_half_pixels_are_between_pixels():
    """Two frames later the place is a whole pixel further; the frame between is that of the pattern in between."""
    clip = filmed(photograph(channels=1), CAMERA, Motion((30.0, 24.0), (0.0, 0.5), 1, 1.0)).float()
    assert torch.equal(clip[:, 2:, :, :-1], clip[:, :-2, :, 1:])
    between = (clip[0, 0, :, :-1] + clip[0, 0, :, 1:]) / 2
    assert (clip[0, 1, :, :-1] - between).abs().max() < 2
    assert not torch.equal(clip[0, 1], clip[0, 0])


def test_fine_stripes_are_averaged_away():
    stripes = torch.arange(80).remainder(2).mul(255).to(torch.uint8).expand(1, 60, 80).contiguous()
    clip = filmed(stripes, CAMERA, Motion((30.0, 40.0), (0.3, 0.3), 4, 1.0))
    assert (clip.float() - 127.5).abs().max() < 12


def test_a_zoom_enlarges_about_the_centre():
    clip = filmed(photograph(), CAMERA, Motion((30.0, 40.0), (0.0, 0.0), 3, 1.5))
    last = filmed(photograph(), CAMERA, Motion((30.0, 40.0), (0.0, 0.0), 2, 1.0))[:, 0]
    assert torch.equal(clip[:, -1], last)
    assert not torch.equal(clip[:, 4], last)
