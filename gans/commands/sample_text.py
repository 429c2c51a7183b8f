"""The sentences of `gans sample --text`: read from flags and files, and tokenized for a model."""

from pathlib import Path

from torch import Tensor

from datamodules.text import Tokenizer


def sentences(given: list[str] | None, file: Path | None) -> list[str]:
    """Return the sentences of the flag, then those of the file, one a line, without empty lines.

    Raises:
        ValueError: if there are none, one is empty, or the file cannot be read.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"text_file is {file}, which cannot be read: {error}") from error
    found = [*(given or ()), *(line for line in lines if line.strip())]
    if not found or not all(text.strip() for text in found):
        raise ValueError("a sentence is empty; expected words, such as --text 'a red seven'")
    return found


def tokenized(texts: list[str], words: Tokenizer, max_length: int) -> tuple[Tensor, Tensor]:
    """Return tokens `(K, T)` and lengths `(K,)` of sentences. Print the words that are unknown or cut off.

    Raises:
        ValueError: for a sentence without a known word.
    """
    for text in texts:
        words.check_known([text])
        if unknown := words.unknown(text):
            print(f"unknown      {', '.join(unknown)} in {text!r}")
    before = words.cut
    found = words(texts, max_length)
    if words.cut > before:
        print(f"cut          {words.cut - before} of the sentences after {max_length} tokens, as in training")
    return found
