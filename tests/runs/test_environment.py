"""What numbers were computed with: the commit of a folder's code, and the versions."""

import subprocess

import pytest

from gans import __version__
from gans.runs.environment import commit, environment


def git(folder, *args):
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    done = subprocess.run(["git", "-C", folder, *name, *args], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A repository of one commit, which does not track the folder `other`."""
    git(tmp_path, "init", "--quiet")
    (tmp_path / "code.py").write_text("one")
    git(tmp_path, "add", "code.py")
    git(tmp_path, "commit", "--quiet", "--message", "one")
    git(tmp_path, "tag", "v1")
    (tmp_path / "other").mkdir()
    return tmp_path


def test_the_commit_of_a_checkout_is_told_whole_and_whether_files_differ_from_it(repository):
    head = git(repository, "rev-parse", "HEAD")
    assert commit(repository) == head
    (repository / "code.py").write_text("two")
    assert commit(repository) == f"{head}-dirty"


def test_a_folder_that_git_does_not_track_has_no_commit(repository, tmp_path_factory, monkeypatch):
    assert commit(repository / "other") is None  # an installed package in an environment inside of a checkout
    assert commit(tmp_path_factory.mktemp("none")) is None
    monkeypatch.setenv("PATH", "")
    assert commit(repository) is None


def test_an_environment_names_versions_machine_and_both_commits(repository, monkeypatch):
    monkeypatch.chdir(repository)
    found = environment("cpu")
    assert found["commit_of_folder"] == git(repository, "rev-parse", "HEAD")
    assert found["commit"] != found["commit_of_folder"]
    assert found["lightning-gans"] == __version__
    assert found["device"].startswith("cpu (")
