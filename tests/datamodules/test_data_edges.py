"""Canny's edges: thin, connected, where the image has steps."""

import pytest
import torch

from datamodules.degrade import Chain
from datamodules.edges import connected, edges
from datamodules.steps import luma


def disc(size=48, radius=12.0):
    """A bright disc on a dark ground, `(3, size, size)`, with a border of a pixel."""
    place = torch.arange(size) - (size - 1) / 2
    distance = (place[:, None].square() + place.square()).sqrt()
    return (radius + 0.5 - distance).clamp(0, 1).expand(3, -1, -1) * 0.8 + 0.1, distance


def test_the_edge_of_a_disc_is_a_thin_closed_line():
    image, distance = disc()
    drawing = edges(image[:1], 1.0)
    assert drawing.shape == (1, 48, 48)
    assert drawing.unique().tolist() == [0, 1]  # black on white
    line = drawing[0] == 0
    assert (distance[line] - 12.5).abs().max() < 1.5
    assert 60 < int(line.sum()) < 110  # the circumference is 79 pixels
    start = torch.zeros_like(line)
    start.view(-1)[line.flatten().nonzero()[0]] = True
    assert torch.equal(connected(line, start), line)
    inside, centre = ~line, torch.zeros_like(line)
    centre[24, 24] = True
    grown = centre
    for _ in range(48):  # across sides only: a line that is closed across corners holds it
        grown = grown | (inside & (grown.roll(1, 0) | grown.roll(-1, 0) | grown.roll(1, 1) | grown.roll(-1, 1)))
    assert not grown[0, 0]


def test_weak_edges_count_only_where_they_continue_strong_ones():
    ramp = torch.linspace(0, 0.6, 40)[:, None].expand(40, 20)
    step = torch.cat([torch.zeros(40, 20), ramp], 1)[None]  # a step from 0 on top to .6 below
    drawing = edges(step, 1.0)[0] == 0
    assert drawing[38, 19:21].any()
    weak = 0.06 / 0.6 * 40  # rows whose slope is too weak for a line
    assert not drawing[: int(weak), 18:22].any()
    assert not (edges(0.4 * step, 1.0) == 0).any()  # nowhere strong


@pytest.mark.parametrize("shape", [(1, 5, 9), (1, 1, 1), (1, 2, 7)])
def test_small_and_plain_images_have_no_edges(shape):
    assert edges(torch.full(shape, 0.3), 3.0).min() == 1


def test_edges_are_a_step_of_degradations():
    image = (disc()[0] * 255).round().to(torch.uint8)
    chain = Chain("edges 1", (48, 48), 3)
    drawing = chain(image, 0)
    assert torch.equal(drawing, (edges(luma(image.float() / 255), 1.0) * 255).to(torch.uint8).expand(3, -1, -1))
    with_alpha = torch.cat([image, image[:1]])
    assert torch.equal(Chain("edges 1", (48, 48), 4)(with_alpha, 0), torch.cat([drawing, image[:1]]))
