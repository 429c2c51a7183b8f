"""The step of the pix2pix and CycleGAN repository (github.com/junyanz/pytorch-CycleGAN-and-pix2pix, BSD licence).

Its own parser gives the options, and `optimize_parameters` is the step. Networks and losses are its defaults for
pix2pix and for CycleGAN.
"""

import contextlib
import importlib
import io
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from gans.benchmarks.peer import Match, Peer, project
from gans.models import CycleGAN, Pix2Pix

MARKER = "models/cycle_gan_model.py"


class Repository(Peer):
    """A model of the repository."""

    def __init__(self, model: Any, batch: tuple[Tensor, ...]) -> None:
        names = ("netG", "netD") if hasattr(model, "netG") else ("netG_A", "netG_B", "netD_A", "netD_B")
        super().__init__(batch[0].device, *(getattr(model, name) for name in names))
        self.model = model
        self.given = {"A": batch[0], "B": batch[1], "A_paths": [], "B_paths": []}

    def step(self) -> None:
        """Update both players."""
        self.model.set_input(self.given)
        self.model.optimize_parameters()


def pix2pix(full: bool) -> Pix2Pix:
    """Return our pix2pix, with BatchNorm as in the repository."""
    size, width = (256, 64) if full else (128, 16)
    return Pix2Pix(size=size, width=width, norm="batch")


def cyclegan(full: bool) -> CycleGAN:
    """Return our CycleGAN."""
    size, width, blocks = (256, 64, 9) if full else (64, 16, 6)
    return CycleGAN(size=size, width=width, blocks=blocks)


def repository(name: str, *flags: str) -> Any:
    """Return the function that builds the repository's side of `pix2pix` or `cycle_gan`."""

    def theirs(path: Path, model: Any, batch: tuple[Tensor, ...], precision: str) -> Repository:
        if precision != "32-true":
            raise ValueError(f"precision is {precision}; expected 32-true for pix2pix, which has no other")
        size, width = model.image_shape[1], model.hparams["width"]
        generator = {"pix2pix": f"unet_{size}", "cycle_gan": f"resnet_{model.hparams.get('blocks')}blocks"}[name]
        words = f"--dataroot . --model {name} --netG {generator} --ngf {width} --ndf {width} --gpu_ids -1"
        with (
            project(path, "pix2pix", "github.com/junyanz/pytorch-CycleGAN-and-pix2pix", MARKER),
            contextlib.redirect_stdout(io.StringIO()),
            arguments(*words.split(), *flags),
        ):
            parser = importlib.import_module("options.train_options").TrainOptions()
            options = parser.gather_options()
            options.isTrain = True
            # Of older versions of the repository, and of newer ones. The networks are moved afterwards.
            options.gpu_ids, options.device = [], torch.device("cpu")
            made = importlib.import_module("models").create_model(options)
        loss = getattr(made, "criterionGAN", None)
        made.device = batch[0].device
        if loss is not None:
            loss.to(made.device)
        return Repository(made, batch)

    return theirs


@contextlib.contextmanager
def arguments(*words: str) -> Any:
    """Context manager in which these are the words of the command line; the repository's parser reads them there."""
    before, sys.argv = sys.argv, ["train.py", *words]
    try:
        yield
    finally:
        sys.argv = before


MATCHES = {
    "pix2pix": Match(pix2pix, repository("pix2pix"), (4, 1)),
    "cyclegan": Match(cyclegan, repository("cycle_gan"), (1, 1)),
}
