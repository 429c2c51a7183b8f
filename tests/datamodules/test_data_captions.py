"""Captioned images: every layout of caption files, which caption belongs to an image, and captions of bad input."""

import json

import pytest
import torch
from PIL import Image

from datamodules import CaptionedDataModule
from datamodules.text import learn, tokenizer

NAMES = [f"{i:02}.png" for i in range(12)]
COUNTS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"]


def draw(root, names=NAMES):
    """Write images whose grey is ten times their number, which their name begins with."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (10 * int(name.rpartition("/")[2][:2]),) * 3).save(root / name)
    return root


def said(i):
    return f"Square {COUNTS[i]}, of grey"


def made(root, **options):
    fixed = {"size": 8, "num_workers": 0, "batch_size": 4, "max_length": 6, "val_size": 3}
    data = CaptionedDataModule(root, **{**fixed, **options})
    data.setup()
    return data


def told(data, part):
    """Return number and sentence of each image of a set, by the pixels and by the tokens, which caption confirms."""
    dataset = data._datasets()[part]
    images, tokens, lengths = dataset.__getitems__(range(len(dataset)))
    assert images.shape == (len(dataset), 3, 8, 8)
    assert tokens.dtype == lengths.dtype == torch.int64
    assert torch.equal((tokens != data.tokenizer.padding).sum(1), lengths)
    sentences = [data.tokenizer.decode(row) for row in tokens]
    numbers = [int(image[0, 0, 0]) // 10 for image in images]
    return dict(zip(numbers, sentences, strict=True))


def as_json(root):
    (root / "captions.json").write_text(json.dumps({name: said(i) for i, name in enumerate(NAMES)}))


def as_lists(root):
    content = {f"./{name}": [said(i), f"another {i}"] for i, name in enumerate(NAMES)}
    (root / "captions.json").write_text(json.dumps(content), encoding="utf-8-sig")


def as_lines(root):
    keys = [("file_name", "text"), ("image", "caption"), ("file", "text")]
    lines = [json.dumps({keys[i % 3][0]: name, keys[i % 3][1]: said(i)}) for i, name in enumerate(NAMES)]
    lines.insert(3, "")
    lines += [json.dumps({"file_name": NAMES[0], "caption": ["another", "third"]})]
    (root / "captions.jsonl").write_text("\n".join(lines) + "\n")


def as_texts(root):
    for i, name in enumerate(NAMES):
        (root / name).with_suffix(".txt").write_text(f"{said(i)}\n\nanother\n")


@pytest.mark.filterwarnings("ignore:.* are unknown")
@pytest.mark.parametrize("write", [as_json, as_lists, as_lines, as_texts])
def test_every_layout_gives_each_image_its_caption(tmp_path, write):
    write(draw(tmp_path))
    data = made(tmp_path)
    assert [len(part) for part in data._datasets()] == [9, 3, 3]
    assert data._datasets()[1] is data._datasets()[2]
    train, val = told(data, 0), told(data, 1)
    assert sorted([*train, *val]) == list(range(12))
    assert train == {i: f"square {COUNTS[i]} of grey" for i in train}
    assert val == {i: "square [?] of grey" for i in val}, "their numbers were never heard"
    assert data._datasets()[1].caption(0) == said(next(iter(val)))
    assert isinstance(data.vocabulary, tuple)
    assert data.num_classes == 1
    batch = data.on_after_batch_transfer(next(iter(data.train_dataloader())), 0)
    assert [part.dtype for part in batch] == [torch.float32, torch.int64, torch.int64]
    assert [part.shape for part in batch] == [(4, 3, 8, 8), (4, 6), (4,)]


@pytest.mark.filterwarnings("ignore:.* are unknown")
def test_coco(tmp_path):
    draw(tmp_path / "train2017")
    images = [{"id": 100 - i, "file_name": name, "height": 10} for i, name in enumerate(NAMES)]
    annotations = [{"id": i, "image_id": 100 - i % 12, "caption": said(i % 12)} for i in range(24)]
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps({"info": {}, "images": images, "annotations": annotations}))
    data = made(tmp_path / "train2017", captions=path)
    train = told(data, 0)
    assert train == {i: f"square {COUNTS[i]} of grey" for i in train}
    assert len(data._datasets()[0].captions[0]) == 2


def test_captions_are_drawn_by_the_key_in_training_and_the_first_in_order(tmp_path):
    draw(tmp_path)
    (tmp_path / "captions.json").write_text(json.dumps({name: ["first", "second", "third"] for name in NAMES}))
    data = made(tmp_path)
    dataset = data._datasets()[0]
    assert set(told(data, 0).values()) == {"first"}
    keys = [(i % 9, i) for i in range(90)]
    _, tokens, _ = dataset.__getitems__(keys)
    drawn = [data.tokenizer.decode(row) for row in tokens]
    assert drawn == [dataset.caption(key) for key in keys]
    assert all(18 < drawn.count(word) < 42 for word in ("first", "second", "third"))
    assert torch.equal(dataset.__getitems__(keys)[1], tokens)
    assert torch.equal(dataset[keys[5]][1], tokens[5])
    other = made(tmp_path, flip=True, cache=True)._datasets()[0].__getitems__(keys)
    assert torch.equal(other[1], tokens)


def test_folders_of_their_own_are_the_sets(tmp_path):
    for part, rows in (("train", range(6)), ("val", range(6, 9)), ("test", range(9, 12))):
        draw(tmp_path / part, [NAMES[i] for i in rows])
        captions = {NAMES[i]: f"a grey {COUNTS[i]}" for i in rows}
        (tmp_path / part / "captions.json").write_text(json.dumps(captions))
    with pytest.warns(UserWarning, match="are unknown") as caught:
        data = made(tmp_path)
    notes = [str(note.message).partition(": ") for note in caught]
    assert [note for note, _, _ in notes] == [
        "3 of the 9 words of the validation captions are unknown",
        "3 of the 9 words of the test captions are unknown",
    ]
    assert [set(words.split(", ")) for _, _, words in notes] == [{"six", "seven", "eight"}, {"nine", "ten", "eleven"}]
    assert [len(part) for part in data._datasets()] == [6, 3, 3]
    assert told(data, 0) == {i: f"a grey {COUNTS[i]}" for i in range(6)}
    assert told(data, 2) == dict.fromkeys(range(9, 12), "a grey [?]")
    assert data.vocabulary == ("a", "grey", "five", "four", "one", "three", "two", "zero")


@pytest.mark.parametrize("given", [True, False])
def test_one_file_for_folders_of_their_own(tmp_path, given):
    captions = {}
    for part, rows in (("train", range(6)), ("test", range(6, 9))):
        draw(tmp_path / "data" / part, [NAMES[i] for i in rows])
        captions |= {f"{part}/{NAMES[i]}": f"a grey {part}" for i in rows}
    path = tmp_path / "sentences.json" if given else tmp_path / "data" / "captions.json"
    path.write_text(json.dumps(captions))
    data = made(tmp_path / "data", captions=path if given else None)
    assert told(data, 0) == dict.fromkeys(range(6), "a grey train")
    assert data._datasets()[1] is data._datasets()[2]


def test_names_of_class_folders_are_captions(tmp_path):
    for part in ("train", "test"):
        draw(tmp_path / part, [f"fire_engine/{NAMES[1]}", f"cat/{NAMES[2]}", f"cat/{NAMES[3]}"])
    data = made(tmp_path, templates=("a photo of a {}", "{}!"))
    assert told(data, 0) == {1: "a photo of a fire engine", 2: "a photo of a cat", 3: "a photo of a cat"}
    drawn = {data._datasets()[0].caption((0, key)) for key in range(20)}
    assert drawn == {"a photo of a cat", "cat!"}
    assert set(data.vocabulary) == {"a", "photo", "of", "fire", "engine", "cat"}


def test_held_out_images_of_class_folders_come_mixed(tmp_path):
    for part in ("train", "val", "test"):
        draw(tmp_path / part, [f"{'cat' if i < 4 else 'dog'}/{name}" for i, name in enumerate(NAMES[:8])])
    data = made(tmp_path, templates=("a {}",))
    for part in (1, 2):
        said = list(told(data, part).values())
        assert sorted(said) == ["a cat"] * 4 + ["a dog"] * 4
        assert "a dog" in said[:4]
        assert list(told(made(tmp_path, templates=("a {}",)), part).values()) == said
    assert list(told(data, 0).values()) == ["a cat"] * 4 + ["a dog"] * 4


def test_the_vocabulary_is_there_before_the_images_are_read(tmp_path):
    as_json(draw(tmp_path))
    data = CaptionedDataModule(tmp_path, vocabulary_size=5, min_count=2)
    assert data.vocabulary == ("grey", "of", "square")
    assert data._sets is None


def test_long_captions_are_cut_and_counted_once(tmp_path):
    as_json(draw(tmp_path))
    with pytest.warns(UserWarning, match="captions") as caught:
        data = made(tmp_path, max_length=3, min_count=9)
    cut = [str(note.message) for note in caught if "max_length" in str(note.message)]
    assert cut == [f"12 captions in {tmp_path} are longer than max_length=3 tokens and were cut"]
    assert set(told(data, 0).values()) == {"square [?] of"}


def test_other_tokenizers(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    as_json(draw(tmp_path))
    data = made(tmp_path, tokenizer="bpe", vocabulary_size=60, max_length=30)
    train = told(data, 0)
    assert train == {i: said(i).lower() for i in train}
    (tmp_path / "tokenizer.json").write_text(learn(map(said, range(12)), "bpe", 40).vocabulary)
    given = made(tmp_path, tokenizer=str(tmp_path / "tokenizer.json"), max_length=30)
    assert given.vocabulary == (tmp_path / "tokenizer.json").read_text()
    assert {**told(given, 0), **told(given, 1)} == {i: said(i).lower() for i in range(12)}
    assert len(tokenizer(given.vocabulary)) <= 40


def test_a_broken_image_is_replaced_with_its_caption(tmp_path):
    as_json(draw(tmp_path))
    (tmp_path / NAMES[5]).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="skipping unreadable image"):
        data = made(tmp_path, val_size=0)
    images, tokens, _ = data._datasets()[0].__getitems__([5])
    assert int(images[0, 0, 0, 0]) == 60
    assert data.tokenizer.decode(tokens[0]) == "square six of grey"


def test_captions_of_images_that_are_not_there_are_counted(tmp_path):
    as_json(draw(tmp_path))
    for name in NAMES[:2]:
        (tmp_path / name).unlink()
    with pytest.warns(UserWarning, match=r"captions.json has captions of 2 images that are not in "):
        made(tmp_path)


def without(count):
    return lambda root: (root / "captions.json").write_text(json.dumps({name: "a" for name in NAMES[count:]}))


def holding(name, content):
    return lambda root: (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())


LINE = "a" * 100
BAD = [
    (
        without(7),
        r"7 of the 12 images in .* have no caption: 00.png, .* 04.png and 2 more; expected them in ",
    ),
    (
        lambda root: None,
        r"12 of the 12 images in .* have no caption: 00.png, .*; expected a .txt file for each ",
    ),
    (holding("captions.json", json.dumps(dict.fromkeys(NAMES, "?!"))), r"12 captions in .*captions.json have no words"),
    (holding("captions.json", "{"), r"captions.json is not JSON \(Expecting property name .* at line 1\)"),
    (holding("captions.json", "[]"), r"captions.json holds \[\]; expected image names with a caption"),
    (holding("captions.json", json.dumps([LINE])), r"captions.json holds \['a{58}\.\.\.; expected"),
    (holding("captions.json", '{"00.png": 3}'), r"gives '00.png' the caption 3; expected texts"),
    (
        holding("captions.json", b'{"00.png": "\xff"}'),
        r"captions.json is not text in UTF-8 \(invalid start byte",
    ),
    (
        holding("captions.json", '{"annotations": [{"bbox": 1}], "images": []}'),
        r"not in COCO's layout \('image_id'",
    ),
    (holding("captions.json", '{"annotations": []}'), r"not in COCO's layout \('images' is missing\)"),
    (
        holding("captions.jsonl", '{"file": "a"}'),
        r"line 1 of .*captions.jsonl is {'file': 'a'}; expected an object",
    ),
    (
        holding("captions.jsonl", "\n[1]\n"),
        r"line 2 of .*captions.jsonl is \[1\]; expected an object with file_n",
    ),
    (holding("captions.jsonl", '{"file": "a"'), r"line 1 of .*captions.jsonl is not JSON"),
]


@pytest.mark.parametrize(("write", "message"), BAD)
def test_bad_captions_are_one_sentence(tmp_path, write, message):
    write(draw(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        made(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_empty_text_is_named(tmp_path):
    as_texts(draw(tmp_path))
    (tmp_path / "03.txt").write_text("\n")
    with pytest.raises(ValueError, match=r"1 captions in .* have no words, those of 03.png"):
        made(tmp_path)


def test_captions_of_other_words_are_refused(tmp_path):
    as_json(draw(tmp_path))
    (tmp_path / "words.txt").write_text("cat\ndog\n")
    with pytest.raises(
        ValueError, match=r"no word of the training captions is known, such as 'Square .*; known are cat"
    ):
        made(tmp_path, tokenizer=str(tmp_path / "words.txt"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"captions": "none.json"}, "captions must be a file .*, but none.json is none"),
        ({"templates": ("a photo",)}, "templates contains 'a photo'; expected captions with one {}"),
        ({"templates": ()}, r"templates contains \(\); expected"),
        ({"templates": ("a {}",)}, "templates needs images in class folders, but .*00.png is in none"),
        ({"templates": ("a {}",), "captions": "a.json"}, "expected only one of them"),
        ({"tokenizer": "letters"}, "tokenizer is letters; expected words, bpe or a file"),
        ({"max_length": 0}, "max_length must be"),
        ({"vocabulary_size": 2}, "vocabulary_size must be"),
        ({"min_count": 0}, "min_count must be"),
        ({"min_count": 99}, "the captions contain no word that occurs 99 times"),
        ({"val_size": 12}, r"val_size must be less than the number of images \(12\)"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, options, message):
    as_json(draw(tmp_path))
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        made(tmp_path, **options)
