"""R-precision against a loop, and the shares of held-out captions."""

import pytest
import torch

from gans.metrics.text import contradicts, held_out_shares, r_precision


def test_a_perfect_and_a_random_encoder():
    torch.manual_seed(0)
    sentences = torch.nn.functional.normalize(torch.randn(600, 32), dim=1)
    tokens = torch.arange(600)[:, None]
    assert r_precision(sentences, sentences, tokens).all()
    assert not r_precision(sentences.roll(1, 0), sentences, tokens, others=599).any()
    images = torch.nn.functional.normalize(torch.randn(600, 32), dim=1)
    assert r_precision(images, sentences, tokens, others=9).float().mean() == pytest.approx(0.1, abs=0.04)
    assert r_precision(images, sentences, tokens, others=1).float().mean() == pytest.approx(0.5, abs=0.07)
    first, second = (r_precision(images, sentences, tokens, others=9, seed=seed) for seed in (0, 1))
    assert not torch.equal(first, second)


def test_with_all_rivals_it_is_a_loop_over_sentences_that_contradict():
    torch.manual_seed(0)
    images, sentences = (torch.nn.functional.normalize(torch.randn(40, 3), dim=1) for _ in range(2))
    said = torch.randint(-1, 3, (40, 2))
    tokens = torch.randint(0, 4, (40, 2))
    for given in (None, said):
        wanted = []
        for i in range(40):
            rivals = []
            for j in range(40):
                if given is None:
                    rivals += [j] if tokens[i].tolist() != tokens[j].tolist() else []
                elif any(a >= 0 and b >= 0 and a != b for a, b in zip(said[i], said[j], strict=True)):
                    rivals.append(j)
            wanted.append(all(images[i] @ sentences[i] > images[i] @ sentences[j] for j in rivals))
        assert r_precision(images, sentences, tokens, given, others=40).tolist() == wanted
    assert contradicts(tokens[:2], tokens, said[:2], said).shape == (2, 40)


def test_equal_vectors_are_no_hit():
    same = torch.ones(5, 2)
    assert not r_precision(same, same, torch.arange(5)[:, None]).any()


def test_shares_keep_unseen_combinations_apart():
    one = torch.eye(4)
    said = torch.tensor([[0, 1, 0], [1, 1, 1], [2, -1, 0], [3, 0, 1]])
    parts = {
        "made": one.flip(0),
        "real": one,
        "read": one,
        "tokens": torch.arange(4)[:, None],
        "swap": torch.tensor([True, True, False, False]),
        "said": said,
        "digit": torch.tensor([1, 0, 0, 1]),
        "colour": torch.tensor([1, 1, -1, 0]),
    }
    found = held_out_shares(parts, ("digit", "colour", "held_out"), ("digit", "colour"))
    assert {name: float(value) for name, value in found.items()} == {
        "swap": 0.5,
        "r_precision": 0.0,
        "r_precision_real": 1.0,
        "digit": 0.5,
        "colour": 1.0,
        "held_out/swap": 0.5,
        "held_out/r_precision": 0.0,
        "held_out/r_precision_real": 1.0,
        "held_out/digit": 0.5,
        "held_out/colour": 0.5,
    }
    plain = {name: parts[name] for name in ("made", "real", "read", "tokens", "swap")}
    assert set(held_out_shares(plain, (), ())) == {"swap", "r_precision", "r_precision_real"}
