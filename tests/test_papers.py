"""The papers of the project agree with its code: licence, extras, release notes, issue forms, jobs."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from gans import __version__

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FORMS = [path for path in sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")) if path.stem != "config"]


def test_the_licence_is_that_of_its_file():
    text = (ROOT / "LICENSE").read_text()
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "Copyright 2026 the authors of Lightning GANs" in text
    assert "Apache-2.0" in (ROOT / "README.md").read_text()


def test_every_extra_that_a_sentence_names_exists():
    files = [path for room in ("gans", "datamodules", "tests", "scripts") for path in (ROOT / room).rglob("*")]
    files = [ROOT / "README.md", *(path for path in files if path.suffix in (".py", ".md"))]
    named = {name for path in files for name in re.findall(r'(?:lightning-gans|"\.)\[([a-z]+)\]', path.read_text())}
    assert {"hub", "ui"} <= named
    assert named <= EXTRAS.keys()


def test_every_extra_can_be_tested():
    def packages(extra):
        return {re.match(r"[\w-]+", line)[0] for line in EXTRAS[extra]}

    without = {name: packages(name) - packages("test") for name in EXTRAS}
    assert {name: left for name, left in without.items() if left} == {"mlflow": {"mlflow"}}  # tested as mlflow-skinny
    assert "mlflow-skinny" in packages("test")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_is_one_that_github_accepts(path):
    form = yaml.safe_load(path.read_text())
    assert form.keys() <= {"name", "description", "title", "labels", "assignees", "body"}
    assert all(isinstance(form[key], str) for key in ("name", "description"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    assert len({field["id"] for field in fields}) == len(fields)
    assert any(field.get("validations", {}).get("required") for field in fields)
    for field in fields:
        assert field["type"] in ("textarea", "input", "dropdown", "checkboxes")
        assert field["attributes"]["label"]
        assert ("options" in field["attributes"]) == (field["type"] in ("dropdown", "checkboxes"))


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(name):
    folder = ROOT / ".github"
    links = re.findall(r"\]\(([^)#]+)", (folder / name).read_text())
    assert links
    assert [link for link in links if not (folder / link).exists()] == []


def test_the_release_notes_begin_with_this_version():
    notes = (ROOT / ".github" / "CHANGELOG.md").read_text()
    assert re.search(r"^## ([\d.]+)", notes, re.MULTILINE)[1] == __version__


def test_the_jobs_call_stages_that_exist_and_the_oldest_versions_are_the_lower_bounds():
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    jobs = flow["jobs"]["test"]["strategy"]["matrix"]["include"]
    stages = re.findall(r"^(\w+)\) ", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {job["job"] for job in jobs} == {"core", "oldest", "wheel"}
    assert {job["run"] for job in jobs} == {f".ci/run {stage}" for stage in stages}
    done = subprocess.run([sys.executable, ROOT / ".ci" / "oldest.py"], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == len(PROJECT["dependencies"])
    assert lines[0] == "torch==2.11"
    assert subprocess.run([ROOT / ".ci" / "run", "nothing"], capture_output=True, text=True).returncode == 2
