"""Tokenizers for captions, with a vocabulary of words or of subwords (Sennrich et al. 2016, arXiv 1508.07909).

A tokenizer is restored from its `vocabulary`, a plain value. It is a tuple of words, or the JSON of Hugging Face's
`tokenizers.Tokenizer`, which needs the extra `text`. Tokens are int64 `(N, max_length)`, padded after their lengths
`(N,)`.
"""

import json
import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from datamodules.base import integer, one_of

Vocabulary: TypeAlias = tuple[str, ...] | str
Kind: TypeAlias = Literal["words", "bpe"]

PADDING, UNKNOWN = 0, 1
UNKNOWN_WORD = "[?]"  # result of `decode` for an unknown word
PAD_TOKEN, UNK_TOKEN = "[PAD]", "[UNK]"
NAMED = 20  # maximum number of words in an error message
CURLY = "\N{RIGHT SINGLE QUOTATION MARK}"


class Tokenizer(ABC):
    """Converts sentences to token ids. Its `len` is the number of ids.

    `cut` is the number of sentences so far that were truncated to `max_length`.
    """

    vocabulary: Vocabulary
    padding: int

    def __init__(self) -> None:
        self.cut = 0

    def __call__(self, sentences: Sequence[str], max_length: int) -> tuple[Tensor, Tensor]:
        """Return the tokens `(N, max_length)` and lengths `(N,)` of sentences, int64. Long sentences are truncated.

        Raises:
            ValueError: A sentence has no word.
        """
        integer("max_length", max_length, least=1)
        rows = self.numbers(sentences, max_length)
        if [] in rows:
            raise ValueError(f"the sentence {sentences[rows.index([])]!r} is empty; expected at least one word")
        lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
        filled = [row + [self.padding] * (max_length - len(row)) for row in rows]
        return torch.tensor(filled, dtype=torch.int64).view(-1, max_length), lengths

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def numbers(self, sentences: Sequence[str], max_length: int) -> list[list[int]]:
        """Return at most `max_length` ids for each sentence, and none for a sentence without words."""

    @abstractmethod
    def unknown(self, sentence: str) -> list[str]:
        """Return the words of a sentence that are not, or not completely, in the vocabulary."""

    @abstractmethod
    def known(self) -> list[str]:
        """Return the words or subwords in the vocabulary."""

    @abstractmethod
    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """Return the sentence of tokens `(L,)`, without padding."""

    def check_known(self, sentences: Iterable[str]) -> None:
        """Check that every sentence has at least one known word.

        Raises:
            ValueError: A sentence has none; the message names some known words.
        """
        for sentence in sentences:
            if words(sentence) and words(" ".join(self.unknown(sentence))) == words(sentence):
                raise ValueError(f"no word of {sentence!r} is known; known are {some(self.known())}")


class Words(Tokenizer):
    """A tokenizer of words. Id 0 is padding, 1 an unknown word, 2 the first word of the vocabulary.

    Args:
        vocabulary: Distinct words in lower case without punctuation, as `words` returns them.

    Raises:
        ValueError: The vocabulary is empty, or a word is not valid or not unique.
    """

    padding = PADDING

    def __init__(self, vocabulary: Sequence[str]) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self._number = {word: number for number, word in enumerate(self.vocabulary, UNKNOWN + 1)}
        wrong = [word for word in self.vocabulary if not isinstance(word, str) or words(word) != [word]]
        if wrong:
            raise ValueError(
                f"vocabulary contains {wrong[0]!r}; expected words in lower case without spaces or punctuation"
            )
        if not self.vocabulary or len(self._number) < len(self.vocabulary):
            twice = [word for word, count in Counter(self.vocabulary).items() if count > 1]
            raise ValueError(
                f"vocabulary contains {f'{twice[0]!r} twice' if twice else 'no words'}; expected different words"
            )

    def __len__(self) -> int:
        return len(self.vocabulary) + UNKNOWN + 1

    def numbers(self, sentences: Sequence[str], max_length: int) -> list[list[int]]:
        """Return at most `max_length` ids for each sentence, and none for a sentence without words."""
        rows = [[self._number.get(word, UNKNOWN) for word in words(sentence)] for sentence in sentences]
        self.cut += sum(len(row) > max_length for row in rows)
        return [row[:max_length] for row in rows]

    def unknown(self, sentence: str) -> list[str]:
        """Return the words of a sentence that are not in the vocabulary."""
        return [word for word in words(sentence) if word not in self._number]

    def known(self) -> list[str]:
        """Return the words of the vocabulary."""
        return list(self.vocabulary)

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """Return the sentence of tokens `(L,)`. Unknown words are shown as [?].

        Raises:
            ValueError: An id is out of range.
        """
        found = within(tokens, len(self))
        shown = (UNKNOWN_WORD if token == UNKNOWN else self.vocabulary[token - UNKNOWN - 1] for token in found if token)
        return " ".join(shown)


class Subwords(Tokenizer):
    """A wrapper of `tokenizers.Tokenizer`, with its ids for padding (0 if it has none) and unknown subwords.

    Args:
        vocabulary: Its JSON, the result of `Tokenizer.to_str()` or the content of `tokenizer.json`.

    Raises:
        ValueError: The text is not valid, or the package is not installed.
    """

    def __init__(self, vocabulary: str) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        try:
            self._tokenizer = package().Tokenizer.from_str(vocabulary)
            model = json.loads(vocabulary)["model"]
        except Exception as error:  # the package raises `Exception` itself
            shown = vocabulary if len(vocabulary) < 40 else f"{vocabulary[:40]}..."
            if isinstance(error, ValueError) and isinstance(error.__cause__, ImportError):
                raise
            raise ValueError(
                f"vocabulary is {shown!r}; expected words or the JSON of a tokenizers.Tokenizer"
            ) from error
        declared = self._tokenizer.padding or {}
        named = (self._tokenizer.token_to_id(name) for name in (PAD_TOKEN, "<pad>", "[pad]"))
        self.padding = declared.get("pad_id", next((number for number in named if number is not None), PADDING))
        unknown = model.get("unk_token")
        self._unknown = model.get("unk_id") if unknown is None else self._tokenizer.token_to_id(unknown)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def numbers(self, sentences: Sequence[str], max_length: int) -> list[list[int]]:
        """Return at most `max_length` ids for each sentence, and none for a sentence without words."""
        found = self._tokenizer.encode_batch_fast(list(sentences))
        rows = [row.ids if any(not special for special in row.special_tokens_mask) else [] for row in found]
        long = [i for i, row in enumerate(rows) if len(row) > max_length]
        self.cut += len(long)
        for i in long:  # encoded again, so that special tokens at the end are kept
            rows[i] = self._cut(sentences[i], max_length)
        return rows

    def _cut(self, sentence: str, max_length: int) -> list[int]:
        if max_length <= self._tokenizer.num_special_tokens_to_add(False):
            raise ValueError(
                f"max_length is {max_length}; expected more, because this tokenizer adds as many special tokens"
            )
        self._tokenizer.enable_truncation(max_length)
        found = self._tokenizer.encode(sentence).ids
        self._tokenizer.no_truncation()
        return list(found)

    def unknown(self, sentence: str) -> list[str]:
        """Return the words of a sentence that contain an unknown subword."""
        found = self._tokenizer.encode(sentence, add_special_tokens=False)
        parts = zip(found.ids, found.word_ids, strict=True)
        places = dict.fromkeys(word for number, word in parts if number == self._unknown and word is not None)
        spans = (found.word_to_chars(word) for word in places)
        return [sentence[start:end].strip() for start, end in spans]

    def known(self) -> list[str]:
        """Return the subwords in the order of their ids, without special tokens."""
        numbers, special = self._tokenizer.get_vocab(), self._tokenizer.get_added_tokens_decoder()
        return sorted((part for part in numbers if numbers[part] not in special), key=numbers.__getitem__)

    def decode(self, tokens: Sequence[int] | Tensor) -> str:
        """Return the sentence of tokens `(L,)`, without special tokens."""
        return str(self._tokenizer.decode([token for token in within(tokens, len(self)) if token != self.padding]))

    def __getstate__(self) -> dict[str, Any]:
        return {"vocabulary": self.vocabulary, "cut": self.cut}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["vocabulary"])  # type: ignore[misc]  # independent of how the package pickles itself
        self.cut = state["cut"]


def tokenizer(vocabulary: Sequence[str]) -> Tokenizer:
    """Return the tokenizer for a vocabulary: words, or the JSON of a `tokenizers.Tokenizer`.

    Raises:
        ValueError: The vocabulary is neither, or the package is not installed.
    """
    return Subwords(vocabulary) if isinstance(vocabulary, str) else Words(vocabulary)


def learn(captions: Iterable[str], kind: Kind = "words", size: int = 10_000, min_count: int = 1) -> Tokenizer:
    """Learn a tokenizer from captions.

    Args:
        captions: Training captions.
        kind: words, or bpe for subwords, which can also represent new words.
        size: Maximum number of ids, including those for padding and unknown words.
        min_count: Minimum number of occurrences of a word, or of a pair of subwords.

    Raises:
        ValueError: No word occurs often enough, or the package is not installed.
    """
    one_of("tokenizer", kind, ("words", "bpe"))
    integer("size", size, least=3)
    integer("min_count", min_count, least=1)
    if kind == "bpe":
        return _learn_parts(captions, size, min_count)
    counts = Counter(word for caption in captions for word in words(caption))
    # Sorted by count and then by name, so that the order of the captions does not matter.
    kept = sorted((word for word in counts if counts[word] >= min_count), key=lambda word: (-counts[word], word))
    if not kept:
        raise ValueError(f"the captions contain no word that occurs {min_count} times; expected at least one")
    return Words(kept[: size - UNKNOWN - 1])


def _learn_parts(captions: Iterable[str], size: int, min_count: int) -> Subwords:
    hugging, captions = package(), [caption for caption in captions if words(caption)]
    if not captions:
        raise ValueError("the captions contain no word; expected at least one")
    found = hugging.Tokenizer(hugging.models.BPE(unk_token=UNK_TOKEN))
    normal, before = hugging.normalizers, hugging.pre_tokenizers
    spaces = normal.Replace(hugging.Regex(r"\s+"), " ")
    found.normalizer = normal.Sequence([normal.NFKC(), normal.Lowercase(), spaces, normal.Strip()])
    # Metaspace marks the space before a word. With `end_of_word_suffix` instead, the package assigns ids in the order
    # of a hash table, which differs between processes.
    found.pre_tokenizer = before.Sequence([before.Metaspace(), before.Punctuation()])
    found.decoder = hugging.decoders.Metaspace()
    trainer = hugging.trainers.BpeTrainer(
        vocab_size=size, min_frequency=min_count, special_tokens=[PAD_TOKEN, UNK_TOKEN], show_progress=False
    )
    found.train_from_iterator(captions, trainer)
    if found.get_vocab_size() > size:
        raise ValueError(
            f"size is {size}; expected at least {found.get_vocab_size()}, for the letters of these captions"
        )
    return Subwords(found.to_str())


def read(path: str | Path) -> Tokenizer:
    """Return the tokenizer of a file: Hugging Face's `tokenizer.json`, or a `.txt` with one word per line.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file contains neither.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise FileNotFoundError(f"tokenizer is {path}; expected words, bpe or a file of a tokenizer (.json, or .txt)")
    try:
        text = path.read_text(encoding="utf-8")
        return Words(text.split()) if path.suffix == ".txt" else Subwords(text)
    except ValueError as error:
        if isinstance(error.__cause__, ImportError):
            raise
        raise ValueError(f"{path} is not a tokenizer: {error}") from error


def package() -> ModuleType:
    """Return Hugging Face's `tokenizers`.

    Raises:
        ValueError: It is not installed.
    """
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.normalizers
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise ValueError('parts of words need the package tokenizers: pip install "lightning-gans[text]"') from error
    return tokenizers


def words(sentence: str) -> list[str]:
    """Return the words of a sentence: runs of letters, digits and apostrophes of any script, in lower case."""
    # Normalised again after `lower`, so that the words of a word are the word itself.
    plain = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", sentence).lower()).replace(CURLY, "'")
    # Not \w of `re`, which excludes the vowel signs of Indian scripts and includes underscores.
    kept = "".join(sign if sign == "'" or unicodedata.category(sign)[0] in "LMN" else " " for sign in plain)
    return [word for word in (run.strip("'") for run in kept.split()) if word]


def within(tokens: Sequence[int] | Tensor, count: int) -> list[int]:
    """Return tokens as a list.

    Raises:
        ValueError: An id is not from 0 to `count` - 1.
    """
    found = [int(token) for token in tokens]
    wrong = [token for token in found if not 0 <= token < count]
    if wrong:
        raise ValueError(f"tokens contain {wrong[0]}; expected numbers from 0 to {count - 1}")
    return found


def some(names: Sequence[str]) -> str:
    """Return the first names and the number of the others, as text."""
    return ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
