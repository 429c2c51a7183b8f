"""The list of recipes: its groups, at the width of a terminal, as JSON, and for a reader that leaves early."""

import json
import subprocess
import sys

import pytest

import gans.models
from gans.recipes.listing import START, entries, lines, show, tasks
from gans.runs.recipes import recipes


def test_groups_follow_from_the_class_of_the_model():
    found = {entry.name: entry.group for entry in entries()}
    assert sorted(found) == list(recipes())
    assert [name for name, group in found.items() if group == "start here"] == list(START) == ["dcgan-digits", "folder"]
    for name, group in {
        "dcgan-mnist": "images",
        "stylegan2-folder": "images, on a GPU",
        "dcgan-diffaugment-mnist": "few images",
        "fastgan-faces": "few images",
        "manifold-mnist": "codes",
        "cyclegan-folder": "translation, on a GPU",
        "pix2pix-facades": "translation",
        "srgan-folder": "restoration",
        "inpainting-folder": "restoration",
        "sequence-digits": "clips",
        "imagetextencoder-digits": "text",
    }.items():
        assert found[name] == group


def test_every_model_has_the_task_of_its_class():
    known = tasks()
    for name in gans.models.__all__:
        assert known[name] == getattr(gans.models, name).task


@pytest.mark.parametrize("width", [50, 60, 80, 120])
def test_lines_are_wrapped_between_words(width):
    found = list(lines(width))
    assert max(map(len, found)) <= width
    assert found[0] == "start here"
    words = " ".join(found).split()
    assert words == " ".join(lines(None)).split()  # none is cut


def test_json_and_one_recipe(capsys):
    show(["--json"])
    held = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in held] == [entry.name for entry in entries()]
    assert held[0] == {**entries()[0]._asdict(), "group": "start here"}
    show(["dcgan-mnist"])
    assert capsys.readouterr().out == recipes()["dcgan-mnist"].read_text()
    with pytest.raises(ValueError, match="there is no key --jsn; expected a recipe, or --json"):
        show(["--jsn"])
    with pytest.raises(ValueError, match="recipes is given dcgan-mnist --json; expected one recipe, or --json"):
        show(["dcgan-mnist", "--json"])


@pytest.mark.parametrize(
    "command", ["recipes", "recipes --json", "--help", pytest.param("explore --help", marks=pytest.mark.slow)]
)
def test_a_reader_may_leave(command):
    """As `head` does: no traceback, and the exit code of a process that SIGPIPE ends."""
    program = "import sys; sys.stdin.read(); from gans.__main__ import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, *command.split()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141
