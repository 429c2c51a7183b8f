"""A look at the latent space of a generator at the end of its run: pictures, and points in TensorBoard."""

from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from PIL import Image
from torch import Tensor
from torch.nn.functional import pad
from torchvision.transforms.functional import pil_to_tensor

from gans.callbacks.loggers import show_picture
from gans.checks import at_least
from gans.engine.interface import class_names, classes, translates, undisturbed
from gans.explore.generators import AT_ONCE, images
from gans.explore.pca import pca, pca_of_styles
from gans.explore.spaces import Space, space_of, usual_space
from gans.explore.walks import along
from gans.metrics.extractors import extractor
from gans.metrics.sampling import latents
from gans.pictures.images import in_channels, save_grid, to_uint8
from gans.pictures.plot import save_plot
from gans.runs.folder import rehearsal, run_folder

DIRECTIONS, STEPS = 8, 9  # rows and columns of the traversal


class Explore(L.Callback):
    """Shows the latent space of a generator at the end of its run. Off by default, because `samples` is 0.

    TensorBoard's projector gets the samples as points with their images, by latents and by features. Principal
    components of the generator's first hidden layer give `images/pca`, their shares of the variance, and
    `images/traversal`, walks along the first ones. Both are also files in `explore/` of the run.

    Of a style model (see `gans.engine.interface`), W is shown instead: its points and its principal components.

    For modules with `latent_dim`, `prior` and `conditions`, such as `gans.engine.module.AdversarialModule`.

    Args:
        samples: points of the projector, 100 or more; 0 shows nothing.
        features: `mnist` or a classifier's file, whose features of the samples the projector shows too.
        seed: of the samples.
    """

    def __init__(self, samples: int = 0, features: str | None = None, seed: int = 0) -> None:
        if samples:
            at_least(100, samples=samples)
        self.samples, self.seed = samples, seed
        self.extractor = None if features is None else extractor(features)

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Check before training that the module has latents.

        Raises:
            ValueError: if it is a translator.
        """
        if self.samples and translates(pl_module):
            kind = type(pl_module).__name__
            raise ValueError(f"samples is {self.samples}; expected 0, for {kind} translates and has no latents")

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Show the samples."""
        if not self.samples or not trainer.is_global_zero or rehearsal(trainer):
            return
        with undisturbed(pl_module, self.seed):
            self.show(trainer, pl_module)

    def show(self, trainer: L.Trainer, module: Any) -> None:
        """Write points to TensorBoard, and images to the loggers and the folder of the run."""
        step, folder = trainer.global_step, run_folder(trainer) / "explore"
        z = latents(module, range(self.samples), self.seed).to(module.device)
        count = classes(module)
        space = space_of(module, usual_space(module, moved=True))
        rows = torch.cat([space.from_latents(part) for part in torch.split(z, AT_ONCE)])
        made = images(space, rows).clamp(-1, 1).cpu()
        # `images` draws blocks, and within each block classes take turns.
        names = class_names(module)
        labels = [names[i % AT_ONCE % count] for i in range(len(z))] if count else None
        points = {"latents" if space.name == "latent" else space.name: space.stored(rows).float().cpu()}
        if self.extractor is not None and not self.extractor.clips:
            seen = self.extractor.to(module.device)
            points[self.extractor.name] = torch.cat(
                [seen(part)[0].cpu() for part in torch.split(to_uint8(made), AT_ONCE)]
            )
        pictures = [] if clips(module) else self.components(space, rows, folder)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                for name, rows in points.items():
                    logger.experiment.add_embedding(rows, labels, sprites(made), step, name)
        for path in pictures:
            with Image.open(path) as picture:
                show_picture(trainer, f"images/{path.stem}", pil_to_tensor(picture), step)
        print(f"explored     {folder if pictures else run_folder(trainer)}")

    def components(self, space: Space, points: Tensor, folder: Path) -> list[Path]:
        """Write the shares of the principal components and walks along the first ones. Return the two files."""
        network, count = space.at(0 if classes(space.model) else None, None), min(points.shape[1], 32)
        vectors, shares = pca_of_styles(points, count) if space.layers else pca(network, points, count)
        name = space.name if space.layers else "first hidden layer"
        curve = {name: (list(range(1, len(shares) + 1)), shares.tolist())}
        spectrum = save_plot(curve, folder / "pca.png", "principal component", "share of the variance")
        far = 1.0 if space.uniform else 3.0
        rows = along(points[0], vectors[:DIRECTIONS], torch.linspace(-far, far, STEPS))
        walks = images(network, rows).clamp(-1, 1)
        return [spectrum, save_grid(walks, folder / "traversal.png", STEPS)]


def clips(module: Any) -> bool:
    """Return whether a module makes clips."""
    return len(getattr(module, "image_shape", None) or ()) == 4


def sprites(made: Tensor) -> Tensor:
    """Return images `(N, C, H, W)` in [-1, 1] as sprites of the projector: square, `(N, 3, S, S)` in [0, 1]."""
    height, width = made.shape[-2:]
    side = max(height, width)
    left, top = (side - width) // 2, (side - height) // 2
    square = pad(in_channels(made, 3), (left, side - width - left, top, side - height - top), value=-1.0)
    return (square + 1) / 2
