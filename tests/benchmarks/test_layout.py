"""The benchmark of memory formats."""

import torch

from gans.benchmarks import main as benchmark
from gans.benchmarks.layout import formatted
from gans.benchmarks.models import build


def formats(model):
    kernels = [p for p in model.parameters() if p.ndim == 4 and min(p.shape) > 1]
    return {p.is_contiguous(memory_format=torch.channels_last) for p in kernels}


def test_all_weights_have_the_format_or_that_of_their_network():
    assert formats(formatted(build("pix2pix", 32, 3), "as they are")) == {False}
    assert formats(formatted(build("pix2pix", 32, 3), "channels_last")) == {True}
    assert formats(formatted(build("dcgan", 16, 1), "as they are")) == {True}
    assert formats(formatted(build("dcgan", 16, 1), "contiguous")) == {False}


def test_ratios_of_both_formats_are_printed(capsys):
    flags = "layout --models gan sequencegan --size 8 --channels 1 --batch_size 2 --rounds 2 --steps 1"
    assert benchmark.main(flags.split()) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert head.startswith("time over that of the networks as they are")
    assert [line.split()[0] for line in lines] == ["gan", "sequencegan"]
    assert all("contiguous" in line and "channels_last" in line for line in lines)
