"""Captions as text and as part of pictures: decoding of token ids, column headings and contact sheets."""

import json
import math
import textwrap
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from gans.pictures.images import grid, to_float

SMALLEST = 96  # minimum length of the shorter side of an image on a sheet, in pixels
LINE, MARGIN, CHARACTER = 13, 2, 6  # line height, margin and character width of the default font, in pixels
GAP = 2  # pixels between the images of a grid
LONGEST = 24  # maximum number of characters of a heading


def spelled(vocabulary: Sequence[str] | str, tokens: Tensor) -> str:
    """Return the text of token ids, without padding. Unknown words are shown as a question mark.

    Args:
        vocabulary: words in the order of their ids, starting from id 2, or a tokenizer's JSON.
        tokens: token ids `(T,)`.
    """
    if isinstance(vocabulary, str):
        pieces = json.loads(vocabulary)["model"]["vocab"]
        names = {number: piece for piece, number in pieces.items()} if isinstance(pieces, dict) else {}
        return " ".join(str(names.get(number, "?")) for number in tokens.tolist() if number)
    names = dict(enumerate(vocabulary, 2))
    return " ".join(names.get(number, "?") for number in tokens.tolist() if number)


def headed(picture: Tensor, names: Sequence[str]) -> Tensor:
    """Return a grid `(C, H, W)`, uint8, with a heading above each column, rotated by 90 degrees if too long.

    Args:
        picture: result of `gans.pictures.images.grid`, with as many columns as there are names.
        names: headings of the columns; an empty list returns the picture unchanged.
    """
    if not names:
        return picture
    across = (picture.shape[-1] - GAP) / len(names)
    shown = [name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}\u2026" for name in names]
    font = ImageFont.load_default(size=LINE - 2)
    lengths = [math.ceil(font.getlength(name)) for name in shown]
    turned = max(lengths) > across - 2 * MARGIN
    strip = Image.new("L", (picture.shape[-1], (max(lengths) if turned else LINE) + 2 * MARGIN), 255)
    for i, (name, length) in enumerate(zip(shown, lengths, strict=True)):
        text = Image.new("L", (length, LINE), 255)
        ImageDraw.Draw(text).text((0, 0), name, fill=0, font=font)
        text = text.rotate(90, expand=True) if turned else text
        left = round(GAP + i * across + (across - GAP - text.width) / 2)
        strip.paste(text, (left, strip.height - MARGIN - text.height))
    above = pil_to_tensor(strip).expand(min(3, len(picture)), -1, -1)
    if len(picture) == 4:
        above = torch.cat([above, torch.full_like(above[:1], 255)])
    return torch.cat([above, picture], 1)


def contact_sheet(images: Tensor, sentences: Sequence[str], each: int = 1) -> Tensor:
    """Return pictures `(K, 3, H, W)` in [-1, 1], each a row of `each` images with their caption below.

    Args:
        images: `(K * each, C, h, w)` in [-1, 1]; small ones are enlarged by repeating pixels.
        sentences: K captions.
        each: number of images per caption.
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
