"""Lightning callbacks: compilation, image grids, checks of training, scores, latent directions, records, signals.

`ImageGrid`, `Health` and `Explore` work with any LightningModule that has `sample(n)` or translates images, see
`gans.engine.interface`. `Evaluate` also needs data.
"""

from gans.callbacks.compile import Compile
from gans.callbacks.evaluate import Evaluate
from gans.callbacks.explore import Explore
from gans.callbacks.grid import ImageGrid
from gans.callbacks.health import DivergedError, Health
from gans.callbacks.recorder import Recorder

__all__ = ["Compile", "DivergedError", "Evaluate", "Explore", "Health", "ImageGrid", "Recorder"]
