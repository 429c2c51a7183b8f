"""Captioned digits: pictures show what their attributes say and sentences tell, and ten pairs are kept for tests."""

import struct

import numpy as np
import pytest
import torch

from datamodules import CaptionedDigitsDataModule
from datamodules.captioned_digits import (
    ATTRIBUTES,
    BACKGROUNDS,
    COLOURS,
    DIGITS,
    HELD_OUT,
    POSITIONS,
    SIZES,
    TEMPLATES,
    clear,
    sentence,
    sentences,
)
from datamodules.mnist import FILES
from datamodules.text import tokenizer, words


@pytest.fixture(scope="module")
def data():
    made = CaptionedDigitsDataModule(batch_size=32)
    made.setup()
    return made


def whole(data, part):
    """Pictures, tokens and lengths of a set, and all attributes of the pictures, said or not."""
    dataset = data._datasets()[part]
    keys = [(i, 7 * i) for i in range(len(dataset))] if part == 0 else range(len(dataset))
    return *dataset.__getitems__(keys)[:3], dataset.drawn(keys)[1]


def column(attributes, name):
    return attributes[:, ATTRIBUTES.index(name)]


def test_batches_are_what_models_expect(data):
    assert data.attributes == ATTRIBUTES == ("digit", "colour", "size", "position", "background", "held_out")
    assert (data.image_shape, data.num_classes) == ((3, 32, 32), 1)
    images, tokens, lengths, attributes = next(iter(data.train_dataloader()))
    assert (images.shape, images.dtype) == ((32, 3, 32, 32), torch.uint8)
    assert images.is_contiguous()
    assert (tokens.shape, lengths.shape, attributes.shape) == ((32, 16), (32,), (32, 6))
    assert tokens.dtype == lengths.dtype == attributes.dtype == torch.int64
    assert torch.equal((tokens != 0).sum(1), lengths)
    on_device = data.on_after_batch_transfer((images, tokens, lengths, attributes), 0)
    assert (on_device[0].min(), on_device[0].max()) == (-1, 1)
    assert torch.equal(on_device[1], tokens)
    assert [len(part) for part in data._datasets()] == [1600, 197, 197]


def test_pairs_that_tests_ask_for_never_occur_before(data):
    counts = torch.tensor(HELD_OUT).bincount(minlength=len(COLOURS))
    assert len(HELD_OUT) == len(DIGITS)
    assert (counts.min(), counts.max()) == (1, 2)
    for part, share in enumerate((0, 0, 0.5)):
        attributes = whole(data, part)[3]
        left_out = torch.tensor(HELD_OUT)[column(attributes, "digit")] == column(attributes, "colour")
        assert torch.equal(left_out.long(), column(attributes, "held_out"))
        assert left_out.double().mean() == pytest.approx(share, abs=0.03)
        if part == 2:
            assert column(attributes, "digit")[left_out].unique().tolist() == list(range(10))
            assert column(attributes, "digit")[~left_out].unique().tolist() == list(range(10))
    seen = {(digit, colour) for digit, colour, *_ in whole(data, 0)[3].tolist()}
    assert len(seen) == 70


def test_pictures_show_what_the_attributes_say(data):
    images, _, _, attributes = whole(data, 0)
    colours, backgrounds = (torch.tensor([*table.values()]) for table in (COLOURS, BACKGROUNDS))
    front, back = colours[column(attributes, "colour")], backgrounds[column(attributes, "background")]
    difference = (images.long() - back[:, :, None, None]).abs().sum(1)
    whole_difference = (front - back).abs().sum(1)
    strongest = difference.amax((1, 2)) / whole_difference
    assert strongest.min() > 0.6
    assert strongest.mean() > 0.97, "nearly always the full colour is somewhere"
    along = (images.long() - back[:, :, None, None]) * (front - back).sign()[:, :, None, None]
    assert along.min() >= 0, "everything else is between both colours"
    ink = difference > 0.25 * whole_difference[:, None, None]
    assert bool(clear()[column(attributes, "colour"), column(attributes, "background")].all())
    rows, columns = ink.any(2), ink.any(1)
    height = rows.sum(1)
    assert height[column(attributes, "size") == SIZES.index("small")].max() < 16
    assert height[column(attributes, "size") == SIZES.index("large")].min() > 16
    middle = torch.stack(
        [(on * torch.arange(32)).sum(1) / on.sum(1) for on in (rows.double(), columns.double())]
    )  # down, across
    place = {name: middle[:, column(attributes, "position") == i].mean(1) for i, name in enumerate(POSITIONS)}
    assert place["middle"].tolist() == pytest.approx([15.5, 15.5], abs=1)
    for name, axis, sign in (("top", 0, -1), ("bottom", 0, 1), ("left", 1, -1), ("right", 1, 1)):
        assert sign * (place[name][axis] - 15.5) > 4, name
        assert place[name][1 - axis] == pytest.approx(15.5, abs=1)


def test_sentences_tell_what_the_attributes_say_and_always_digit_and_colour(data):
    dataset = data._datasets()[0]
    keys = [(i % 1600, 31 * i) for i in range(600)]
    _, tokens, _, said = dataset.__getitems__(keys)
    attributes = dataset.drawn(keys)[1]
    assert torch.equal(torch.where(said < 0, attributes, said), attributes)
    names = {"size": SIZES, "position": POSITIONS, "background": tuple(BACKGROUNDS), "colour": tuple(COLOURS)}
    told = {name: 0 for name in names}
    templates = set()
    for key, row, values, heard in zip(keys, tokens, attributes.tolist(), said.tolist(), strict=True):
        caption = dataset.caption(key)
        found = words(caption)
        assert data.tokenizer.decode(row) == " ".join(found)
        value = dict(zip(ATTRIBUTES, values, strict=True))
        assert (DIGITS[value["digit"]] in found) != (str(value["digit"]) in found)
        assert sum(word in found for word in (*DIGITS, *map(str, range(10)))) == 1
        for name, table in names.items():
            named = [word for word in table if word in found]
            assert named in ([], [table[value[name]]]), caption
            assert (heard[ATTRIBUTES.index(name)] < 0) == (not named), caption
            told[name] += len(named)
        templates |= {i for i in range(len(TEMPLATES)) if sentence(i, values) == caption}
    assert told.pop("colour") == 600
    assert all(150 < count < 450 for count in told.values()), told
    assert len(templates) == len(TEMPLATES)


def test_the_vocabulary_is_that_of_all_sentences(data):
    assert len(set(sentences())) == len(sentences())
    assert set(data.vocabulary) == {word for caption in sentences() for word in words(caption)}
    assert data.vocabulary == CaptionedDigitsDataModule(seed=3, size=48).vocabulary
    assert not any(data.tokenizer.unknown(caption) for caption in sentences())
    tokens, lengths = tokenizer(data.vocabulary)(sentences(), 16)
    assert lengths.max() < 16
    assert len(tokens.unique(dim=0)) == len(sentences())


def test_an_item_depends_on_the_seed_and_its_key_alone(data):
    dataset = data._datasets()[0]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    batch = dataset.__getitems__([(3, 11), (4, 12), 5])
    assert torch.equal(torch.get_rng_state(), before)
    again = CaptionedDigitsDataModule(batch_size=8).splits()[0]
    for key, i in (((3, 11), 0), ((4, 12), 1), (5, 2)):
        assert all(torch.equal(part[i], alone) for part, alone in zip(batch, again[key], strict=True))
    rows = list(range(100))
    assert not torch.equal(dataset.__getitems__([(i, i) for i in rows])[3], dataset.__getitems__(rows)[3])
    assert not torch.equal(dataset.__getitems__([(i, i + 1) for i in rows])[3], dataset.__getitems__(rows)[3])
    other = CaptionedDigitsDataModule(seed=1).splits()
    assert not torch.equal(other[2].__getitems__(rows)[3], whole(data, 2)[3][:100])


def test_sizes_and_bytes_of_mnist(tmp_path):
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, count in zip(FILES, (60, 60, 20, 20), strict=True):
        if "images" in name:
            values = np.zeros((count, 28, 28), np.uint8)
            for i, image in enumerate(values):
                image[4:24, 4 : 6 + 2 * (i % 10)] = 255  # a bar, the broader the larger the digit
        else:
            values = np.arange(count, dtype=np.uint8) % 10
        header = struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape)
        (raw / name).write_bytes(header + values.tobytes())
    made = CaptionedDigitsDataModule("mnist", tmp_path, size=(48, 40), val_size=10, batch_size=8)
    made.prepare_data()
    made.setup()
    assert [len(part) for part in made._datasets()] == [50, 10, 20]
    images, *_, attributes = whole(made, 2)
    assert images.shape == (20, 3, 48, 40)
    assert attributes[:, 0].tolist() == [*range(10), *range(10)]
    assert attributes[:, 5].tolist() == [0] * 10 + [1] * 10
    images, *_, attributes = whole(made, 0)
    breadth = (images != images[:, :, :1, :1]).any(1).any(1).sum(1)  # a corner is background
    for large in (0, 1):
        some = attributes[:, 2] == large
        assert torch.corrcoef(torch.stack([breadth[some], attributes[some, 0]]).double())[0, 1] > 0.98
    none = CaptionedDigitsDataModule("mnist", tmp_path, val_size=0)
    none.setup()
    assert none.val_dataloader() == []


def test_parts_of_words_do_too():
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    made = CaptionedDigitsDataModule(tokenizer="bpe", max_length=32)
    val = made.splits()[1]
    _, tokens, lengths, _ = val.__getitems__(range(8))
    assert isinstance(made.vocabulary, str)
    assert torch.equal(tokenizer(made.vocabulary)([val.caption(i) for i in range(8)], 32)[0], tokens)
    assert lengths.max() < 32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"source": "svhn"}, "source must be one of digits, mnist, got 'svhn'"),
        ({"size": 12}, "size must be at least 16 for a small digit to be legible"),
        ({"channels": 1}, "channels must be one of 3, got 1"),
        ({"max_length": 0}, "max_length must be an integer of at least 1"),
        ({"val_size": -1}, "val_size must be"),
        ({"tokenizer": "none"}, "tokenizer is none; expected words, bpe or a file"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        CaptionedDigitsDataModule(**options)


def test_a_tokenizer_of_other_words_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("cat\ndog\n")
    with pytest.raises(ValueError, match="no word of 'a red zero' is known; known are cat, dog"):
        CaptionedDigitsDataModule(tokenizer=str(tmp_path / "a.txt"))


def test_missing_mnist_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="MNIST is not in"):
        CaptionedDigitsDataModule("mnist", tmp_path).setup()


@pytest.mark.parametrize("vary", [(), ("background",), ("size", "position")])
def test_what_does_not_vary_is_neither_seen_nor_said(vary):
    made = CaptionedDigitsDataModule(vary=vary, batch_size=8)
    made.setup()
    dataset = made._datasets()[0]
    keys = [(i, 7 * i) for i in range(600)]
    said, attributes = dataset.__getitems__(keys)[3], dataset.drawn(keys)[1]
    for name, count, still in (("size", 2, "large"), ("position", 5, "middle"), ("background", 4, "black")):
        seen, told = column(attributes, name), column(said, name)
        assert len(seen.unique()) == (count if name in vary else 1) or name == "background"
        assert bool((told >= 0).any()) == (name in vary)
        if name not in vary and name != "background":
            table = {"size": SIZES, "position": POSITIONS}[name]
            assert table[int(seen[0])] == still
    assert made.vocabulary == CaptionedDigitsDataModule().vocabulary
    with pytest.raises(ValueError, match="vary must be one of size, position, background"):
        CaptionedDigitsDataModule(vary=("shape",))
