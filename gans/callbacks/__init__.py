"""What watches a run: pictures, health, scores, directions, progress, checkpoints after a signal.

`ImageGrid`, `Health` and `Explore` need a LightningModule with `sample(n)`, or one that translates, see
`gans.engine.interface`; `Evaluate` needs data to compare with besides. None of them knows a model of this project.
"""

from gans.callbacks.evaluate import Evaluate
from gans.callbacks.explore import Explore
from gans.callbacks.grid import ImageGrid
from gans.callbacks.health import DivergedError, Health

__all__ = ["DivergedError", "Evaluate", "Explore", "Health", "ImageGrid"]
