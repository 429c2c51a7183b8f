"""The language of degradations: a line of text to a tree of steps.

    blur 0.2..3, downscale 4 bicubic, noise 0..25, jpeg 40..95

is a chain of four steps, in this order. A range draws a uniform value for each image. A single number is constant. Only
steps that resize or rotate the image change its alpha channel.

    blur S                  Gaussian blur with standard deviation S in pixels. More words make other kernels:
      oval                  two deviations of the range and a random angle
      generalised P         exp(-r^2P / 2) instead of exp(-r^2 / 2): pointed below P = 1, flat above
      plateau P             1 / (1 + r^2P)
      size K                in a window of K pixels a side, an odd number
    sinc F size K           ringing low-pass filter, F times the Nyquist frequency
    downscale N [KERNEL]    N times smaller; the kernel is bicubic, bilinear, box or nearest
    enlarge [KERNEL]        resize to the size of the clean image
    resize F [KERNEL]       resize by the factor F; area, bilinear, bicubic or any of these, not antialiased
    resize F [KERNEL] of 1/N    resize to F times an N-th of the clean image
    noise S [grey]          Gaussian noise with standard deviation S on the scale 0..255; grey: alike in all channels
    poisson N               shot noise with N photons at white
    shot F [grey]           F times the shot noise of 256 photons at white, fewer in images of few values
    jpeg Q                  JPEG compression of quality Q, 1 to 100
    dark F                  low light: F times the light (F at most 1), before gamma
    grey                    no colour; the number of channels stays the same
    invert                  the negative
    edges S                 a drawing of black lines on white, the edges after a Gaussian blur, see `datamodules.edges`
    rotate D                rotated counterclockwise by D degrees, padded with black
    tint                    multiplied by a random colour; for three channels
    mask KIND               a hole: rectangle, brush, irregular, one of these (mixed), rectangle and brush together
                            (freeform), or centre; without other steps

Steps are put together by these words:

    A, B                    A, then B
    maybe 0.8 A             A for 80 % of the images; `maybe 0.8 A or B` is maybe one of them
    A or B                  one of them; `3 A or 1 B` has odds of 3 to 1
    shuffle (A, B)          both, in random order
    (A, B)                  one step, for `maybe`, `or` and `shuffle`
    real N                  the chain of Real-ESRGAN, N times smaller, 4 by default; see `datamodules.presets`
"""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from datamodules import masks
from datamodules.presets import PRESETS, preset

Range: TypeAlias = tuple[float, float]

KERNELS = ("bicubic", "bilinear", "box", "nearest")
WHOLE = ("downscale", "jpeg")  # steps whose values are integers
JOINING = ("maybe", "or", "shuffle")
NUMBER = r"(\d+\.?\d*|\.\d+)"
TOKENS = re.compile(r"[(),]|[^\s(),]+")
EXCERPT = 40  # characters of the text that an error shows on each side of the wrong word
DEEPEST = 20  # levels of brackets


class Step(NamedTuple):
    """One degradation.

    Attributes:
        name: Name of the step.
        low: Minimum of its value.
        high: Maximum of its value.
        word: Kernel, kind of mask or other single word.
        more: Ranges behind its other words.
    """

    name: str
    low: float
    high: float
    word: str
    more: dict[str, Range]


class Chained(NamedTuple):
    """Parts in the order of the text."""

    parts: tuple["Node", ...]


class Shuffled(NamedTuple):
    """Parts in random order."""

    parts: tuple["Node", ...]


class Choice(NamedTuple):
    """One of the parts, with these odds."""

    parts: tuple["Node", ...]
    odds: tuple[float, ...]


Node: TypeAlias = Step | Chained | Shuffled | Choice


class Limits(NamedTuple):
    """Arguments of a step.

    Attributes:
        values: Range of its value, or None without a value.
        words: Possible words.
        usual: The word by default, or None if one must be given.
        more: Words with a number, and the range of the number.
        needed: Words of `more` that must be given.
    """

    values: Range | None
    words: tuple[str, ...] = ()
    usual: str | None = ""
    more: Mapping[str, Range] = MappingProxyType({})
    needed: tuple[str, ...] = ()


KNOWN = {
    "blur": Limits((0, 100), ("oval",), more={"generalised": (0.1, 10), "plateau": (0.1, 10), "size": (1, 101)}),
    "downscale": Limits((1, 64), KERNELS, "bicubic"),
    "enlarge": Limits(None, KERNELS, "bicubic"),
    "noise": Limits((0, 255), ("grey",)),
    "poisson": Limits((1, 1e6)),
    "jpeg": Limits((1, 100)),
    "dark": Limits((1e-3, 1)),
    "grey": Limits(None),
    "invert": Limits(None),
    "edges": Limits((0, 100)),
    "rotate": Limits((0, 360)),
    "tint": Limits(None),
    "sinc": Limits((0.01, 1), more={"size": (1, 101)}, needed=("size",)),
    "resize": Limits((0.01, 8), ("area", "bilinear", "bicubic", "any"), "bicubic", more={"of": (1, 64)}),
    "shot": Limits((0, 100), ("grey",)),
    "mask": Limits(None, tuple(masks.KINDS), None),
}


def parsed(text: str) -> Chained:
    """Return the tree of a text.

    Raises:
        ValueError: A word is wrong; the message shows it between > and <.
    """
    reader = Reader(text)
    tree = reader.chain()
    if reader.word:
        raise reader.error(f"degrade has {reader.word} at the end of a step; expected a comma before the next one")
    return tree


class Reader:
    """Reads a text word by word, by recursive descent.

    Args:
        text: The text.
    """

    def __init__(self, text: str) -> None:
        self.text = re.sub(r"\s", " ", text)
        self.tokens = [(found[0], found.start()) for found in TOKENS.finditer(self.text)]
        self.place = self.depth = 0

    @property
    def word(self) -> str:
        """The word at hand, empty at the end."""
        return self.tokens[self.place][0] if self.place < len(self.tokens) else ""

    def taken(self) -> str:
        """Return the word at hand, and go on to the next one."""
        self.place += 1
        return self.tokens[self.place - 1][0]

    def error(self, message: str, place: int | None = None) -> ValueError:
        """Return an error that marks a word of the text, by default the word at hand."""
        place = self.place if place is None else place
        word, start = self.tokens[place] if place < len(self.tokens) else ("", len(self.text.rstrip()))
        end = start + len(word)
        before, after = self.text[:start].lstrip(), self.text[end:].rstrip()
        before = before if len(before) <= EXCERPT else f"...{before[-EXCERPT:]}"
        after = after if len(after) <= EXCERPT else f"{after[:EXCERPT]}..."
        return ValueError(f"{message}; see {before}>{word}<{after}")

    # -- how steps are put together ------------------------------------------------------------------------------------

    def chain(self) -> Chained:
        """Read parts with commas between them."""
        parts = [self.part()]
        while self.word == ",":
            self.taken()
            parts.append(self.part())
        return Chained(tuple(parts))

    def bracketed(self) -> Chained:
        """Read a chain in brackets."""
        opened = self.place
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"degrade has brackets within brackets; expected at most {DEEPEST} levels")
        self.taken()
        chain = self.chain()
        self.depth -= 1
        if self.word != ")":
            message = "degrade has a bracket without an end; expected )"
            raise self.error(message, opened) if not self.word else self.error(message)
        self.taken()
        return chain

    def part(self) -> Node:
        """Read a step, a choice of steps, or one that some images have."""
        if self.word == "maybe":
            self.taken()
            share = self.number("maybe", (0, 1))
            return Choice((self.part(), Chained(())), (share, 1 - share))
        first = self.place
        odds, parts = [self.odds()], [self.single()]
        while self.word == "or":
            self.taken()
            odds.append(self.odds())
            parts.append(self.single())
        if odds == [None]:
            return parts[0]
        known = [share for share in odds if share is not None]
        if len(known) not in (0, len(odds)) or (known and not sum(known)) or len(odds) == 1:
            expected = "odds before each step, as in 3 A or 1 B, or before none"
            raise self.error(f"degrade has odds; expected {expected}", first)
        return Choice(tuple(parts), tuple(known or [1.0] * len(parts)))

    def odds(self) -> float | None:
        """Read a number before a step, or None."""
        if not re.fullmatch(NUMBER, self.word):
            return None
        return float(self.taken())

    def single(self) -> Node:
        """Read a step, a shuffle, a bracket or a preset."""
        if self.word == "(":
            return self.bracketed()
        if self.word == "shuffle":
            self.taken()
            if self.word != "(":
                raise self.error("degrade has shuffle; expected steps in brackets after it, as in shuffle (A, B)")
            return Shuffled(self.bracketed().parts)
        if self.word in PRESETS:
            name = self.taken()
            scale = self.number(name, (1, 64), whole=True) if re.fullmatch(NUMBER, self.word) else 4
            return parsed(preset(name, int(scale)))
        return self.step()

    # -- one step ------------------------------------------------------------------------------------------------------

    def step(self) -> Step:
        """Read a step with its value and its words."""
        first = self.place
        name = self.word
        if name == "maybe":
            raise self.error("degrade has maybe in a choice; expected it in brackets, as in A or (maybe 0.5 B)")
        if name not in KNOWN:
            wrong = "nothing" if name in ("", ",", ")", "or") else name
            expected = f"steps of {', '.join((*KNOWN, *PRESETS))}, with commas"
            raise self.error(f"degrade names {wrong}; expected {expected}")
        self.taken()
        limits, low, high, word, more = KNOWN[name], 0.0, 0.0, "", {}
        if limits.values:
            low, high = self.range(first, limits.values)
            if name in WHOLE and (low % 1 or high % 1):
                raise self.wrong(first, f"whole numbers for {name}", self.place - 1)
        while self.word not in ("", ",", "(", ")", "or"):
            if self.word in limits.words and not word:
                word = self.taken()
            elif self.word in limits.more and self.word not in more:
                option = self.word
                more[option] = self.option(first)
            else:
                raise self.wrong(first, f"{self.after(limits)} after {name}")
        if self.word == "(":
            raise self.error(f"degrade has a bracket after {name}; expected a comma before it")
        if not word and limits.usual is None:
            raise self.wrong(first, f"{self.after(limits)} after {name}")
        if missing := [needed for needed in limits.needed if needed not in more]:
            raise self.wrong(first, f"{missing[0]} and a number after {name}")
        if {"generalised", "plateau"} <= more.keys():
            raise self.wrong(first, "generalised or plateau, not both", first)
        return Step(name, low, high, word or limits.usual or "", more)

    def option(self, first: int) -> Range:
        """Read a word with a number or a range."""
        word = self.taken()
        low, high = KNOWN[self.tokens[first][0]].more[word]
        if word == "of":
            found = re.fullmatch(r"1(?:/(\d+))?", self.word)
            if found is None or not low <= int(found[1] or 1) <= high:
                raise self.wrong(first, "a part of the clean image such as 1/4 after of")
            self.taken()
            return float(found[1] or 1), float(found[1] or 1)
        given = self.range(first, (low, high))
        if word == "size" and any(end % 2 != 1 for end in given):
            raise self.wrong(first, "odd numbers for size", self.place - 1)
        return given

    def range(self, first: int, limits: Range) -> Range:
        """Read a number or a range of a step that begins at the word `first`."""
        least, most = limits
        found = re.fullmatch(rf"{NUMBER}(?:\.\.{NUMBER})?", self.word)
        if found is None or not least <= float(found[1]) <= float(found[2] or found[1]) <= most:
            raise self.wrong(first, f"a number or a range as 1..2 within {least:g}..{most:g}")
        self.taken()
        return float(found[1]), float(found[2] or found[1])

    def number(self, name: str, limits: Range, whole: bool = False) -> float:
        """Read a number behind a word that is no step."""
        least, most = limits
        found = re.fullmatch(r"\d+" if whole else NUMBER, self.word)
        if found is None or not least <= float(self.word) <= most:
            kind = "a whole number" if whole else "a number"
            raise self.error(f"degrade has {name}; expected {kind} within {least:g}..{most:g} after it")
        return float(self.taken())

    def after(self, limits: Limits) -> str:
        """Return what may follow a step, in words."""
        words = [*limits.words, *limits.more]
        if not words:
            return "nothing"
        return f"one of {', '.join(words)}" if len(words) > 1 else f"{words[0]} or nothing"

    def wrong(self, first: int, expected: str, place: int | None = None) -> ValueError:
        """Return an error about the step that begins at the word `first`."""
        last = self.place
        while last < len(self.tokens) and self.tokens[last][0] not in (",", "(", ")", "or"):
            last += 1
        end = self.tokens[last - 1][1] + len(self.tokens[last - 1][0])
        step = self.text[self.tokens[first][1] : end]
        return self.error(f"degrade is {step}; expected {expected}", place)
