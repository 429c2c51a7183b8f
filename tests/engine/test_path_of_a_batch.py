"""The path of one batch, as the engine's README names it: four files, and lines of code that they hold."""

import re
from pathlib import Path

import pytest

from gans.engine.module import AdversarialModule
from gans.models import DCGAN, GAN, SNGAN, WGANGP

ROOT = Path(__file__).parent.parent.parent
README = (ROOT / "gans" / "engine" / "README.md").read_text(encoding="utf-8")
[SECTION] = re.findall(r"^## The machine on one page\n(.*?)^## ", README, re.DOTALL | re.MULTILINE)
STEPS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \|", SECTION, re.MULTILINE)


@pytest.mark.parametrize(("file", "line"), STEPS)
def test_a_line_is_in_its_file(file, line):
    lines = [text.strip() for text in (ROOT / file).read_text(encoding="utf-8").splitlines()]
    assert line in lines


def test_the_path_has_four_files_and_ends_with_a_step_of_the_generator():
    assert len(STEPS) > 10
    assert len({file for file, _ in STEPS}) == 4
    assert [line for _, line in STEPS].index("optimizer.step()") == len(STEPS) - 2


@pytest.mark.parametrize("kind", [DCGAN, WGANGP, SNGAN])
def test_other_models_take_the_same_path(kind):
    assert kind.training_step is GAN.training_step
    assert kind.descend is AdversarialModule.descend
