"""An extractor of clips that also sees single frames, with an extractor of images."""

from torch import Tensor

from gans.metrics.interface import Extractor, digest
from gans.metrics.sequences import STILLS, stills


class Framed(Extractor):
    """An extractor of clips, and the features of an extractor of images of four frames of each clip.

    Args:
        clips: extractor of clips.
        images: extractor of images.

    Raises:
        ValueError: if one of them is of the other kind.
    """

    def __init__(self, clips: Extractor, images: Extractor) -> None:
        for given, takes in ((clips, True), (images, False)):
            if given.clips != takes:
                what = ("clips", "images") if takes else ("images", "clips")
                raise ValueError(f"{given.name} is an extractor of {what[1]}; expected one of {what[0]} in its place")
        sha256 = digest({}, "framed", clips.sha256, images.sha256)
        resize = f"{clips.resize}; frames: {images.name}, {images.resize}"
        super().__init__(clips, clips.name, clips.num_features, clips.num_classes, sha256, resize, clips=True)
        self.images = images

    def extras(self, images: Tensor) -> dict[str, Tensor]:
        """Return the motion `(N,)` of uint8 clips and the features `(N, 4, D)` of four frames of each."""
        features = self.images(stills(images))[0].view(len(images), STILLS, self.images.num_features)
        return super().extras(images) | {"stills": features}
