"""Sentences beside their images: token numbers spelled out, and sheets of images with words under them."""

import json
import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gans.images import grid, to_float

SMALLEST = 96  # pixels that the shorter side of an image gets on a sheet
LINE, MARGIN, CHARACTER = 13, 2, 6  # pixels of the default font


def spelled(vocabulary: Sequence[str] | str, tokens: Tensor) -> str:
    """Return the words of token numbers `(T,)`, padding left out; what stands for an unknown word is a question mark.

    Args:
        vocabulary: words in the order of their numbers, which begin with 2, or a tokenizer's JSON.
        tokens: their numbers.
    """
    if isinstance(vocabulary, str):
        pieces = json.loads(vocabulary)["model"]["vocab"]
        names = {number: piece for piece, number in pieces.items()} if isinstance(pieces, dict) else {}
        return " ".join(str(names.get(number, "?")) for number in tokens.tolist() if number)
    names = dict(enumerate(vocabulary, 2))
    return " ".join(names.get(number, "?") for number in tokens.tolist() if number)


def contact_sheet(images: Tensor, sentences: Sequence[str], each: int = 1) -> Tensor:
    """Return pictures `(K, 3, H, W)` in [-1, 1]: `each` images beside each other, their sentence below them.

    Args:
        images: `(K * each, C, h, w)` in [-1, 1]; small ones are enlarged, pixel by pixel.
        sentences: K of them.
        each: images of a sentence.
    """
    enlarged = max(1, -(-SMALLEST // min(images.shape[-2:])))
    images = images.detach().float().cpu().repeat_interleave(enlarged, 2).repeat_interleave(enlarged, 3)
    rows = [grid(part[:, :3], columns=each) for part in torch.split(images, each)]
    height, width = rows[0].shape[1:]
    wrapped = [textwrap.wrap(sentence, max(8, (width - 2 * MARGIN) // CHARACTER)) for sentence in sentences]
    below = LINE * max(len(lines) for lines in wrapped) + 2 * MARGIN
    font = ImageFont.load_default(size=LINE - 2)
    pictures = []
    for row, lines in zip(rows, wrapped, strict=True):
        strip = Image.new("RGB", (width, below), "white")
        ImageDraw.Draw(strip).multiline_text((MARGIN, 0), "\n".join(lines), fill="black", font=font, spacing=1)
        pictures.append(torch.cat([row.expand(3, height, width), pil_to_tensor(strip)], 1))
    return to_float(torch.stack(pictures))
