"""What the README of a room says of its code: the table of its files, and the path of an evaluation."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = sorted(path.parent.name for path in (ROOT / "gans").glob("*/README.md"))


def rows(text):
    """Return the first cell and the rest of every row of a table."""
    return re.findall(r"^\| ([^|]*`[^|]*) \|(.*)\|$", text, re.MULTILINE)


@pytest.mark.parametrize("room", ROOMS)
def test_a_readme_names_every_file_of_its_room(room):
    """Before its first section; `explore_<verb>.py` names all files of this form."""
    intro = (ROOT / "gans" / room / "README.md").read_text(encoding="utf-8").split("\n## ")[0]
    named = "|".join(re.sub(r"<\w+>", r"\\w+", name) for name in re.findall(r"`([\w<>]+)\.py`", intro))
    there = {path.stem for path in (ROOT / "gans" / room).glob("*.py")} - {"__init__"}
    assert {name for name in there if not re.fullmatch(named, name)} == set()


def test_the_path_of_an_evaluation_has_eight_files_with_what_is_said_of_them():
    text = (ROOT / "gans" / "metrics" / "README.md").read_text(encoding="utf-8")
    [section] = re.findall(r"^## The path of `gans evaluate CKPT`\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    path = rows(section)
    files = [file.strip("`") for file, _ in path]
    assert len(set(files)) == len(files) <= 8
    for i, file in enumerate(files):
        code = (ROOT / file).read_text(encoding="utf-8")
        upwards = [above for above in files[:i] if above.removesuffix(".py").replace("/", ".") in code]
        assert upwards == [], f"{file} imports files above it"
    for file, said in path:
        code = (ROOT / file.strip("`")).read_text(encoding="utf-8")
        for name in re.findall(r"`(\w+(?:\.\w+)?)`", said):
            assert re.search(rf"^ *(?:def |class )?{name.rpartition('.')[2]}\b", code, re.MULTILINE), f"{file}: {name}"
