"""Weights of AdaIN, Huang and Belongie 2017 (arXiv 1703.06868), as naoto0804/pytorch-AdaIN has them.

`decoder.pth` holds the decoder. The encoder, `vgg_normalised.pth`, is no part of a checkpoint: `features` of the model
names its file, from which every load of the checkpoint reads it.
"""

from typing import Any

from gans.models.styletransfer import StyleTransfer
from gans.published.files import File, tensors
from gans.published.maps import Found, Made, Network, dimension, plain
from gans.reconstruction import is_normalised

PLACES = (1, 5, 8, 11, 14, 18, 21, 25, 28)  # of the decoder's convolutions, in both networks


def holds(content: Any) -> bool:
    """Return whether a file holds the decoder."""
    held = tensors(content)
    return f"{PLACES[-1]}.weight" in held and "1.weight" in held and "0.weight" not in held


def convert(main: File, encoder: File | None) -> Found:
    """Return the model of a decoder.

    Args:
        main: the decoder's file.
        encoder: the file of the normalised VGG19.

    Raises:
        ValueError: if there is no encoder, or it is another network.
    """
    held, file = tensors(main.content), str(main.path)
    if encoder is None:
        raise ValueError(f"{file} is a decoder of an encoder's maps: --encoder names vgg_normalised.pth")
    if not is_normalised(encoder.content):
        raise ValueError(f"{encoder.path} is no VGG19 that begins with a layer of colours; expected vgg_normalised.pth")
    last = f"{PLACES[-1]}.weight"
    arguments = {
        "channels": dimension(held, last, 0, file),
        "width": dimension(held, last, 1, file),
        "features": str(encoder.path.absolute()),
        "decoder": "mirrored",
        "depth": 4,
    }
    names: dict[str, str | Made] = {}
    for place in PLACES:
        names |= plain(f"layers.{place}", str(place))
    return Found(StyleTransfer, arguments, {"generator": Network(held, names, file)})
