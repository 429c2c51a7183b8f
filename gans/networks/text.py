"""Encoders of sentences and images into one embedding space.

The text encoder is bidirectional like DAMSM's (AttnGAN, Xu et al. 2018, arXiv 1711.10485). The pair is trained like
CLIP (Radford et al. 2021, arXiv 2103.00020). Both are much smaller than in the papers.
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

# Regularisation of the whitening of sentence embeddings, as a share of their mean variance. Directions of much smaller
# variance carry little information.
FLAT = 0.3


def entries(vocabulary: Vocabulary) -> int:
    """Return the number of token ids of a vocabulary: a list of words, or a tokenizer's JSON as text.

    Id 0 is padding. In a list of words, id 1 is an unknown word.

    Raises:
        ValueError: if the text is not a tokenizer's JSON.
    """
    if not isinstance(vocabulary, str):
        return len(vocabulary) + 2
    try:
        described = json.loads(vocabulary)
        pieces = described["model"]["vocab"]
        numbers = pieces.values() if isinstance(pieces, dict) else range(len(pieces))
        return int(1 + max(0, *numbers, *(added["id"] for added in described.get("added_tokens", []))))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError("vocabulary is a text that is not a tokenizer's JSON; expected that, or words") from error


class SentenceEncoder(nn.Module):
    """Tokens `(N, T)` and lengths `(N,)` to sentence embeddings `(N, features)`.

    A linear layer reads the final states of a forward and a backward GRU and the mean token embedding. The mean
    generalises to new combinations of words, for which a GRU may fail. Padding has no influence.

    Args:
        count: number of tokens.
        features: length of a sentence embedding.
        width: length of a token embedding, and of the state of each GRU.
    """

    def __init__(self, count: int, features: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(count, width)
        self.forwards, self.backwards = (nn.GRU(width, width, batch_first=True) for _ in range(2))
        self.out = nn.Linear(3 * width, features)

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings `(N, features)` of the sentences."""
        # Each sentence is reversed, and each final state is picked by its length. Packed sequences would need the
        # lengths on the CPU, which would synchronise with the GPU.
        last = (lengths - 1).clamp(min=0)[:, None]
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        backwards = tokens.gather(1, (last - positions).clamp(min=0))
        words, inside = self.words(tokens), (positions <= last)[..., None]
        states = [(words * inside).sum(1) / inside.sum(1)]
        for gru, row in ((self.forwards, words), (self.backwards, self.words(backwards))):
            every, _ = gru(row)
            states.append(every.gather(1, last[..., None].expand(-1, 1, every.shape[2])).squeeze(1))
        sentence: Tensor = self.out(torch.cat(states, 1))
        return sentence


class ImageEncoder(nn.Module):
    """Images `(N, channels, height, width)` to embeddings `(N, features)`: strided convolutions with GroupNorm.

    Args:
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        features: length of an image embedding.
        width: channels after the first downsampling, doubled at each further one, up to 8 times.
    """

    def __init__(self, size: Size, channels: int, features: int, width: int) -> None:
        super().__init__()
        height, breadth = image_size(size)
        hidden = [image_channels(channels), *widths((height, breadth), width)]
        layers: list[nn.Module] = []
        for before, after in pairwise(hidden):
            # With BatchNorm, an embedding would depend on other images and on the number of processes.
            layers += [nn.Conv2d(before, after, 4, 2, 1), nn.GroupNorm(1, after), nn.LeakyReLU(0.2, inplace=True)]
        scale = 2 ** (len(hidden) - 1)
        self.shape = (height, breadth)
        self.layers = nn.Sequential(*layers)
        self.out = nn.Linear(hidden[-1] * (height // scale) * (breadth // scale), features)

    def forward(self, images: Tensor) -> Tensor:
        """Return embeddings `(N, features)` of the images."""
        vector: Tensor = self.out(self.layers(images).flatten(1))
        return vector


class Matcher(nn.Module):
    """Both encoders, the temperature of their comparison, and the moments of the sentence embeddings.

    Args:
        count: number of tokens.
        size: image side, or (height, width).
        channels: 1, 3 or 4.
        features: length of the embeddings.
        width: `width` of the image encoder.
        text_width: `width` of the text encoder.
    """

    def __init__(self, count: int, size: Size, channels: int, features: int, width: int, text_width: int) -> None:
        super().__init__()
        self.sentences: nn.Module = SentenceEncoder(count, features, text_width)
        self.images = ImageEncoder(size, channels, features, width)
        self.spread = Moments(features, least=FLAT)
        self.spread.second /= features  # initial value: the second moment of uniform unit vectors
        self.log_scale = nn.Parameter(torch.tensor(1 / 0.07).log())  # CLIP's initial value

    def forward(self, images: Tensor, tokens: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return the embeddings of images and of sentences, `(N, features)` each."""
        return self.image(images), self.sentence(tokens, lengths)

    def sentence(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return unit embeddings `(N, features)` of sentences, given tokens `(N, T)` and lengths `(N,)`."""
        return normalize(widened(self.sentences(tokens, lengths)), dim=1)

    def image(self, images: Tensor) -> Tensor:
        """Return unit embeddings `(N, features)` of images `(N, C, H, W)`."""
        return normalize(widened(self.images(images)), dim=1)

    def scale(self) -> Tensor:
        """Return the factor of the inner products (1 / temperature), at most 100, as in CLIP."""
        return self.log_scale.exp().clamp(max=100.0)
