"""CLIP's text encoder, Radford et al. 2021 (arXiv 2103.00020), from a local folder of Hugging Face's `transformers`.

Nothing is downloaded. The weights are saved in the model's checkpoint, which then works without the folder.
"""

from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn


class ClipSentences(nn.Module):
    """Tokens `(N, T)` and lengths `(N,)` to embeddings `(N, features)`: frozen CLIP, then a trained linear layer.

    The embedding is the hidden state of the last token, which marks the end of the sentence.

    Args:
        description: configuration of the network, as in `config.json`.
        features: length of a sentence embedding.
    """

    def __init__(self, description: dict[str, Any], features: int) -> None:
        super().__init__()
        library = package()
        self.clip = library.CLIPTextModel(library.CLIPTextConfig(**description)).eval().requires_grad_(False)
        self.count = int(self.clip.config.vocab_size)
        self.out = nn.Linear(self.clip.config.hidden_size, features)

    def train(self, mode: bool = True) -> "ClipSentences":
        """Set the mode of the linear layer; CLIP stays in eval mode."""
        super().train(mode)
        self.clip.eval()
        return self

    def forward(self, tokens: Tensor, lengths: Tensor) -> Tensor:
        """Return embeddings `(N, features)` of the sentences."""
        last = (lengths - 1).clamp(min=0)[:, None]
        mask = torch.arange(tokens.shape[1], device=tokens.device) <= last
        with torch.no_grad():  # `requires_grad` is not enough: the training loop switches it on for each player
            states = self.clip(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        end = states.gather(1, last[..., None].expand(-1, 1, states.shape[2])).squeeze(1)
        sentence: Tensor = self.out(end)
        return sentence


def package() -> ModuleType:
    """Return `transformers`.

    Raises:
        ValueError: if it is not installed.
    """
    try:
        import transformers
    except ImportError as error:
        raise ValueError("CLIP needs the package transformers: pip install 'lightning-gans[clip]'") from error
    module: ModuleType = transformers
    return module


def described(folder: str | Path) -> dict[str, Any]:
    """Return the configuration of the text model in a folder, as plain values.

    Raises:
        ValueError: if the folder contains no CLIP text model.
    """
    library, path = package(), Path(folder).expanduser()
    if not (path / "config.json").is_file():
        raise ValueError(f"clip is {folder}; expected a folder with config.json and model.safetensors")
    try:
        config = library.CLIPTextConfig.from_pretrained(path, local_files_only=True)
    except Exception as error:  # the package raises many kinds
        raise ValueError(f"clip is {folder}, which contains no CLIP text model: {error}") from error
    sizes = "vocab_size", "hidden_size", "intermediate_size", "projection_dim", "num_hidden_layers"
    rest = "num_attention_heads", "max_position_embeddings", "hidden_act", "layer_norm_eps", "eos_token_id"
    return {name: getattr(config, name) for name in (*sizes, *rest)}


def load(network: ClipSentences, folder: str | Path) -> None:
    """Load the weights in a folder into a network.

    Raises:
        ValueError: if they cannot be read or do not fit the network.
    """
    try:
        held = package().CLIPTextModel.from_pretrained(folder, local_files_only=True, use_safetensors=True)
        network.clip.load_state_dict(held.state_dict())
    except Exception as error:  # the package raises many kinds
        raise ValueError(f"clip is {folder}, whose weights cannot be read: {' '.join(str(error).split())}") from error
