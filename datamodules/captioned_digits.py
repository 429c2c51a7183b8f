"""Handwritten digits in different colours, sizes and positions, with captions: text-to-image data without a download.

Ten of the eighty pairs of digit and colour never occur in training. They test whether a model generalises to new
combinations of words.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from string import Formatter
from typing import Literal, TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import Dataset

from datamodules import text
from datamodules.base import (
    Batch,
    BatchDataset,
    ImageDataModule,
    ImageTensors,
    Size,
    integer,
    one_of,
    quiet_about_workers,
    split,
)
from datamodules.digits import DigitsDataModule, enlarge
from datamodules.mnist import MNISTDataModule
from datamodules.order import Key, mix
from datamodules.text import Tokenizer

Source: TypeAlias = Literal["digits", "mnist"]
Variable: TypeAlias = Literal["size", "position", "background"]
Pairs: TypeAlias = Literal["seen", "half", "all"]

VARIABLE: tuple[Variable, ...] = ("size", "position", "background")
ATTRIBUTES = ("digit", "colour", "size", "position", "background", "held_out")
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
COLOURS = {
    "red": (225, 30, 30),
    "orange": (255, 140, 0),
    "yellow": (250, 225, 30),
    "green": (30, 160, 50),
    "cyan": (40, 215, 225),
    "blue": (40, 70, 240),
    "purple": (165, 60, 215),
    "pink": (255, 130, 195),
}
SIZES = ("small", "large")
POSITIONS = ("left", "right", "top", "bottom", "middle")
BACKGROUNDS = {"black": (0, 0, 0), "white": (255, 255, 255), "grey": (120, 120, 120), "navy": (10, 20, 90)}
CLEAR = 165  # minimum distance in RGB between the colours of digit and background

# Every template names digit and colour; `digit` is a word, `number` the figure.
TEMPLATES = (
    "a {colour} {digit}",
    "the digit {number} in {colour}",
    "a {size} {colour} {digit}",
    "a {size} {colour} {digit} on {background}",
    "a {colour} {digit} at the {position}",
    "a {size} {colour} {number} at the {position}",
    "the number {digit}, painted {colour} on {background}",
    "a {digit} in {colour} on a {background} background",
    "{background} background, {colour} {digit}",
    "at the {position}, a {colour} {number} on {background}",
    "a {size} {digit} at the {position}, {colour} on {background}",
    "the digit {number} in {colour}, {size}, at the {position}, on a {background} background",
)
# The colour of each digit that does not occur in training. Two colours occur twice, the others once.
HELD_OUT = tuple(3 * digit % len(COLOURS) for digit in range(len(DIGITS)))

MARGIN = 2  # pixels that are cropped from each side of MNIST's 28, where there is almost never any ink
SHARES = (0.42, 0.70)  # size of small and large digits as a share of the shorter side
SMALLEST = 16
WANDER = 1  # maximum random shift of a digit, in pixels at a size of 32
VAL_SIZES = {"digits": 197, "mnist": 5000}


def sentence(template: int, attributes: Sequence[int]) -> str:
    """Return the sentence of a template for attributes in the order of `ATTRIBUTES`."""
    digit, colour, size, position, background, *_ = attributes
    return TEMPLATES[template].format(
        digit=DIGITS[digit],
        number=digit,
        colour=list(COLOURS)[colour],
        size=SIZES[size],
        position=POSITIONS[position],
        background=list(BACKGROUNDS)[background],
    )


@cache
def sentences() -> tuple[str, ...]:
    """Return all possible sentences."""
    counts = {
        "digit": 10,
        "colour": len(COLOURS),
        "size": 2,
        "position": len(POSITIONS),
        "background": len(BACKGROUNDS),
    }
    found = []
    for number, template in enumerate(TEMPLATES):
        named = {"digit" if name == "number" else name for _, name, _, _ in Formatter().parse(template) if name}
        ranges = [torch.arange(count if name in named else 1) for name, count in counts.items()]
        found += [sentence(number, row) for row in torch.cartesian_prod(*ranges).tolist()]
    return tuple(found)


def mentioned() -> Tensor:
    """Return which attributes each template mentions, `(templates, 6)` bool. `held_out` is always true."""
    rows = []
    for template in TEMPLATES:
        named = {"digit" if name == "number" else name for _, name, _, _ in Formatter().parse(template) if name}
        rows.append([name in named or name == "held_out" for name in ATTRIBUTES])
    return torch.tensor(rows)


def clear() -> Tensor:
    """Return for each colour which backgrounds have enough contrast, `(8, 4)` bool."""
    colours, backgrounds = (torch.tensor([*table.values()]).float() for table in (COLOURS, BACKGROUNDS))
    return torch.cdist(colours, backgrounds) >= CLEAR


class CaptionedDigits(Dataset[Batch]):
    """Images and captions that are generated on access.

    Item i shows digit i. Its other attributes and its caption are a function of the key in training, and of the seed
    and i in evaluation.

    Args:
        digits: Grey digits `(N, 1, S, S)` in the large size, and their labels.
        small: The same digits in the small size.
        size: Height and width of the images.
        seed: Seed of the images in evaluation.
        tokenizer: Tokenizer of the captions.
        max_length: Maximum number of tokens of a caption.
        pairs: Pairs of digit and colour: `seen` in training, `half` seen and half held out, or `all`.
        vary: Attributes that vary besides digit and colour.
    """

    def __init__(
        self,
        digits: ImageTensors,
        small: Tensor,
        size: tuple[int, int],
        seed: int,
        tokenizer: Tokenizer,
        max_length: int,
        pairs: Pairs,
        vary: Sequence[str],
    ) -> None:
        self.labels, self.size, self.seed = digits.labels, size, seed
        self.sprites = small[:, 0], digits.images[:, 0]
        self.tokenizer, self.max_length, self.pairs = tokenizer, max_length, pairs
        self.wrong = alternate(self.labels) if pairs == "half" else torch.zeros(len(self.labels), dtype=torch.bool)
        self.held = torch.tensor(HELD_OUT)
        self.colours, self.backgrounds = (torch.tensor([*table.values()]) for table in (COLOURS, BACKGROUNDS))
        allowed = clear()
        self.choices = allowed.sum(1)
        self.allowed = allowed.int().argsort(dim=1, descending=True, stable=True)  # backgrounds with contrast first
        self.mentioned, self.vary = mentioned(), vary
        constant = [ATTRIBUTES.index(name) for name in VARIABLE if name not in vary]
        # Templates that mention no constant attribute.
        self.templates = (~self.mentioned[:, constant].any(1)).nonzero().squeeze(1)
        self._tokens: dict[str, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(3, H, W)`, tokens `(max_length,)`, their number without padding, and attributes `(6,)`."""
        image, tokens, length, attributes = self.__getitems__([key])
        return image[0], tokens[0], length[0], attributes[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return images `(N, 3, H, W)`, tokens `(N, max_length)`, lengths `(N,)` and mentioned attributes `(N, 6)`."""
        rows, attributes, template, wander = self.drawn(keys)
        captions = [sentence(*item) for item in zip(template.tolist(), attributes.tolist(), strict=True)]
        said = torch.where(self.mentioned[template], attributes, -1)
        return self._pictures(rows, attributes, wander), *self._numbers(captions), said

    def caption(self, key: Key) -> str:
        """Return the caption of an item."""
        _, attributes, template, _ = self.drawn([key])
        return sentence(int(template), attributes[0].tolist())

    def drawn(self, keys: Sequence[Key]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return rows `(N,)`, attributes `(N, 6)`, templates `(N,)` and shifts `(N, 2)` from -1 to 1."""
        rows = torch.tensor([key if isinstance(key, int) else key[0] for key in keys])
        word = torch.tensor([mix(self.seed, key) if isinstance(key, int) else mix(key[1], 5) for key in keys])
        digit, wrong = self.labels[rows], self.wrong[rows]
        left_out = self.held[digit]

        def draw(count: Tensor | int) -> Tensor:
            # The word is a number in mixed radix; its 63 bits are far more than all draws use.
            nonlocal word
            count = torch.as_tensor(count)
            found, word = word % count, word // count
            return found

        if self.pairs == "all":
            colour = draw(len(COLOURS))
        else:
            other = draw(len(COLOURS) - 1)
            colour = torch.where(wrong, left_out, other + (other >= left_out))
        background = self.allowed[colour, draw(self.choices[colour]) * int("background" in self.vary)]
        size, position, template = draw(len(SIZES)), draw(len(POSITIONS)), self.templates[draw(len(self.templates))]
        if "size" not in self.vary:
            size = torch.full_like(size, SIZES.index("large"))
        if "position" not in self.vary:
            position = torch.full_like(position, POSITIONS.index("middle"))
        wander = torch.stack([draw(3), draw(3)], 1) - 1
        attributes = torch.stack([digit, colour, size, position, background, (colour == left_out).long()], 1)
        return rows, attributes, template, wander

    def _pictures(self, rows: Tensor, attributes: Tensor, wander: Tensor) -> Tensor:
        _, colour, size, position, background, _ = attributes.unbind(1)
        shapes = torch.zeros(len(rows), *self.size, dtype=torch.int32)
        for number, sprites in enumerate(self.sprites):
            here = size == number
            shapes[here] = self._placed(sprites[rows[here]], position[here], wander[here]).int()
        front, back = (
            table[of, :, None, None].int() for table, of in ((self.colours, colour), (self.backgrounds, background))
        )
        mixed = back * 255 + (front - back) * shapes[:, None]
        return ((mixed + 127) // 255).to(torch.uint8)

    def _placed(self, sprites: Tensor, position: Tensor, wander: Tensor) -> Tensor:
        """Return masks `(N, H, W)` of 0 to 255 with digits `(N, S, S)` at their positions."""
        room = torch.tensor(self.size) - sprites.shape[-1]
        most = max(1, round(WANDER * min(self.size) / 32))
        corner = room // 2 + most * wander  # down, across
        far = room - most
        edges = (("top", 0, most), ("bottom", 0, far[0]), ("left", 1, most), ("right", 1, far[1]))
        for name, axis, edge in edges:
            there = position == POSITIONS.index(name)
            corner[there, axis] = edge + most * wander[there, axis]
        down, across = room.tolist()
        # Each mask is a window into a larger, padded one with the digit in the centre, so that one gather suffices.
        windows = pad(sprites, (across, across, down, down)).unfold(1, self.size[0], 1).unfold(2, self.size[1], 1)
        return windows[torch.arange(len(sprites)), down - corner[:, 0], across - corner[:, 1]]

    def _numbers(self, captions: list[str]) -> tuple[Tensor, Tensor]:
        new = list(dict.fromkeys(caption for caption in captions if caption not in self._tokens))
        if new:  # cached, because there are only about ten thousand sentences
            self._tokens.update(zip(new, zip(*self.tokenizer(new, self.max_length), strict=True), strict=True))
        tokens, lengths = zip(*(self._tokens[caption] for caption in captions), strict=True)
        return torch.stack(tokens), torch.stack(lengths)


def alternate(labels: Tensor) -> Tensor:
    """Return for labels `(N,)` whether each is the second, fourth, ... of its class, `(N,)` bool."""
    found = torch.zeros(len(labels), dtype=torch.bool)
    for label in set(labels.tolist()):
        found[(labels == label).nonzero()[1::2]] = True
    return found


class CaptionedDigitsDataModule(ImageDataModule):
    """Captioned digits in 8 colours, 2 sizes and 5 positions, on 4 backgrounds.

    A batch is `(images, tokens, lengths, attributes)`. Images are uint8 `(N, 3, H, W)`, and floats in [-1, 1] on the
    device. Tokens are int64 `(N, max_length)`, padded after their lengths `(N,)`. Attributes `(N, 6)` are those that
    the caption mentions, in the order of `attributes`, and -1 for the others.

    Every caption names digit and colour. Training and validation have 70 of the 80 pairs. Half of the test images have
    the other ten pairs (`held_out` is 1). The sets share no digit image, except that the validation and test sets of
    scikit-learn's digits are the same.

    Args:
        source: digits for the 1,797 digits of scikit-learn, which need no download, or mnist.
        root: Folder that contains `MNIST/raw`; only for `source` mnist.
        size: Height and width of the images.
        channels: Must be 3; on the command line it sets the model's channels too.
        batch_size: Images per process and batch.
        val_size: Digits kept for validation, chosen by the seed; by default 197, or 5,000 for MNIST.
        max_length: Maximum number of tokens of a caption; longer ones are truncated.
        tokenizer: words, bpe for subwords, or a file of a tokenizer; see `datamodules.text`.
        held_out: Keep ten pairs of digit and colour for tests; false uses all pairs in all sets.
        vary: Attributes that vary besides digit and colour; the others are large, middle and black.
        seed: Seed of the split and of validation and test images and, with the run's seed, of the training images.
        num_workers: Processes that generate images; 0 is fast enough.
        infinite: Repeat the training images until an epoch has at least 100 batches.
    """

    num_classes = 1
    attributes = ATTRIBUTES

    def __init__(
        self,
        source: Source = "digits",
        root: str | Path = "data",
        size: Size = 32,
        channels: Literal[3] = 3,
        batch_size: int = 64,
        val_size: int | None = None,
        max_length: int = 16,
        tokenizer: str = "words",
        held_out: bool = True,
        vary: Sequence[Variable] = VARIABLE,
        seed: int = 0,
        num_workers: int = 0,
        infinite: bool = False,
    ) -> None:
        super().__init__(size, one_of("channels", channels, (3,)), batch_size, num_workers, seed, infinite)
        if min(self.size) < SMALLEST:
            raise ValueError(f"size must be at least {SMALLEST} for a small digit to be legible, got {self.size}.")
        self.source: Source = one_of("source", source, ("digits", "mnist"))
        self.val_size = VAL_SIZES[source] if val_size is None else integer("val_size", val_size, least=0)
        self.max_length = integer("max_length", max_length, least=1)
        self.tokenizer = _tokenizer(tokenizer)
        self.tokenizer.check_known([sentence(0, (0, 0, 0, 0, 0))])
        self._pairs: tuple[Pairs, Pairs, Pairs] = ("seen", "seen", "half") if held_out else ("all", "all", "all")
        self.vary = tuple(one_of("vary", name, VARIABLE) for name in vary)
        self._mnist = MNISTDataModule(root, val_size=0) if source == "mnist" else None
        quiet_about_workers()

    @property
    def vocabulary(self) -> text.Vocabulary:
        """The tokenizer as a plain value, from which `datamodules.text.tokenizer` restores it."""
        return self.tokenizer.vocabulary

    def prepare_data(self) -> None:
        """Download MNIST, if it is the source and missing, in one process."""
        if self._mnist:
            self._mnist.prepare_data()

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the images of the training digits, of the digits kept for validation, and of the test digits."""
        digits, _, test = (self._mnist or DigitsDataModule(8, val_size=0)).splits()
        assert isinstance(digits, ImageTensors)
        assert isinstance(test, ImageTensors)
        rows = split(len(digits), self.val_size, self.seed)
        train, val = (ImageTensors(digits.images[some], digits.labels[some]) for some in rows)
        sets = train, val, test if len(test) else val
        first, second, third = (self._set(some, part) for part, some in enumerate(sets))
        return first, second, third

    def _set(self, digits: ImageTensors, part: int) -> CaptionedDigits:
        images = digits.images
        if self._mnist:
            images = images[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
        small, large = (round(share * min(self.size)) for share in SHARES)
        return CaptionedDigits(
            ImageTensors(_resized(images, large), digits.labels),
            _resized(images, small),
            self.size,
            mix(self.seed, part),
            self.tokenizer,
            self.max_length,
            self._pairs[part],
            self.vary,
        )


def _resized(images: Tensor, side: int) -> Tensor:
    return enlarge(images, (side, side)) if len(images) else images.new_zeros(0, 1, side, side)


def _tokenizer(kind: str) -> Tokenizer:
    if kind in ("words", "bpe"):
        return text.learn(sentences(), "words" if kind == "words" else "bpe", size=256)
    return text.read(kind)
