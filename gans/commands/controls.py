"""Controls for a GAN on a manifold: simple samplers with the same decoder.

In Achlioptas et al. 2018 (arXiv 1707.02392) a mixture of Gaussians fitted to the codes beat their GAN. So scores of
such a GAN need these controls. The ceiling is the score of reconstructions of held-out images; no sampler with this
decoder is expected to exceed it.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from sklearn.mixture import GaussianMixture
from torch import Tensor, nn

from gans.engine.interface import samples
from gans.latent import key
from gans.metrics.features import Features, extract, of_subject
from gans.metrics.interface import Extractor
from gans.metrics.rows import Labelled, chosen, stored
from gans.metrics.sampling import BLOCK, Samples
from gans.metrics.suite import Score
from gans.models.autoencoder import CodeModel, cycle_error
from gans.pictures.images import to_float, to_uint8

CODES = 10_000  # training images that the mixtures are fitted to
COMPONENTS = 20  # of the mixture; a tenth as many images for each are enough for it
CYCLES = 1000  # samples whose cycle error is measured
SHOWN = ("fid", "precision", "recall", "density", "coverage", "cycle_error")


class Mixture(nn.Module):
    """Samples images whose codes are drawn from a mixture of Gaussians.

    Args:
        model: autoencoder that decodes them.
        codes: `(N, latent_dim)`, to which the mixture is fitted.
        components: number of Gaussians, each with its own covariance.
    """

    def __init__(self, model: CodeModel, codes: Tensor, components: int) -> None:
        super().__init__()
        self.model = model
        fitted = GaussianMixture(components, random_state=0).fit(codes.double().cpu().numpy())
        parts = (fitted.weights_, fitted.means_, fitted.covariances_)
        self.weights, self.means, covariances = (torch.from_numpy(part) for part in parts)
        self.factors = torch.linalg.cholesky(covariances)

    def sample(self, n: int) -> Tensor:
        """Return `n` images `(n, C, H, W)`; the random numbers come from torch's global generator."""
        which = torch.multinomial(self.weights, n, replacement=True)
        white = torch.randn(n, self.means.shape[1], 1, dtype=self.means.dtype)
        codes = self.means[which] + (self.factors[which] @ white).squeeze(2)
        return self.model.decode(codes.to(self.model.device, next(self.model.parameters()).dtype))


def controls(
    model: CodeModel,
    training: Any,
    held: Any,
    count: int,
    seed: int,
    network: Extractor,
    judge: Callable[[Features], dict[str, Score]],
) -> dict[str, dict[str, Score]]:
    """Return the scores of the ceiling and of the samplers, and the cycle errors, by name.

    Args:
        model: autoencoder, or a GAN on one. Its own row, `samples`, has the cycle error only.
        training: data set to whose codes the samplers are fitted.
        held: data set of held-out images, for the ceiling; None for no ceiling.
        count: samples of each.
        seed: of the samples.
        network: extractor of features.
        judge: scores of features.
    """
    found = {"samples": {"cycle_error": cycle(model, model, seed)}}
    if held is not None:
        rows = chosen(len(held), min(count, len(held)))
        found["ceiling"] = judge(extract(reconstructed(model, held, rows), network, model.device))
    codes = torch.cat([model.encode(images) for images in floats(model, training, chosen(len(training), None)[:CODES])])
    for name, components in (("gaussian", 1), ("mixture", max(1, min(COMPONENTS, len(codes) // 10)))):
        sampler = Mixture(model, codes, components)
        fake = of_subject(Samples(sampler), network, count, seed, device=model.device)
        found[name] = judge(fake) | {"cycle_error": cycle(model, sampler, seed)}
    return found


def floats(model: CodeModel, dataset: Any, rows: list[int]) -> Iterator[Tensor]:
    """Yield images of a data set as floats on the device of the model."""
    for images, _ in stored(dataset, rows):
        yield to_float(images.to(model.device), next(model.parameters()).dtype)


def reconstructed(model: CodeModel, dataset: Any, rows: list[int]) -> Iterator[Labelled]:
    """Yield the model's reconstructions of images of a data set, as uint8 `(n, C, H, W)`."""
    for images in floats(model, dataset, rows):
        yield to_uint8(model.reconstruct(images)), None


def cycle(model: CodeModel, sampler: nn.Module, seed: int) -> Score:
    """Return the mean squared error of reconstructions of samples, in units of [-1, 1]."""
    blocks = [samples(sampler, BLOCK, key("evaluate", seed, block)) for block in range(CYCLES // BLOCK)]
    errors = torch.cat([cycle_error(model, images) for images in blocks])
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
