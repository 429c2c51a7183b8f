"""Tokenizers of captions: what is a word, what becomes of unknown and long sentences, and both kinds of vocabulary."""

import json
import pickle
import sys

import pytest
import torch

from datamodules import text
from datamodules.text import Subwords, Words, learn, tokenizer, words

CAPTIONS = ["A red seven, on blue.", "the digit 7 in RED!", "a blue one"]


def test_words_are_runs_of_letters_digits_and_apostrophes_of_any_script():
    assert words("It's a RED_seven—No. 7, 'quoted' and ½!") == [
        "it's",
        "a",
        "red",
        "seven",
        "no",
        "7",
        "quoted",
        "and",
        "1",
        "2",
    ]
    assert words("L\u2019été À \uff26ull") == ["l'été", "à", "full"]
    assert words("हिन्दी 七 семь İ") == ["हिन्दी", "七", "семь", "i̇"]
    assert words(" -- ' \n") == []
    for word in words("\u210c İ ﬁ ẞ Ǆ \uff07 Σ"):
        assert words(word) == [word], "a word looked up again is itself"


def test_words_become_numbers_with_padding_behind():
    made = tokenizer(["red", "seven", "on"])
    tokens, lengths = made(["Seven red", "red, ON a seven"], 5)
    assert tokens.tolist() == [[3, 2, 0, 0, 0], [2, 4, 1, 3, 0]]
    assert lengths.tolist() == [2, 4]
    assert tokens.dtype == lengths.dtype == torch.int64
    assert (len(made), made.vocabulary, made.padding, made.cut) == (5, ("red", "seven", "on"), 0, 0)
    assert made.decode(tokens[1]) == "red on [?] seven"
    assert made.unknown("red on A blue seven") == ["a", "blue"]
    assert made([], 4)[0].shape == (0, 4)


def test_long_sentences_are_cut_and_counted():
    made = tokenizer(["a", "b"])
    tokens, lengths = made(["a b a b", "b a b", "b a"], 2)
    assert tokens.tolist() == [[2, 3], [3, 2], [3, 2]]
    assert lengths.tolist() == [2, 2, 2]
    assert made.cut == 2


def test_the_order_of_captions_does_not_matter_to_what_is_learned():
    made = learn(CAPTIONS)
    assert isinstance(made, Words)
    assert made.vocabulary == ("a", "blue", "red", "7", "digit", "in", "on", "one", "seven", "the")
    assert learn(CAPTIONS[::-1]).vocabulary == made.vocabulary
    assert learn(CAPTIONS, size=4).vocabulary == ("a", "blue")
    assert learn(CAPTIONS, min_count=2).vocabulary == ("a", "blue", "red")
    again = tokenizer(list(made.vocabulary))
    assert torch.equal(again(CAPTIONS, 6)[0], made(CAPTIONS, 6)[0])


def test_parts_of_words():
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    made = learn(CAPTIONS, "bpe", 60)
    assert isinstance(made, Subwords)
    assert all(learn(CAPTIONS, "bpe", 60).vocabulary == made.vocabulary for _ in range(5)), "in every process too"
    tokens, lengths = made([*CAPTIONS, "a  RED, one"], 12)
    assert len(made) <= 60
    assert int(tokens.max()) < len(made)
    assert [made.decode(row) for row in tokens[2:]] == ["a blue one", "a red, one"]
    assert tokens[3].count_nonzero() == lengths[3] == 4
    assert made.unknown("red nod qqq on qqq") == ["qqq", "qqq"], "nod is made of known parts"
    again = pickle.loads(pickle.dumps(tokenizer(made.vocabulary)))
    assert torch.equal(again(CAPTIONS, 12)[0], tokens[:3])
    cut, lengths = made(CAPTIONS, 3)
    assert torch.equal(cut, tokens[:3, :3])
    assert (lengths.tolist(), made.cut) == ([3, 3, 3], 2)


def test_a_given_tokenizer_keeps_its_own_numbers():
    hugging = pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    table = {"<unk>": 0, "red": 1, "seven": 2, "<s>": 3, "</s>": 4, "<pad>": 5}
    given = hugging.Tokenizer(hugging.models.WordLevel(table, unk_token="<unk>"))
    given.pre_tokenizer = hugging.pre_tokenizers.Whitespace()
    given.add_special_tokens(["<s>", "</s>", "<pad>"])
    given.post_processor = hugging.processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 3), ("</s>", 4)]
    )
    given.enable_padding(pad_id=5, pad_token="<pad>", length=9)
    given.enable_truncation(2)
    made = tokenizer(given.to_str())
    tokens, lengths = made(["red seven", "red two seven red"], 5)
    assert tokens.tolist() == [[3, 1, 2, 4, 5], [3, 1, 0, 2, 4]], "what is put at the end is not cut off"
    assert (lengths.tolist(), made.padding, made.cut) == ([4, 5], 5, 1)
    assert made.unknown("red two seven") == ["two"]
    assert made.known() == ["<unk>", "red", "seven"]
    assert made.decode(tokens[0]) == "red seven"
    with pytest.raises(ValueError, match="max_length is 2; expected more"):
        made(["red seven"], 2)
    with pytest.raises(ValueError, match=r"the sentence ' ' is empty"):
        made(["red", " "], 4)


def test_sentences_without_a_known_word_are_refused():
    made = learn(CAPTIONS)
    made.check_known(["a purple cow"])
    with pytest.raises(ValueError, match=r"no word of 'Purple cow!' is known; known are a, blue, red, 7, .*, the$"):
        made.check_known(["red", "Purple cow!"])
    with pytest.raises(ValueError, match=r"known are .* and 80 more$"):
        tokenizer([f"w{i}" for i in range(100)]).check_known(["x"])


def test_parts_without_a_known_one_are_refused():
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    with pytest.raises(ValueError, match=r"no word of 'QQQ zzz' is known; known are !, ,, ., 7, a, b"):
        learn(CAPTIONS, "bpe", 60).check_known(["QQQ zzz"])


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: tokenizer(["red"])(["red", "?!"], 3), r"the sentence '\?!' is empty; expected at least one word"),
        (lambda: tokenizer(["red"])(["red"], 0), "max_length must be an integer of at least 1"),
        (lambda: tokenizer([]), "vocabulary contains no words"),
        (lambda: tokenizer(["a", "b", "a"]), "vocabulary contains 'a' twice"),
        (lambda: tokenizer(["a", "Red"]), "vocabulary contains 'Red'; expected words in lower case"),
        (lambda: tokenizer(["a", "red one"]), "vocabulary contains 'red one'"),
        (lambda: tokenizer(["a", 3]), "vocabulary contains 3"),
        (lambda: tokenizer(["a"]).decode([2, 3]), "tokens contain 3; expected numbers from 0 to 2"),
        (lambda: learn(["?"]), "the captions contain no word that occurs 1 times"),
        (lambda: learn(CAPTIONS, "letters"), "tokenizer must be one of words, bpe, got 'letters'"),
        (lambda: learn(CAPTIONS, size=2), "size must be an integer of at least 3"),
    ],
)
def test_wrong_use_is_one_sentence(act, message):
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda: tokenizer("red one"), "vocabulary is 'red one'; expected words or the JSON of a tokenizers.Tokenizer"),
        (lambda: tokenizer(json.dumps({"version": "1.0", "x": [0] * 40})), r"vocabulary is '.*\.\.\.'; expected words"),
        (lambda: learn(["?!"], "bpe"), "the captions contain no word"),
        (lambda: learn(CAPTIONS, "bpe", 9), r"size is 9; expected at least \d\d, for the letters of these captions"),
    ],
)
def test_wrong_use_of_parts_is_one_sentence(act, message):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    with pytest.raises(ValueError, match=message) as caught:
        act()
    assert "\n" not in str(caught.value)


def test_without_the_package_words_work_and_parts_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    (tmp_path / "a.json").write_text("{}")
    assert len(learn(CAPTIONS)) == 12
    for act in (lambda: learn(CAPTIONS, "bpe"), lambda: tokenizer("{}"), lambda: text.read(tmp_path / "a.json")):
        with pytest.raises(ValueError, match=r'^parts of words need .* pip install "lightning-gans\[text\]"$'):
            act()


def test_tokenizers_of_files(tmp_path):
    (tmp_path / "words.txt").write_text("red\nseven\n", encoding="utf-8")
    assert text.read(tmp_path / "words.txt").vocabulary == ("red", "seven")
    (tmp_path / "words.txt").write_text("Red\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"words.txt is not a tokenizer: vocabulary contains 'Red'"):
        text.read(tmp_path / "words.txt")
    with pytest.raises(FileNotFoundError, match=r"tokenizer is none; expected words, bpe or a file"):
        text.read("none")
    (tmp_path / "words.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"words.txt is not a tokenizer: 'utf-8' codec"):
        text.read(tmp_path / "words.txt")


def test_the_json_of_a_file(tmp_path):
    pytest.importorskip("tokenizers", reason="tokenizers is not installed: the extra text")
    made = learn(CAPTIONS, "bpe", 60)
    (tmp_path / "tokenizer.json").write_text(made.vocabulary, encoding="utf-8")
    assert text.read(tmp_path / "tokenizer.json").vocabulary == made.vocabulary
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"tokenizer.json is not a tokenizer: vocabulary is '{}'"):
        text.read(tmp_path / "tokenizer.json")
