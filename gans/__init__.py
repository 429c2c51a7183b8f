"""Lightning GANs: adversarial training for PyTorch Lightning.

Import from the file that defines a name (`from gans.losses import Hinge`): this package re-exports nothing, so that
importing one part imports nothing else. `gans.models` alone collects the models, for short names on the command line.
"""

__version__ = "0.1.0"
