"""Variational autoencoder, Kingma and Welling 2013 (arXiv 1312.6114), with common variants of its loss.

beta-VAE: Higgins et al. 2017 (ICLR). Capacity: Burgess et al. 2018 (arXiv 1804.03599). Free bits: Kingma et al. 2016
(arXiv 1606.04934). Optimal sigma: Rybkin et al. 2020 (arXiv 2006.13202). Importance-weighted bound and active units:
Burda et al. 2015 (arXiv 1509.00519).
"""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least, positive
from gans.engine.curves import log_interval, log_means
from gans.engine.distributed import average, gather_rows
from gans.engine.interface import undisturbed
from gans.engine.module import AdversarialModule
from gans.engine.schedules import mix
from gans.networks.autoencoder import Decoder, Encoder, Network
from gans.networks.layers import Size, image_channels, image_size, widened
from gans.reconstruction import bernoulli, gaussian, gaussian_kl, optimal_variance

Pictures = dict[str, tuple[Tensor, int]]


class VAE(AdversarialModule):
    """An encoder and a decoder that maximise the evidence lower bound (ELBO) of the likelihood of images.

    There is one player and no adversary. The model uses the adversarial engine because its data order, noise and
    resuming are exact for any number of processes.

    `bernoulli` models binary pixels. With `binarise: threshold` pixels are 1 above 0, else -1. With `binarise: sample`
    a pixel is white with a probability equal to its brightness, drawn again for each batch (Salakhutdinov and Murray
    2008). Most published bounds use `sample`; bounds of thresholded pixels cannot be compared with them. Generated
    images are the probabilities.

    A test of `bernoulli` or `gaussian` also logs `test/elbo/negative_weighted`, the negative importance-weighted bound
    (Burda et al. 2015). It is at most the negative bound, and published likelihoods of test images are often this one.

    `gaussian` has a fixed standard deviation `sigma`. `optimal` uses the best sigma for each batch, so there is no
    weight to tune. For a Gaussian, `sigma` and `beta` have the same effect.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        latent_dim: length of a code.
        width: channels of the first convolution; perceptrons have one hidden layer of 4 x `width` units.
        network: architecture of encoder and decoder, `mlp` or `conv`.
        likelihood: distribution of images given a code.
        binarise: how `bernoulli` converts pixels to black or white: `threshold`, or `sample` in training and tests.
            Grids and codes of images always use thresholded pixels.
        sigma: standard deviation of `gaussian`, on the scale [-1, 1].
        beta: weight of the KL divergence.
        warmup_images: images seen until `beta` has risen from 0 to its value; `run` is the whole run.
        free_bits: nats per dimension, averaged over the batch, that have no cost.
        capacity: target of the KL divergence in nats, instead of a weight `beta`; 0 disables it.
        capacity_images: images seen until the capacity has risen from 0 to its value; `run` is the whole run.
        capacity_weight: weight of the distance between KL divergence and capacity.
        test_codes: codes of each image in the importance-weighted bound, k of the paper; 0 leaves the bound out.
        lr: learning rate of Adam for encoder and decoder.
        betas: Adam's decay rates.
        ema_halflife: half-life in images of the averaged decoder. It is 0 by default, because an averaged decoder does
            not fit the current encoder.
        engine: `gradient_clip`, `accumulate`, `ema_rampup`, `lr_decay_images` and `lr_hold_images` of
            `AdversarialModule`.
    """

    task = "images"  # the group of its recipes
    players: tuple[str, ...] = ("autoencoder",)
    generator: Decoder

    def __init__(
        self,
        size: Size = 28,
        channels: int = 1,
        latent_dim: int = 20,
        width: int = 64,
        network: Network = "mlp",
        likelihood: Literal["bernoulli", "gaussian", "optimal"] = "bernoulli",
        binarise: Literal["threshold", "sample"] = "threshold",
        sigma: float = 0.2,
        beta: float = 1.0,
        warmup_images: float | str = 0,
        free_bits: float = 0.0,
        capacity: float = 0.0,
        capacity_images: float | str = 0,
        capacity_weight: float = 1000.0,
        test_codes: int = 50,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        ema_halflife: float = 0,
        **engine: Any,
    ) -> None:
        super().__init__(
            latent_dim,
            "normal",
            critic_steps=1,
            ema_halflife=ema_halflife,
            augment=None,
            augment_options=None,
            instance_noise=0.0,
            instance_noise_images=0,
            **engine,
        )
        self.check_options()
        self.add_spans(warmup_images=warmup_images, capacity_images=capacity_images)
        # These losses are not linear in the batch, so every process and piece needs values of the whole batch.
        self.joint = likelihood == "optimal" or free_bits > 0 or capacity > 0
        self.image_shape = (image_channels(channels), *image_size(size))
        self.encoder = Encoder(size, channels, width, 2 * latent_dim, network)
        self.generator = Decoder(latent_dim, size, channels, width, network)
        self.average_generator()

    def check_options(self) -> None:
        """Check the values of options and their combinations.

        Raises:
            ValueError: if one is not valid.
        """
        given = self.hparams
        names = ("beta", "free_bits", "capacity", "capacity_weight", "test_codes")
        at_least(0, **{name: given[name] for name in names})
        if given["likelihood"] not in ("bernoulli", "gaussian", "optimal"):
            raise ValueError(f"likelihood is {given['likelihood']}; expected bernoulli, gaussian or optimal")
        if given["binarise"] not in ("threshold", "sample"):
            raise ValueError(f"binarise is {given['binarise']}; expected threshold or sample")
        if given["binarise"] == "sample" and given["likelihood"] != "bernoulli":
            raise ValueError(f"binarise is sample and likelihood {given['likelihood']}; expected bernoulli")
        positive(sigma=given["sigma"], lr=given["lr"])
        if len(given["betas"]) != 2 or not all(0 <= beta < 1 for beta in given["betas"]):
            raise ValueError(f"betas is {given['betas']}; expected two numbers from 0 to below 1")
        others = {name: given[name] for name, idle in (("free_bits", 0), ("beta", 1)) if given[name] != idle}
        if given["capacity"] and others:
            name, value = others.popitem()
            raise ValueError(f"capacity is {given['capacity']} and {name} {value}; expected only one of them")

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return one Adam for encoder and decoder."""
        both = nn.ModuleList([self.encoder, self.generator])
        return [self.adam(both, self.hparams["lr"], self.hparams["betas"])]

    # -- the bound ----------------------------------------------------------------------------------------------------

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Estimate the bound with one code per image, and update encoder and decoder."""
        [optimizer] = self.player_optimizers()
        images = self.observed(batch[0])
        noise = self.latent(len(images))
        self.record_active_units(images)
        ahead = self.look_ahead(images, noise) if self.joint and self.accumulate > 1 else None
        for real, epsilon in self.pieces(images, noise):
            kl, decoded = self.coded(real, epsilon)
            whole = self.of_whole(kl, decoded, real) if ahead is None else ahead
            reconstruction = self.reconstruction(decoded, real, whole[-1])
            if self.hparams["likelihood"] == "optimal":
                self.record("elbo/sigma", whole[-1].sqrt())
            loss = reconstruction + self.price(kl, whole[:-1])
            self.record("loss/autoencoder", loss)
            self.record("elbo/negative", reconstruction + kl.sum())  # the bound, without beta or capacity
            self.record("elbo/reconstruction", reconstruction)
            self.record("elbo/kl", kl.sum())
            self.descend(loss, optimizer)

    def observed(self, images: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` with randomly binarised pixels, -1 or 1, for `sample`; else the images."""
        if self.hparams["binarise"] != "sample":
            return images
        return (self.uniform(len(images), *images.shape[1:]) < (images + 1) / 2).to(images.dtype) * 2 - 1

    def data(self, images: Tensor) -> Tensor:
        """Return the images `(N, C, H, W)` for the likelihood, with binary pixels for `bernoulli`."""
        if self.hparams["likelihood"] != "bernoulli":
            return images
        return (images > 0).to(images.dtype) * 2 - 1

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean and log-variance of the codes of images `(N, C, H, W)`, `(N, latent_dim)` each."""
        mean, log_variance = widened(self.encoder(self.data(images))).chunk(2, dim=1)
        return mean, log_variance

    def coded(self, images: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the KL divergence of each dimension `(latent_dim,)`, and decoded images `(N, C, H, W)` before tanh.

        The codes are drawn with the given `noise` `(N, latent_dim)`.
        """
        mean, log_variance = self.encode(images)
        decoded = widened(self.generator.logits(mean + (log_variance / 2).exp() * noise))
        return gaussian_kl(mean, log_variance).mean(0), decoded

    def reconstruction(self, decoded: Tensor, images: Tensor, variance: Tensor) -> Tensor:
        """Return the negative log-likelihood of images in nats, a scalar. `variance` is used for `optimal` only."""
        data, likelihood = self.data(images), self.hparams["likelihood"]
        if likelihood == "bernoulli":
            return bernoulli(2 * decoded, (data + 1) / 2)
        return gaussian(decoded.tanh(), data, variance.sqrt() if likelihood == "optimal" else self.hparams["sigma"])

    def price(self, kl: Tensor, of_whole: Tensor) -> Tensor:
        """Return the loss of the codes, a scalar.

        `sum_d max(free_bits, KL_d)` and `|KL - capacity|` are piecewise linear. The values of the whole batch select
        the piece. So the mean over parts of the batch has the value and gradient of the whole batch.

        Args:
            kl: KL divergence of each dimension in this part of the batch, `(latent_dim,)`.
            of_whole: the same for the whole batch.
        """
        given, (beta, capacity) = self.hparams, self.weights()
        if given["capacity"]:
            self.record("elbo/capacity", kl.new_full((), capacity))
            weight: float = given["capacity_weight"]
            return weight * (of_whole.sum() - capacity).sign() * (kl.sum() - capacity)
        self.record("elbo/beta", kl.new_full((), beta))
        return beta * torch.where(of_whole >= given["free_bits"], kl, given["free_bits"]).sum()

    def weights(self) -> tuple[float, float]:
        """Return beta and the capacity at the current number of images."""
        given = self.hparams
        beta, capacity = (
            mix(0.0, given[name], self.gone(until)) if self.spans[until].amount else given[name]
            for name, until in (("beta", "warmup_images"), ("capacity", "capacity_images"))
        )
        return beta, capacity

    def of_whole(self, kl: Tensor, decoded: Tensor, images: Tensor) -> Tensor:
        """Return KL divergences and optimal variance of the global batch, `(latent_dim + 1,)`, without gradient."""
        best = self.hparams["likelihood"] == "optimal"
        variance = optimal_variance(decoded.tanh(), self.data(images)) if best else kl.new_zeros(())
        whole = torch.cat([kl.detach(), variance.view(1)])
        if self.joint and self.training and self._distributed():
            average([whole])
        return whole

    @torch.no_grad()
    def look_ahead(self, images: Tensor, noise: Tensor) -> Tensor:
        """Return `of_whole` for a batch that is processed in pieces, before the first piece."""
        pieces = zip(images.tensor_split(self.accumulate), noise.tensor_split(self.accumulate), strict=True)
        parts = [(len(real), self.of_whole(*self.coded(real, epsilon), real)) for real, epsilon in pieces if len(real)]
        return sum((count / len(images) * part for count, part in parts), torch.zeros_like(parts[0][1]))

    # -- curves -------------------------------------------------------------------------------------------------------

    def record_active_units(self, images: Tensor) -> None:
        """Record the active units of the global batch at the steps that are logged."""
        if (self.trainer.global_step + 1) % log_interval(self.trainer) == 0:
            with undisturbed(self.encoder, 0):
                codes, _ = self.encode(images)
            self.record("elbo/active_units", active_units(gather_rows(codes)))

    def validation_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the bound and its terms on held-out images. `optimal` uses the best sigma for each batch."""
        self.hold_out("val", batch)

    def test_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> None:
        """Log the same as `validation_step` on the test images, and the importance-weighted bound."""
        images = self.hold_out("test", batch)
        if self.hparams["test_codes"] and self.hparams["likelihood"] != "optimal":
            bound = self.weighted_bound(images, self.hparams["test_codes"])
            log_means(self, {"test/elbo/negative_weighted": -bound.mean()}, len(images))

    def hold_out(self, stage: str, batch: tuple[Tensor, ...]) -> Tensor:
        """Log the terms of the bound on a batch, and return its images `(N, C, H, W)` as the bound saw them."""
        images = self.observed(batch[0])
        kl, decoded = self.coded(images, self.latent(len(images)))
        reconstruction = self.reconstruction(decoded, images, self.of_whole(kl, decoded, images)[-1])
        values: dict[str, Tensor | float] = {
            f"{stage}/elbo/negative": reconstruction + kl.sum(),
            f"{stage}/elbo/reconstruction": reconstruction,
            f"{stage}/elbo/kl": kl.sum(),
            f"{stage}/elbo/active_units": active_units(self.encode(images)[0]).float(),
            "step": float(self.batches_seen),  # x axis of the curves
        }
        log_means(self, values, len(images))
        return images

    @torch.no_grad()
    def weighted_bound(self, images: Tensor, count: int) -> Tensor:
        """Return `log mean_k p(x|z_k) p(z_k) / q(z_k|x)`, `(N,)` in nats, with `count` codes `z_k` of each image.

        Its expectation rises with `count`, from the bound of training to the log-likelihood. Source: Burda et al. 2015
        (arXiv 1509.00519), equation 8. `images` are `(N, C, H, W)`; the likelihood is not `optimal`.
        """
        mean, log_variance = self.encode(images)
        likelihood = torch.vmap(self.reconstruction, in_dims=(0, 0, None))  # of each image as a batch of one
        weights = []
        for _ in range(count):
            noise = self.latent(len(images))
            z = mean + (log_variance / 2).exp() * noise
            decoded = widened(self.generator.logits(z))
            ratio = (noise.square() + log_variance - z.square()).sum(1) / 2  # log p(z) - log q(z|x)
            weights.append(ratio - likelihood(decoded[:, None], images[:, None], mean.new_ones(())))
        return torch.stack(weights).logsumexp(0) - math.log(count)

    # -- pictures -----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def reconstruct(self, images: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1], decoded from the means of the codes of `images`."""
        decoded: Tensor = self.generator(self.encode(images)[0])
        return decoded

    def pictures(self, batch: tuple[Tensor, ...]) -> Pictures:
        """Return the grids `reconstructions` and `traversal`, each with its number of columns."""
        images = self.data(batch[0])
        return {
            "reconstructions": reconstructions(images, self.reconstruct(images)),
            "traversal": traversal(self.generator, *self.encode(images)),
        }


def active_units(codes: Tensor, threshold: float = 0.01) -> Tensor:
    """Return the number of dimensions of mean codes `(N, latent_dim)` whose variance exceeds `threshold`."""
    return (codes.var(0, correction=0) > threshold).sum()


def reconstructions(images: Tensor, rebuilt: Tensor, columns: int = 8, rows: int = 4) -> tuple[Tensor, int]:
    """Return rows of images, each followed by a row of their reconstructions, and the number of columns."""
    columns = min(columns, len(images))
    count = min(rows, len(images) // columns) * columns
    pairs = zip(*(torch.split(part[:count].float(), columns) for part in (images, rebuilt)), strict=True)
    return torch.cat([row for pair in pairs for row in pair]), columns


def traversal(
    decoder: nn.Module, mean: Tensor, log_variance: Tensor, rows: int = 10, columns: int = 10
) -> tuple[Tensor, int]:
    """Return images of walks from -3 to 3 along single dimensions of a code, and the number of columns.

    The code is the mean of the first image. Each row is a walk along one of the dimensions with the largest KL
    divergence over all images, in descending order.

    Args:
        decoder: network from codes to images.
        mean: means of the codes, `(N, latent_dim)`.
        log_variance: log-variances of the codes, `(N, latent_dim)`.
        rows: number of dimensions.
        columns: number of images per walk.
    """
    most = gaussian_kl(mean, log_variance).mean(0).argsort(descending=True)[:rows]
    codes = mean[0].repeat(len(most), columns, 1)
    steps = torch.linspace(-3, 3, columns, dtype=mean.dtype, device=mean.device)
    for row, dimension in enumerate(most.tolist()):
        codes[row, :, dimension] = steps
    images: Tensor = decoder(codes.flatten(0, 1))
    return images, columns
