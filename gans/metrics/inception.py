"""InceptionV3, the network that published scores are computed with."""

import hashlib
from pathlib import Path

import torch

from gans.metrics.interface import Extractor

FILE = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{FILE}"


class Inception(Extractor):
    """InceptionV3 (Szegedy et al. 2015, arXiv 1512.00567): torch-fidelity's port of TensorFlow's network and resizing.

    Its logits give the inception score of Salimans et al. 2016 (arXiv 1606.03498), its features the FID of Heusel et
    al. 2017 (arXiv 1706.08500). Nothing is downloaded.

    Args:
        weights: file of the weights; None looks in torch.hub's cache.

    Raises:
        FileNotFoundError: if the file is missing.
        ValueError: if it holds other weights, or torch-fidelity is not installed.
    """

    def __init__(self, weights: str | Path | None = None) -> None:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / FILE
        path = cache if weights is None else Path(weights).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{path.name} is not in {path.parent}: put Inception's weights there, {URL}")
        try:
            from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
        except ImportError as error:
            raise ValueError('inception needs torch-fidelity: pip install "lightning-gans[inception]"') from error
        try:
            torch.load(path, weights_only=True, mmap=True)  # torch-fidelity would run what a file of another kind says
            with torch.random.fork_rng(devices=[]):  # weights are drawn before they are read
                network = FeatureExtractorInceptionV3("inception", ["2048", "logits_unbiased"], str(path))
        except Exception as error:  # unpickling what is no checkpoint raises almost anything
            raise ValueError(f"{path} does not hold Inception's weights ({type(error).__name__})") from error
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        super().__init__(network, "inception", 2048, 1008, sha256, "tf1 299", channels=3)
