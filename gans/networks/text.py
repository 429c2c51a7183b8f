"""Encoders of sentences and of images into one space: DAMSM's bidirectional recurrence, trained as CLIP's pair is.

Xu et al. 2018 (AttnGAN, arXiv 1711.10485) and Radford et al. 2021 (arXiv 2103.00020), both of them very much larger.
"""

import json
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from gans.networks.dcgan import widths
from gans.networks.layers import Size, image_channels, image_size, widened
from gans.networks.manifold import Moments

Vocabulary = Sequence[str] | str

FLAT = 0.3  # share of the mean variance, far under which a direction of sentences' vectors hardly says anything


def entries(vocabulary: Vocabulary) -> int:
    """Return how many token numbers a vocabulary has: words and two more, or those of a tokenizer's JSON.

    Number 0 is padding and, of words, 1 is an unknown one.

    Raises:
        ValueError: if the text is no tokenizer.
    """
    if not isinstance(vocabulary, str):
        return len(vocabulary) + 2
    try:
        described = json.loads(vocabulary)
        pieces = described["model"]["vocab"]
        numbers = pieces.values() if isinstance(pieces, dict) else range(len(pieces))
        return int(1 + max(0, *numbers, *(added["id"] for added in described.get("added_tokens", []))))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("vocabulary is a text that is no tokenizer's JSON; expected that, or words") from error


class SentenceEncoder(nn.Module):
    """Tokens `(N, T)` and lengths `(N,)` to `(N, features)`: the last states of two recurrences, and the mean token.

    The recurrences begin at both ends. Of words that never stood together the mean is what it should be, while a
    recurrence may confuse them. What stands behind a sentence's length has no influence.

    Args:
        count: number of tokens.
        features: length of a sentence's vector.
        width: of a token's vector and of each recurrence's state.
    """

    def __init__(self, count: int, features: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(count, width)
        self.forwards, self.backwards = (nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.out = nn.Linear(3 * width, features)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return a vector `(N, features)` for each sentence."""
        # Sentences turned around one by one, and states picked at their ends: packed sequences would need the lengths
        # on the host, which a GPU would be waited for.
        last = (lengths - 1).clamp(min=0)[:, None]
        places = torch.arange(tokens.shape[1], device=tokens.device)
        turned = tokens.gather(1, (last - places).clamp(min=0))
        words, inside = self.words(tokens), (places <= last)[..., None]
        states = [(words * inside).sum(1) / inside.sum(1)]
        for recurrence, row in ((self.forwards, words), (self.backwards, self.words(turned))):
            every, _ = recurrence(row)
            states.append(every.gather(1, last[..., None].expand(-1, 1, every.shape[2])).squeeze(1))
        sentence: Tensor = self.out(torch.cat(states, 1))
        return sentence


class ImageEncoder(nn.Module):
    """Images `(N, channels, height, width)` to `(N, features)`: halvings, normalised for each image by itself.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        features: length of an image's vector.
        width: channels after the first halving; twice as many after each further one, up to 8 times.
    """

    def __init__(self, size: Size, channels: int, features: int, width: int) -> None:
        super().__init__()
        height, breadth = image_size(size)
        hidden = [image_channels(channels), *widths((height, breadth), width)]
        layers: list[nn.Module] = []
        for before, after in pairwise(hidden):
            # Over the batch, the vector of one image would depend on others, and on the number of processes.
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(1, after), nn.LeakyReLU(0.2, inplace=True)]
        scale = 2 ** (len(hidden) - 1)
        self.shape = (height, breadth)
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(hidden[-1] * (height // scale) * (breadth // scale), features)

    def forward(self, images: Tensor) -> Tensor:
        """Return a vector `(N, features)` for each image."""
        vector: Tensor = self.out(self.layers(images).flatten(1))
        return vector


class Matcher(nn.Module):
    """Both encoders, the temperature at which their vectors are compared, and how those of sentences are spread.

    Args:
        count: number of tokens.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        features: length of the vectors.
        width: of the encoder of images, as it has.
        text_width: of the encoder of sentences, as it has.
    """

    def __init__(self, count: int, size: Size, channels: int, features: int, width: int, text_width: int) -> None:
        super().__init__()
        self.sentences: nn.Module = SentenceEncoder(count, features, text_width)
        self.images = ImageEncoder(size, channels, features, width)
        self.spread = Moments(features, least=FLAT)
        self.spread.second /= features  # before the first batch, of vectors all over the sphere
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())  # CLIP's

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vectors `(N, features)` of images and of their sentences."""
        return self.image(images), self.sentence(tokens, lengths)

    def sentence(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return a vector `(N, features)` of length 1 for each sentence."""
        return normalize(widened(self.sentences(tokens, lengths)), dim=1)

    def image(self, images: Tensor) -> Tensor:
        """Return a vector `(N, features)` of length 1 for each image."""
        return normalize(widened(self.images(images)), dim=1)

    def scale(self) -> Tensor:
        """Return what inner products are multiplied by, at most 100, as in CLIP."""
        return self.log_scale.exp().clamp(max=100.0)
