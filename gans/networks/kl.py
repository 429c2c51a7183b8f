"""`AutoencoderKL` of Hugging Face's `diffusers` as a frozen coder of images: Rombach et al. 2022 (arXiv 2112.10752).

Stable Diffusion's autoencoder maps 256x256 images to codes `(4, 32, 32)`. The network is the library's own. Nothing is
downloaded for a local folder. A checkpoint that holds the coder works without the folder.
"""

import inspect
import json
import struct
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor, nn

from gans.checks import at_least
from gans.networks.coder import Coder
from gans.networks.layers import Size, image_size
from gans.pictures.tiles import tiled

NAME = "diffusers.AutoencoderKL"  # in descriptions of a coder
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}  # of safetensors' header
PIXELS = 2**20  # of the images that one pass of the network takes: this bounds its memory
Precision = Literal["auto", "bfloat16", "float32"]


class AutoencoderKL(Coder):
    """Images `(N, C, H, W)` in [-1, 1] to codes `(N, c, h, w)` and back, by a frozen network of `diffusers`.

    The codes have the scale and shift of the network's configuration: their standard deviation is about 1 on natural
    images. The encoder returns a Gaussian for each image. `encode` returns its mean, `stored` its mean and standard
    deviation, `drawn` a sample of it.

    Args:
        config: arguments of diffusers' `AutoencoderKL`.
        size: image side, or (height, width), in multiples of `factor`; None takes `sample_size` of the configuration.
        dtype: of the weights in a checkpoint; in memory they are float32 or more.
        precision: of the network. `auto` is bfloat16 on a GPU that computes in it, else float32.
        tile: maximum side in pixels of an image that is decoded in one pass. Larger ones are decoded in tiles.

    Raises:
        ValueError: if `diffusers` is not installed, or an argument is not valid.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        size: Size | None = None,
        dtype: str = "float32",
        precision: Precision = "auto",
        tile: int = 1024,
    ) -> None:
        if precision not in ("auto", "bfloat16", "float32"):
            raise ValueError(f"precision is {precision}; expected auto, bfloat16 or float32")
        if dtype not in DTYPES.values():
            raise ValueError(f"dtype is {dtype}; expected one of {', '.join(DTYPES.values())}")
        with torch.device("meta"):  # draws no numbers
            network = package().AutoencoderKL(**config)
        factor = 2 ** (len(network.config.block_out_channels) - 1)
        height, width = image_size(network.config.sample_size if size is None else size)
        if height % factor or width % factor:
            raise ValueError(f"size is {size}; expected multiples of {factor}, the factor of the autoencoder")
        images, codes = (int(network.config[name]) for name in ("in_channels", "latent_channels"))
        super().__init__((images, height, width), (codes, height // factor, width // factor))
        self.network: Any = network.to_empty(device="cpu").eval().requires_grad_(False)
        for parameter in self.network.parameters():
            nn.init.zeros_(parameter)
        given = self.network.config
        self.config = {name: plain(given[name]) for name in arguments(type(self.network))}
        self.precision, self.dtype, self.tile = precision, dtype, tile
        at_least(2 * factor, tile=tile)
        rows = given.latent_channels, 1, 1
        shift = given.latents_mean if given.latents_mean is not None else given.shift_factor or 0.0
        spread = given.latents_std if given.latents_std is not None else 1.0
        self.shift = torch.as_tensor(shift).expand(rows[0]).reshape(rows).tolist()
        self.scale = (given.scaling_factor / torch.as_tensor(spread)).expand(rows[0]).reshape(rows).tolist()
        self.register_state_dict_post_hook(in_own_dtype)  # type: ignore[no-untyped-call]

    @property
    def stored_shape(self) -> tuple[int, int, int]:
        """Shape (2c, h, w) of mean and standard deviation of a code."""
        return 2 * self.code_shape[0], *self.code_shape[1:]

    @torch.no_grad()
    def stored(self, images: Tensor) -> Tensor:
        """Return means and standard deviations `(N, 2c, h, w)` of the codes of images `(N, C, H, W)` in [-1, 1]."""
        found = []
        for part in torch.split(images, self.rows(images[0, 0].numel())):
            with self.computing(part.device):
                posterior = self.network.encode(self.taken(part)).latent_dist
            mean = (posterior.mean.to(images) - self.on(self.shift, images)) * self.on(self.scale, images)
            found.append(torch.cat([mean, posterior.std.to(images) * self.on(self.scale, images)], 1))
        return torch.cat(found)

    def encode(self, images: Tensor) -> Tensor:
        """Return the mean codes `(N, c, h, w)` of images `(N, C, H, W)` in [-1, 1]."""
        return self.stored(images).chunk(2, 1)[0]

    def drawn(self, stored: Tensor, noise: Tensor | None = None) -> Tensor:
        """Return codes `(N, c, h, w)` of `stored` `(N, 2c, h, w)`, drawn by N(0, 1) `noise`; their means without it."""
        mean, std = stored.chunk(2, 1)
        return mean if noise is None else mean + std * noise

    def decode(self, codes: Tensor) -> Tensor:
        """Return images `(N, C, H, W)`, about in [-1, 1], of codes `(N, c, h, w)` of any size; differentiable.

        Images with a side above `tile` are decoded in tiles that overlap by a quarter and are blended. They differ
        from those of one pass, because attention and GroupNorm see a tile in place of the whole image.
        """
        if torch.compiler.is_exporting() or torch.jit.is_tracing():  # type: ignore[attr-defined,no-untyped-call]
            return self.decoded(codes)
        if max(codes.shape[-2:]) * self.factor > self.tile:
            side = self.tile // self.factor
            return tiled(self.decoded, (codes,), side, side // 4, codes.device).to(codes)
        rows = self.rows(codes[0, 0].numel() * self.factor**2)
        return torch.cat([self.decoded(part) for part in torch.split(codes, rows)])

    def decoded(self, codes: Tensor) -> Tensor:
        """Return images `(N, C, H, W)` of codes `(N, c, h, w)` in one pass."""
        raw = codes / self.on(self.scale, codes) + self.on(self.shift, codes)
        with self.computing(codes.device):
            images: Tensor = self.network.decode(self.taken(raw)).sample
        return images.to(codes)

    def on(self, numbers: list[Any], like: Tensor) -> Tensor:
        """Return numbers of the channels `(c, 1, 1)` as a tensor on the device of another one."""
        return torch.tensor(numbers, dtype=like.dtype, device=like.device)

    def taken(self, values: Tensor) -> Tensor:
        """Return images or codes in the dtype of the weights."""
        return values.to(self.network.dtype)

    def rows(self, pixels: int) -> int:
        """Return how many images of so many pixels one pass takes."""
        return max(1, PIXELS // pixels)

    def computing(self, device: torch.device) -> AbstractContextManager[Any]:
        """Return the context manager in which the network computes in `precision` on a device."""
        if torch.compiler.is_exporting():
            return nullcontext()
        half = self.precision == "bfloat16"
        if self.precision == "auto":
            half = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(device.type, torch.bfloat16, enabled=half)

    # -- what a checkpoint holds --------------------------------------------------------------------------------------

    def identity(self) -> dict[str, Any]:
        """Return the configuration: the digest does not depend on the size of the images, nor on the precision."""
        return {"class": NAME, "config": self.config}

    def description(self) -> dict[str, Any]:
        """Return the name and the arguments of this class as plain values. A coder of these has zeros for weights."""
        names = {"dtype": self.dtype, "precision": self.precision, "tile": self.tile}
        return {"model": NAME, "arguments": {"config": self.config, "size": list(self.image_shape[1:]), **names}}


def in_own_dtype(coder: AutoencoderKL, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Convert the weights of a coder in a state dict to their own dtype."""
    for name in state:
        if name.startswith(f"{prefix}network."):
            state[name] = state[name].to(getattr(torch, coder.dtype))


def arguments(kind: type) -> list[str]:
    """Return the names of the arguments of a class of `diffusers`."""
    return list(inspect.signature(kind).parameters)


def plain(value: Any) -> Any:
    """Return a value of a configuration with lists in place of tuples, as JSON has it."""
    return [plain(part) for part in value] if isinstance(value, tuple | list) else value


def package() -> ModuleType:
    """Return `diffusers`.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import diffusers
    except ImportError as error:
        raise ValueError("AutoencoderKL needs the package diffusers: pip install 'lightning-gans[latents]'") from error
    module: ModuleType = diffusers
    return module


def folder_of(source: str | Path) -> Path | None:
    """Return the folder with the configuration of a network of `diffusers`: `source` or its `vae`; None without one."""
    path = Path(source).expanduser()
    return next((folder for folder in (path, path / "vae") if (folder / CONFIG).is_file()), None)


def on_hub(source: str | Path) -> bool:
    """Return whether `source` is no path here, but may be a name `user/name` on the Hub."""
    name, path = str(source), Path(source).expanduser()
    file = path.suffix in (".ckpt", ".pt", ".safetensors")
    return not (path.exists() or file) and name.count("/") == 1 and name[0] not in "./~"


def fetched(name: str) -> Path:
    """Return the folder in the Hub's cache with the autoencoder of a repository `user/name`.

    Raises:
        ValueError: if the Hub cannot be reached, or has no such repository.
    """
    files = [f"{folder}{file}" for folder in ("", "vae/") for file in (CONFIG, WEIGHTS)]
    told = f"expected a local folder with {CONFIG} and {WEIGHTS}"
    try:
        from huggingface_hub import snapshot_download  # which diffusers needs

        path = Path(snapshot_download(name, allow_patterns=files))
    except Exception as error:  # each layer has exceptions of its own
        why = f"there is no such folder, and the Hub does not give it ({type(error).__name__})"
        raise ValueError(f"autoencoder is {name}: {why}; {told}") from error
    return path


def load(source: str | Path, size: Size | None = None, precision: Precision = "auto") -> AutoencoderKL:
    """Return the coder of a local folder, of the `vae` in a folder of Stable Diffusion, or of a name on the Hub.

    Args:
        source: folder with `config.json` and `diffusion_pytorch_model.safetensors`, or `user/name` on the Hub.
        size: image side, or (height, width); None takes that of the configuration.
        precision: of the network, see `AutoencoderKL`.

    Raises:
        ValueError: if `diffusers` is not installed, there is no such autoencoder, or the Hub cannot be reached.
    """
    kind = package().AutoencoderKL
    folder = folder_of(fetched(str(source)) if on_hub(source) else source)
    if folder is None or not (folder / WEIGHTS).is_file():
        raise ValueError(f"autoencoder is {source}; expected a folder with {CONFIG} and {WEIGHTS}")
    try:
        told = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        if told.get("_class_name") != kind.__name__:
            raise TypeError(f"{CONFIG} names the class {told.get('_class_name')}; expected {kind.__name__}")
        with torch.random.fork_rng(devices=[]):  # its first weights are random
            held = kind.from_pretrained(folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False)
        config = {name: held.config[name] for name in arguments(kind)}
        coder = AutoencoderKL(config, size, dtype_of(folder / WEIGHTS), precision)
    except Exception as error:  # the package raises many kinds
        why = " ".join(str(error).split())
        raise ValueError(f"autoencoder is {source}, which cannot be used: {why}") from error
    coder.network.load_state_dict(held.state_dict())
    coder.sealed()
    return coder


def dtype_of(path: Path) -> str:
    """Return the name of the dtype of most tensors in a safetensors file, read from its header."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    found = [entry["dtype"] for name, entry in header.items() if name != "__metadata__"]
    return DTYPES[max(set(found), key=found.count)]
