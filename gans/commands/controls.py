"""Controls for a GAN on a manifold: simple samplers with the same decoder.

In Achlioptas et al. 2018 (arXiv 1707.02392) a mixture of Gaussians fitted to the codes beat their GAN. So scores of
such a GAN need these controls. The ceiling is the score of reconstructions of held-out images; no sampler with this
decoder is expected to exceed it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from gans.engine.draws import drawn_from
from gans.engine.interface import samples
from gans.latent import key
from gans.metrics.features import Features, extract, of_subject
from gans.metrics.interface import Extractor
from gans.metrics.rows import Labelled, chosen, stored
from gans.metrics.sampling import BLOCK, Samples
from gans.metrics.suite import Score
from gans.models.autoencoder import CodeModel, squares
from gans.networks.mixture import Mixture
from gans.pictures.images import to_float, to_uint8

CODES = 10_000  # training images that the mixtures are fitted to
COMPONENTS = 20  # of the mixture; a tenth as many images for each are enough for it
MODELLED = 64  # principal components of codes that the mixture models
LARGEST = 2048  # principal components of codes that are used
CYCLES = 1000  # samples whose cycle error is measured
SHOWN = ("fid", "precision", "recall", "density", "coverage", "cycle_error")


class Sampler(nn.Module):
    """Samples images whose codes are drawn from a mixture of Gaussians.

    The codes are written in their principal components, each with variance 1. The first `MODELLED` have the mixture,
    each Gaussian with a full covariance; the others are N(0, 1). So flat codes have a mixture in all dimensions, and
    one Gaussian has the covariance of all numbers of a grid. Of codes with more than `LARGEST` numbers only the first
    `LARGEST` components are used, and the rest of the variance of each number is independent of the others.

    Args:
        autoencoder: has `decode`, from codes to images.
        codes: `(N, *code_shape)`, to which the mixture is fitted.
        components: number of Gaussians.
    """

    def __init__(self, autoencoder: Any, codes: Tensor, components: int) -> None:
        super().__init__()
        self.autoencoder, self.shape = autoencoder, codes.shape[1:]
        flat = codes.flatten(1).double().cpu()
        self.mean = flat.mean(0)
        flat = flat - self.mean
        rest = flat.square().mean(0)
        if len(self.mean) > LARGEST:
            with drawn_from(0):
                _, values, axes = torch.pca_lowrank(flat, LARGEST, center=False)
            self.axes = axes * values / len(flat) ** 0.5
            self.rest = (rest - self.axes.square().sum(1)).clamp(min=0).sqrt()
        else:
            variances, axes = torch.linalg.eigh(flat.mT @ flat / len(flat))
            self.axes = (axes * variances.clamp(min=0).sqrt()).flip(1)
            self.rest = torch.zeros_like(rest)
        kept = min(MODELLED, self.axes.shape[1])
        self.mixture = Mixture(kept, components).double()
        lengths = self.axes[:, :kept].square().sum(0).clamp(min=1e-12)
        self.mixture.fit(flat @ self.axes[:, :kept] / lengths)

    def sample(self, n: int) -> Tensor:
        """Return `n` images `(n, C, H, W)`; the random numbers come from torch's global generator."""
        kept, white = self.mixture.first.shape[1], torch.randn(n, self.axes.shape[1], dtype=self.mean.dtype)
        white = torch.cat([self.mixture(white[:, :kept]), white[:, kept:]], 1)
        codes = self.mean + white @ self.axes.mT
        if bool(self.rest.any()):
            codes = codes + self.rest * torch.randn_like(codes)
        like = next(self.autoencoder.parameters())
        images: Tensor = self.autoencoder.decode(codes.view(n, *self.shape).to(like))
        return images


def autoencoder_of(model: Any) -> Any:
    """Return the autoencoder of a model, with `encode` and `decode`: itself, or the frozen one whose codes it makes.

    None if it has none.
    """
    return model if isinstance(model, CodeModel) else getattr(model, "coder", None)


def controls(
    model: Any,
    training: Any,
    held: Any,
    count: int,
    seed: int,
    network: Extractor,
    judge: Callable[[Features], dict[str, Score]],
) -> dict[str, dict[str, Score]]:
    """Return the scores of the ceiling and of the samplers, and the cycle errors, by name.

    Args:
        model: autoencoder, or a GAN on the codes of one. Its own row, `samples`, has the cycle error only.
        training: data set to whose codes the samplers are fitted.
        held: data set of held-out images, for the ceiling; None for no ceiling.
        count: samples of each.
        seed: of the samples.
        network: extractor of features.
        judge: scores of features.
    """
    autoencoder = autoencoder_of(model)
    found = {"samples": {"cycle_error": cycle(autoencoder, model, seed)}}
    if held is not None:
        rows = chosen(len(held), min(count, len(held)))
        found["ceiling"] = judge(extract(reconstructed(autoencoder, held, rows), network, model.device))
    rows = chosen(len(training), None)[:CODES]
    codes = torch.cat([autoencoder.encode(images) for images in floats(autoencoder, training, rows)])
    for name, components in (("gaussian", 1), ("mixture", max(1, min(COMPONENTS, len(codes) // 10)))):
        sampler = Sampler(autoencoder, codes, components)
        fake = of_subject(Samples(sampler), network, count, seed, device=model.device)
        found[name] = judge(fake) | {"cycle_error": cycle(autoencoder, sampler, seed)}
    return found


def floats(autoencoder: Any, dataset: Any, rows: list[int]) -> Iterator[Tensor]:
    """Yield images of a data set as floats on the device of an autoencoder."""
    like = next(autoencoder.parameters())
    for images, _ in stored(dataset, rows):
        yield to_float(images.to(like.device), like.dtype)


@torch.no_grad()
def rebuilt(autoencoder: Any, images: Tensor) -> Tensor:
    """Return the reconstructions of images `(N, C, H, W)` in [-1, 1]."""
    images = autoencoder.decode(autoencoder.encode(images))
    return images


def reconstructed(autoencoder: Any, dataset: Any, rows: list[int]) -> Iterator[Labelled]:
    """Yield an autoencoder's reconstructions of images of a data set, as uint8 `(n, C, H, W)`."""
    for images in floats(autoencoder, dataset, rows):
        yield to_uint8(rebuilt(autoencoder, images)), None


def cycle(autoencoder: Any, sampler: nn.Module, seed: int) -> Score:
    """Return the mean squared error of reconstructions of samples, in units of [-1, 1]."""
    blocks = [samples(sampler, BLOCK, key("evaluate", seed, block)) for block in range(CYCLES // BLOCK)]
    errors = torch.cat([squares(rebuilt(autoencoder, images), images) for images in blocks])
    return Score(float(errors.mean()), 0, len(errors))


def table(report: dict[str, Any]) -> str:
    """Return the scores of a model and of its controls in a report, as lines to print."""
    meaning = {
        "samples": f"the {report['generator']['model']}",
        "ceiling": "held-out images, encoded and decoded",
        "gaussian": "a Gaussian on the codes, decoded",
        "mixture": f"a mixture of {COMPONENTS} Gaussians on the codes, decoded",
    }
    found = report["on_the_manifold"]
    rows = {**found, "samples": report["metrics"] | found["samples"]}
    columns = [column for column in SHOWN if any(column in row for row in rows.values())]
    lines = [f"{'on this manifold':16}" + "".join(f" {column:>11}" for column in columns)]
    for row, scores in rows.items():
        cells = [f"{scores[column]['value']:.3g}" if column in scores else "-" for column in columns]
        lines.append(f"{row:16}" + "".join(f" {cell:>11}" for cell in cells) + f"  {meaning[row]}")
    return "\n".join(lines)
