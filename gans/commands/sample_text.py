"""`gans sample --text`: pictures of sentences, with the sentence under them."""

import json
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import Namespace
from torch import Tensor

from datamodules.text import Tokenizer, tokenizer
from gans.commands.device import chosen_device
from gans.commands.parser import own_model
from gans.commands.sample import ROWS, check_out, file_name, write
from gans.engine.checkpoint import load_model
from gans.metrics.sampling import latents
from gans.models.texttoimage import TextToImage
from gans.pictures import images
from gans.pictures.captions import contact_sheet
from gans.runs import atomic
from gans.runs.folder import of_checkpoint

EACH = 8  # pictures of a sentence
UNREAD = ("labels", "codes", "direction", "directions")


def main(options: Namespace) -> None:
    """Draw pictures of the sentences.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    given = [name for name in UNREAD if options[name]]
    if given:
        raise ValueError(f"{given[0]} is {options[given[0]]}; expected none beside --text")
    device = chosen_device(options.device)
    model = load_model(options.checkpoint, device, model=own_model(options.model))
    if not isinstance(model, TextToImage):
        raise ValueError(f"{options.checkpoint} holds a {type(model).__name__}, which makes no pictures of sentences")
    texts = sentences(options.text, options.text_file)
    tokens, lengths = numbers(texts, tokenizer(model.hparams["vocabulary"]), model.hparams["max_length"])
    out = options.out or of_checkpoint(options.checkpoint) / file_name(options)
    check_out(out, clips=False)
    each, started = options.num or EACH, time.perf_counter()
    drawn = [
        pictures(model, *caption, each, options.seed, options.truncation)
        for caption in zip(tokens, lengths, strict=True)
    ]
    seconds = time.perf_counter() - started
    if out.is_dir() or not out.suffix:
        files: dict[str, str] = {}
        for k, (text, batch) in enumerate(zip(texts, drawn, strict=True)):
            write(batch, out, k * each, None)
            files |= {f"{i:06d}.png": text for i in range(k * each, (k + 1) * each)}
        atomic.write(out / "captions.json", json.dumps(files, indent=1, ensure_ascii=False).encode())
    else:
        images.save_grid(contact_sheet(torch.cat(drawn), texts, each), out, 1)
    print(f"speed        {each * len(texts) / seconds:,.0f} images/s on {device.type}, in batches of {ROWS}")
    print(f"pictures     {out}")


def sentences(given: list[str] | None, file: Path | None) -> list[str]:
    """Return the sentences of the flag, then those of the file, a line each; empty lines are none.

    Raises:
        ValueError: if there are none, one is empty, or there is no such file.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines() if file else []
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"text_file is {file}, which cannot be read: {error}") from error
    found = [*(given or ()), *(line for line in lines if line.strip())]
    if not found or not all(text.strip() for text in found):
        raise ValueError("a sentence is empty; expected words, such as --text 'a red seven'")
    return found


def numbers(texts: list[str], words: Tokenizer, max_length: int) -> tuple[Tensor, Tensor]:
    """Return tokens `(K, T)` and lengths `(K,)` of sentences, and print what of them the model does not get to see.

    Raises:
        ValueError: for a sentence without a word that is known.
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


@torch.no_grad()
def pictures(model: Any, tokens: Tensor, length: Tensor, count: int, seed: int, truncation: float | None) -> Tensor:
    """Return `count` images `(count, C, H, W)` in [-1, 1] on the CPU of a sentence, tokens `(T,)` and length `()`.

    Image i has latent i of the seed, whatever the sentence and the count are.
    """
    captions = [part.expand(ROWS, *part.shape).to(model.device) for part in (tokens, length)]
    drawn = []
    for start in range(0, count, ROWS):
        z = latents(model, range(start, start + ROWS), seed, truncation).to(model.device)
        drawn.append(model(z, *captions).clamp(-1, 1).float().cpu())
    return torch.cat(drawn)[:count]
