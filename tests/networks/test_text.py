"""Encoders of sentences and images: what a vector depends on, and what it does not."""

import json

import pytest
import torch

from gans.networks.text import ImageEncoder, Matcher, SentenceEncoder, entries


def encoder(count=9, features=5, width=4):
    torch.manual_seed(0)
    return SentenceEncoder(count, features, width)


def test_a_sentence_is_read_from_both_ends_and_no_further():
    read = encoder()
    tokens, lengths = torch.tensor([[3, 4, 5, 0, 0], [6, 2, 0, 0, 0]]), torch.tensor([3, 2])
    whole = read(tokens, lengths)
    assert whole.shape == (2, 5)
    behind = torch.where(tokens == 0, 7, tokens)
    assert torch.equal(read(behind, lengths), whole)
    assert torch.equal(read(tokens[:, :3], lengths), whole)
    for place in range(3):
        other = tokens.clone()
        other[0, place] = 8
        changed = (read(other, lengths) - whole).abs().amax(1)
        assert changed[0] > 1e-3
        assert changed[1] == 0
    assert not torch.allclose(read(tokens[:1, [1, 0, 2, 3, 4]], lengths[:1]), whole[:1], atol=1e-3)


def test_a_sentence_is_what_pytorch_makes_of_packed_sequences():
    read = encoder().double()
    tokens, lengths = torch.tensor([[3, 4, 5], [6, 2, 0]]), torch.tensor([3, 2])
    both = torch.nn.GRU(4, 4, batch_first=True, bidirectional=True).double()
    with torch.no_grad():
        for part, suffix in ((read.forwards, ""), (read.backwards, "_reverse")):
            for name, value in part.named_parameters():
                getattr(both, name + suffix).copy_(value)
    packed = torch.nn.utils.rnn.pack_padded_sequence(read.words(tokens), lengths, batch_first=True)
    _, last = both(packed)
    mean = torch.stack([read.words(tokens[0]).mean(0), read.words(tokens[1, :2]).mean(0)])
    assert torch.allclose(read.out(torch.cat([mean, last[0], last[1]], 1)), read(tokens, lengths))


def test_both_encoders_give_unit_vectors_of_one_image_or_sentence_each():
    torch.manual_seed(0)
    matcher = Matcher(9, (12, 20), 3, 6, 4, 5)
    images = torch.rand(3, 3, 12, 20)
    seen = matcher.image(images)
    assert seen.shape == (3, 6)
    assert torch.allclose(seen.norm(dim=1), torch.ones(3))
    assert torch.allclose(matcher.image(images[1:2]), seen[1:2], atol=1e-6)
    read = matcher.sentence(torch.tensor([[2, 3]]), torch.tensor([2]))
    assert torch.allclose(read.norm(dim=1), torch.ones(1))
    assert float(matcher.scale()) == pytest.approx(1 / 0.07)
    with torch.no_grad():
        matcher.log_scale.fill_(9.0)
    assert float(matcher.scale()) == 100
    assert ImageEncoder(28, 1, 7, 2)(torch.rand(2, 1, 28, 28)).shape == (2, 7)


def test_entries_counts_words_and_the_pieces_of_a_tokenizer():
    assert entries(["red", "seven"]) == 4
    described = {"model": {"vocab": {"[PAD]": 0, "a": 1, "b": 2}}, "added_tokens": [{"id": 7}]}
    assert entries(json.dumps(described)) == 8
    for wrong in ("red seven", "{}", '{"model": 3}'):
        with pytest.raises(ValueError, match="not a tokenizer's JSON"):
            entries(wrong)
