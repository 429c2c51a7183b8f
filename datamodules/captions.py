"""Images of a folder with captions, from caption files or from the names of class folders.

A batch is `(images, tokens, lengths)`. Images are uint8 `(N, C, H, W)` in the dataloader, and float in [-1, 1] on the
device. Tokens are those of one caption of each image, int64 `(N, max_length)`, padded after their lengths `(N,)` int64.
In training, the key of an item chooses one of the image's captions. In evaluation it is the first caption.
"""

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from datamodules import text
from datamodules.base import Batch, BatchDataset, integer, split
from datamodules.caption_files import Captions, captions_of
from datamodules.files import ImageFiles, existing_folder, image_files
from datamodules.folder import ImageFolderDataModule
from datamodules.layout import split_folders, unused
from datamodules.order import Key, mix, shuffled
from datamodules.stored import StoredImages
from datamodules.text import Tokenizer
from datamodules.windows import warn_of_small

PARTS = ("training", "validation", "test")


class Part(NamedTuple):
    """A folder with paths and captions of its images, and the row indices `(N,)` of the images in a set."""

    root: Path
    paths: list[str]
    captions: Captions
    rows: Tensor

    def sentences(self) -> Iterator[str]:
        """Yield all captions of the set."""
        return (caption for row in self.rows.tolist() for caption in self.captions[row])


class Folder(NamedTuple):
    """The files of a folder, and tokens `(C, max_length)` and lengths `(C,)` of all captions, shared by its sets."""

    files: ImageFiles
    tokens: Tensor
    lengths: Tensor


class CaptionedImages(Dataset[Batch]):
    """Images and captions of a set.

    Args:
        images: Images of the set, whose labels are indices of files.
        captions: Captions of all files.
        tokens: Tokens `(C, max_length)` of all captions, concatenated.
        lengths: Lengths `(C,)` of all captions.
    """

    def __init__(self, images: StoredImages, captions: Captions, tokens: Tensor, lengths: Tensor) -> None:
        self.images, self.captions, self.tokens, self.lengths = images, captions, tokens, lengths
        self.counts = torch.tensor([len(some) for some in captions])
        self.starts = self.counts.cumsum(0) - self.counts

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Batch:
        """Return an image `(C, H, W)`, tokens `(max_length,)` of a caption and its length `()`."""
        image, tokens, length = self.__getitems__([key])
        return image[0], tokens[0], length[0]

    def __getitems__(self, keys: Sequence[Key]) -> Batch:
        """Return images `(N, C, H, W)`, tokens `(N, max_length)` and lengths `(N,)` of the keys."""
        # An unreadable file is replaced by another one, whose captions are used then.
        images, indices = self.images.__getitems__(keys)
        rows = self.starts[indices] + self._drawn(keys) % self.counts[indices]
        return images, self.tokens[rows].long(), self.lengths[rows].long()

    def caption(self, key: Key) -> str:
        """Return the caption of an item, whose file must be readable."""
        some = self.captions[int(self.images.rows[key if isinstance(key, int) else key[0]])]
        return some[int(self._drawn([key])) % len(some)]

    def _drawn(self, keys: Sequence[Key]) -> Tensor:
        return torch.tensor([0 if isinstance(key, int) else mix(key[1], 6) for key in keys])


class CaptionedDataModule(ImageFolderDataModule):
    """Images of a folder and their captions. For batches see the module's docstring.

    Captions can be in these files: `captions.json` (image to one or several captions); `captions.jsonl` (an image and a
    caption per line); a `.txt` file for each image (a caption per line); a file in COCO's layout. They can also be
    generated from the names of class folders.

    The folders `train`, `val` and `test` in the root are the three sets. Without them a random part of the images is
    used for validation and tests. The vocabulary is learned from the training captions. A warning counts the unknown
    words in other captions.

    Args:
        root: Folder of the images.
        captions: File of the captions (.json, also COCO's, or .jsonl); by default searched in the folders.
        templates: Captions for class folders, with {} for the name, such as `a photo of a {}`; no files are read then.
        tokenizer: words, bpe for subwords, or a file of a tokenizer; see `datamodules.text`.
        max_length: Maximum number of tokens of a caption; longer ones are truncated.
        vocabulary_size: Maximum size of a learned vocabulary.
        min_count: Minimum number of occurrences for a word to be learned.
        options: Arguments of `ImageFolderDataModule`. `flip` does not swap left and right in captions.
    """

    items = "images with captions"
    on_host = "captions are chosen on the CPU"

    def __init__(
        self,
        root: str | Path,
        captions: str | Path | None = None,
        templates: tuple[str, ...] | None = None,
        tokenizer: str = "words",
        max_length: int = 32,
        vocabulary_size: int = 10_000,
        min_count: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(root, **options)
        if self.whole:
            raise ValueError("val_fit is whole; expected window, crop, pad or stretch for images with captions")
        self.captions = None if captions is None else Path(captions).expanduser()
        self.templates = None if templates is None else checked(templates)
        if self.captions and self.templates:
            raise ValueError(f"captions is {captions} and templates {templates}; expected only one of them")
        if self.captions and not self.captions.is_file():
            raise FileNotFoundError(f"captions must be a file (.json or .jsonl), but {captions} is none.")
        self.max_length = integer("max_length", max_length, least=1)
        self.vocabulary_size = integer("vocabulary_size", vocabulary_size, least=3)
        self.min_count = integer("min_count", min_count, least=1)
        self._kind = tokenizer
        self._given = None if tokenizer in ("words", "bpe") else text.read(tokenizer)
        if tokenizer == "bpe":
            text.package()
        self._learned: Tokenizer | None = None
        self._found_parts: tuple[Part, Part, Part] | None = None

    @property
    def num_classes(self) -> int:
        """1, because captions describe the images."""
        return 1

    @property
    def classes(self) -> list[str]:
        """Empty, because captions describe the images."""
        return []

    @property
    def unclassed(self) -> str:  # type: ignore[override]
        """Empty, because captioned images need no classes."""
        return ""

    @property
    def left_out(self) -> Counter[str]:
        """Number of unused files by kind."""
        return unused([self.root], self._readers, (".txt", ".json", ".jsonl"))

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, learned from the captions of the training images unless it was given."""
        if self._given is not None:
            return self._given
        if self._learned is None:
            kind: text.Kind = "bpe" if self._kind == "bpe" else "words"
            self._learned = text.learn(self._parts()[0].sentences(), kind, self.vocabulary_size, self.min_count)
        return self._learned

    @property
    def vocabulary(self) -> text.Vocabulary:
        """The tokenizer as a plain value, from which `datamodules.text.tokenizer` restores it."""
        return self.tokenizer.vocabulary

    def splits(self) -> tuple[BatchDataset, BatchDataset, BatchDataset]:
        """Return the training, validation and test images with their captions.

        Raises:
            ValueError: Images have no caption or fewer channels, a caption has no word, no word of a set is known, or
                the cache does not fit into memory.
            OSError: No file is readable, or one is not and `on_error` is raise.
        """
        train, val, test = self._parts()
        folders = {root: self._folder(part) for root, part in {part.root: part for part in (train, val, test)}.items()}
        made = [self._set(part, folders[part.root], PARTS[i]) for i, part in enumerate((train, val))]
        return made[0], made[1], made[1] if test is val else self._set(test, folders[test.root], PARTS[2])

    def _parts(self) -> tuple[Part, Part, Part]:
        if self._found_parts is None:
            self._found_parts = self._look()
        return self._found_parts

    def _look(self) -> tuple[Part, Part, Part]:
        folders = split_folders(self.root)
        whole = {name: self._whole(folder) for name, folder in (folders or {"train": self.root}).items()}
        train = whole["train"]
        if len(whole) == 1:
            rows = split(len(train.paths), self._val_size(len(train.paths)), self.seed)
            kept = self._mixed(train._replace(rows=rows[1]))
            return train._replace(rows=rows[0]), kept, kept
        held = {name: self._mixed(part) for name, part in whole.items() if name != "train"}
        val = held.get("val") or held["test"]
        return train, val, held.get("test") or val

    def _mixed(self, part: Part) -> Part:
        """Return held-out images shuffled by the seed, because neighbours in class folders have the same caption."""
        return part._replace(rows=part.rows[shuffled(len(part.rows), self.seed)])

    def _whole(self, folder: Path) -> Part:
        """Return all images of a folder and their captions."""
        paths = sorted(image_files(existing_folder(folder)))
        if self.templates:
            found = named(folder, paths, self.templates)
        else:
            found = captions_of(self.root, folder, paths, self.captions)
        return Part(folder, paths, found, torch.arange(len(paths)))

    def _folder(self, part: Part) -> Folder:
        """Return the files of a folder and the tokens of all its captions. Warn about truncated captions."""
        files = ImageFiles(part.root, part.paths, self.target, self.on_error, shared=self.num_workers > 0)
        self._readers.append(files)
        files.check_channels()
        if self.cache:
            files.allocate()
        files.check_readable()
        if self.cutting:
            warn_of_small(files)
        before = self.tokenizer.cut
        tokens, lengths = self.tokenizer([caption for some in part.captions for caption in some], self.max_length)
        cut = self.tokenizer.cut - before
        if cut:
            longer = f"longer than max_length={self.max_length} tokens"
            warnings.warn(f"{cut} captions in {part.root} are {longer} and were cut", stacklevel=2)
        return Folder(files, tokens.int(), lengths.int())  # int32, because there may be a million captions

    def _set(self, part: Part, folder: Folder, name: str) -> CaptionedImages:
        """Return a set. Warn about unknown words.

        Raises:
            ValueError: No word is known.
        """
        sentences, known = list(part.sentences()), self.tokenizer
        unknown = Counter(word for caption in sentences for word in text.words(" ".join(known.unknown(caption))))
        count = sum(len(text.words(caption)) for caption in sentences)
        if sentences and unknown.total() == count:
            examples = f"such as {sentences[0]!r}; known are {text.some(known.known())}"
            raise ValueError(f"no word of the {name} captions is known, {examples}")
        if unknown:
            examples = text.some([word for word, _ in unknown.most_common()])
            warnings.warn(
                f"{unknown.total()} of the {count} words of the {name} captions are unknown: {examples}", stacklevel=2
            )
        images = self.shown(folder.files, torch.arange(len(part.paths)), part.rows, training=name == PARTS[0])
        assert isinstance(images, StoredImages)
        return CaptionedImages(images, part.captions, folder.tokens, folder.lengths)


def checked(templates: Sequence[str]) -> tuple[str, ...]:
    """Return the templates if each has exactly one {}.

    Raises:
        ValueError: One has not, or there are none.
    """
    wrong = [one for one in templates if not isinstance(one, str) or one.count("{}") != 1]
    if wrong or not templates or isinstance(templates, str):
        shown = wrong[0] if wrong and not isinstance(templates, str) else templates
        raise ValueError(f"templates contains {shown!r}; expected captions with one {{}} for the name of the class")
    return tuple(templates)


def named(folder: Path, paths: list[str], templates: Sequence[str]) -> Captions:
    """Return captions from the names of the images' class folders, with `_` as a space.

    Raises:
        ValueError: An image is not in a class folder.
    """
    flat = [path for path in paths if "/" not in path]
    if flat:
        raise ValueError(f"templates needs images in class folders, but {folder / flat[0]} is in none")
    made = {
        name: [template.replace("{}", name.replace("_", " ")) for template in templates]
        for name in {path.partition("/")[0] for path in paths}
    }
    return [made[path.partition("/")[0]] for path in paths]
