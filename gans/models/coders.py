"""Frozen autoencoders for models that play on codes: from a checkpoint, or from a description without a file."""

from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from gans.checks import article
from gans.engine.checkpoint import class_path, load_model, model_class
from gans.models.autoencoder import CodeModel
from gans.networks import kl
from gans.networks.coder import Coder
from gans.networks.layers import Size, widened


class GridCoder(Coder):
    """The averaged encoder and decoder of an autoencoder whose codes are grids, between images and whitened codes.

    Args:
        model: a `CodeModel` with grids, such as a `GridAutoencoder`, whose networks are taken.

    Raises:
        ValueError: if the model's codes are no grids.
    """

    mean: Tensor
    factors: Tensor
    inverse: Tensor
    derived = ("factors", "inverse")

    def __init__(self, model: CodeModel) -> None:
        shape = tuple(getattr(model, "code_shape", ()))
        if len(shape) != 3:
            raise ValueError(f"codes of {article(type(model))} are flat; expected a GridAutoencoder")
        super().__init__(cast(Any, model.image_shape), cast(Any, shape))
        parts: Any = model.generator_ema
        self.encoder, self.decoder = parts.encoder, parts.decoder
        # Constant matrices in place of the model's moments: no decomposition in a step, nor in an exported graph.
        factor = parts.codes.factor
        identity = torch.eye(len(factor)).to(factor)
        self.register_buffer("mean", parts.codes.mean.clone()[:, None])
        self.register_buffer("factors", factor)
        self.register_buffer("inverse", torch.linalg.solve_triangular(factor, identity, upper=False))
        self._description = {"model": class_path(type(model)), "arguments": model.own_arguments()}
        self.eval().requires_grad_(False)

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return whitened codes `(N, c, h, w)` of images `(N, C, H, W)` in [-1, 1]."""
        codes = widened(self.encoder(images))[:, : self.code_shape[0]]  # without log-variances
        with torch.autocast(codes.device.type, enabled=False):
            white: Tensor = self.inverse.to(codes) @ (codes.flatten(2) - self.mean.to(codes))
        return white.view_as(codes)

    def decode(self, codes: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` in [-1, 1] of whitened codes `(N, c, h, w)`, which may have another h and w."""
        wide = widened(codes)
        with torch.autocast(codes.device.type, enabled=False):
            raw = self.mean.to(wide) + self.factors.to(wide) @ wide.flatten(2)
        first = next(self.decoder.parameters())
        images: Tensor = widened(self.decoder(raw.view_as(wide).to(first)))
        return images

    def description(self) -> dict[str, Any]:
        """Return the class of the autoencoder and its arguments."""
        return dict(self._description)


def load_coder(path: str | Path, size: Size | None = None) -> Coder:
    """Return a frozen autoencoder on the CPU.

    Args:
        path: checkpoint of a `GridAutoencoder`, or of a model that plays on the codes of one; or a folder, or a name
            on the Hub, of an `AutoencoderKL` of `diffusers`.
        size: image side, or (height, width), of an `AutoencoderKL`; None takes that of its configuration. Others have
            a size of their own.

    Raises:
        ValueError: if there is no such autoencoder, or `size` does not fit it.
    """
    if Path(path).expanduser().is_dir() or kl.on_hub(path):
        return kl.load(path, size)
    try:
        with torch.random.fork_rng(devices=[]):  # the first weights of a model are random
            model: Any = load_model(Path(path).expanduser())
        if isinstance(held := getattr(model, "coder", None), Coder):
            return held
        if isinstance(model, CodeModel):
            return GridCoder(model).sealed()
    except ValueError as error:
        told, name = str(error), Path(path).expanduser()  # the sentence may name the file again
        if told.startswith(f"{name} "):
            raise ValueError(f"autoencoder is {path}, which {told.removeprefix(f'{name} ')}") from error
        raise ValueError(f"autoencoder is {path}: {told.replace(f' {name}', '', 1)}") from error
    raise ValueError(f"autoencoder is {path}, which holds {article(type(model))}; expected a GridAutoencoder")


def coder_of(description: dict[str, Any]) -> Coder:
    """Return a coder with the networks that `Coder.description` describes, whose weights are not loaded.

    Raises:
        ValueError: if the description names no autoencoder of `gans.models`, or one that has not been imported.
    """
    if description.get("model") == kl.NAME:
        return kl.AutoencoderKL(**description["arguments"])
    kind = model_class(str(description.get("model")), "the autoencoder's description")
    with torch.random.fork_rng(devices=[]):
        return GridCoder(cast(CodeModel, kind(**description["arguments"])))
