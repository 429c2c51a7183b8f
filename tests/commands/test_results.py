"""`gans results`: a list of runs that is killed and continued, its file, its README and its pictures."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import readme_blocks
from PIL import Image

from gans.commands import results_page as page
from gans.commands.results_file import merged
from gans.commands.results_job import Job
from gans.commands.results_list import Entry, filled, plan
from gans.commands.results_pictures import strip
from gans.commands.results_run import Running, advance, jobs, part, share
from gans.runs import record
from gans.runs.recipes import recipes

ROOT = readme_blocks.ROOT
TINY = "{model.width: 4, data.size: 8, evaluate.features: null, trainer.accelerator: cpu}"
LIST = f"""
runs:
- {{recipe: dcgan-digits, seeds: [0, 1], steps: 4, fit: {TINY}, evaluate: {{samples: 60, reference: 60}},
   pictures: {{front.png: {{rows: 3, scale: 2}}}}}}
"""


def listed(text, path):
    path.write_text(text)
    return plan(path)


def row(name="a", seed=0, **changed):
    fixed = {
        "recipe": name,
        "fit": {},
        "state": "done",
        "steps": 100,
        "recipe_steps": 200,
        "cpu_seconds": 10,
        "date": "2026-01-01",
    }
    fixed |= {"scores": {"fid": 10.0, "recall": 0.5}, "real": {"fid": 0.1}, "protocol": "p", "machine": "m"}
    return {"name": name, "seed": seed, **fixed, "versions": {"torch": "2"}, "commit": "c" * 40, **changed}


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The list of a tiny run with two seeds, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list.yaml").write_text(LIST)
    return tmp_path / "list.yaml"


def test_runs_are_scored_and_shown(gans, small, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    code, out, err = gans("results run list.yaml --out study --jobs 2")
    assert code == 0, (out, err)
    assert out.count("done after 4 steps") == 2
    code, out, _ = gans("results run list.yaml --out study")
    assert (code, out) == (0, "")  # nothing is left to do
    assert gans("results show list.yaml --out study")[1].count("done after 4 steps") == 2
    code, _, err = gans("results write list.yaml --out study")
    assert code == 0, err
    held = json.loads(Path("study/results.json").read_text())
    assert [(each["name"], each["seed"], each["steps"]) for each in held["runs"]] == [
        ("dcgan-digits", 0, 4),
        ("dcgan-digits", 1, 4),
    ]
    first, second = held["runs"]
    assert first["scores"]["fid"] > 0
    assert first["scores"] != second["scores"]
    assert first["real"]["fid"] < first["scores"]["fid"]
    assert "60 samples of seed 0 against 60 images" in first["protocol"]
    assert first["cpu_seconds"] is not None
    text = Path("study/README.md").read_text()
    assert "| `dcgan-digits` | dcgan-digits | ![samples](pictures/dcgan-digits.jpg) | FID " in text
    assert "2 seeds, 4 of 1,500 steps" in text
    with Image.open("study/pictures/dcgan-digits.jpg") as picture:
        assert picture.height == 2 * 10 + 2  # two rows of images of 8 pixels
    with Image.open("front.png") as picture:
        assert picture.size == (2 * (8 * 10 + 2), 2 * (3 * 10 + 2))
    again = Path("study/README.md").read_text()
    gans("results write list.yaml --out study")
    assert Path("study/README.md").read_text() == again


@pytest.mark.slow
def test_a_killed_process_is_continued_by_the_next_one(gans, small, monkeypatch):
    """The run itself saves when its parent is killed, and the next process continues it in its folder."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    small.write_text(LIST.replace("seeds: [0, 1], steps: 4", "steps: 1500"))
    command = [sys.executable, "-m", "gans", "results", "run", "list.yaml", "--out", "study"]
    folder = Path("study/dcgan-digits/seed_0/dcgan-digits/version_0")

    def begun(steps):
        end = time.monotonic() + 120
        while time.monotonic() < end:
            if (folder / record.FILE).is_file() and (record.read(folder).steps or 0) > steps:
                return
            time.sleep(0.1)
        pytest.fail(Path("study/dcgan-digits/seed_0/log.txt").read_text())

    reached = 0
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        begun(reached)
        code, out, _ = gans("results run list.yaml --out study")  # a second process leaves it alone
        assert (code, out) == (0, "dcgan-digits, seed 0: another process runs it\n")
        process.send_signal(number)
        assert process.wait(60) == {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143}[number]
        end = time.monotonic() + 60
        while record.locked(folder) and time.monotonic() < end:
            time.sleep(0.1)
        assert record.read(folder).state == "stopped"
        reached = record.read(folder).steps
        assert (folder / "checkpoints" / "last.ckpt").is_file()
    seconds = record.read(folder).seconds
    assert subprocess.run(command, timeout=300).returncode == 0
    assert record.read(folder).state == "done"
    assert record.read(folder).seconds > seconds
    assert not (folder.parent / "version_1").exists()
    assert Job(plan(small).entries[0], 0, Path("study")).row["steps"] == 1500


def test_a_failed_run_is_named_and_the_others_go_on(gans, small, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    small.write_text(
        LIST.replace("seeds: [0, 1], ", "") + f"- {{recipe: dcgan-digits, name: b, fit: {TINY[:-1]}, a: 1}}}}"
    )
    code, out, _ = gans("results run list.yaml --out study")
    assert code == 1
    assert "b, seed 0: fit failed with exit code 2: gans: error: there is no key a" in out
    assert "dcgan-digits, seed 0: done" in out
    assert out.endswith("failed: b, seed 0\n")


def test_a_run_of_other_flags_is_not_continued(gans, small, tmp_path):
    Job(plan(small).entries[0], 0, tmp_path / "study").begin()
    small.write_text(LIST.replace("steps: 4", "steps: 5"))
    code, _, err = gans("results run list.yaml --out study")
    assert code == 2
    assert "holds a run with steps 4, the list has 5: remove the folder, or give the entry another `name`" in err


def test_other_scores_are_computed_anew(small, tmp_path):
    job = Job(plan(small).entries[0], 0, tmp_path)
    job.begin()
    for name in ("scores.json", "tested.json", "result.json"):
        (job.folder / name).write_text("{}")
    job.begin()
    assert job.row == {}
    other = Job(listed(LIST.replace("samples: 60", "samples: 70"), small).entries[0], 0, tmp_path)
    other.begin()
    assert other.row is None
    assert not (job.folder / "scores.json").exists()
    assert not (job.folder / "tested.json").exists()


def test_a_changed_recipe_file_is_not_continued(gans, small, tmp_path):
    own = Path("own.yaml")
    own.write_text("model: {class_path: DCGAN, init_args: {width: 4}}\ndata: {class_path: DigitsDataModule}\n")
    job = Job(listed("runs: [own.yaml]", small).entries[0], 0, tmp_path / "study")
    job.begin()
    job.check()
    own.write_text("# the same\n" + own.read_text())
    Job(plan(small).entries[0], 0, tmp_path / "study").check()
    own.write_text(own.read_text().replace("4", "8"))
    code, _, err = gans("results run list.yaml --out study")
    assert code == 2
    assert "holds a run of own.yaml as it was before it changed: remove the folder, or give the entry" in err


def test_a_command_without_result_fails_once(small, tmp_path, monkeypatch):
    job = Job(plan(small).entries[0], 0, tmp_path)
    job.begin()
    monkeypatch.setattr(Job, "command", lambda self, given: ("test", []))
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    one = Running(job, record.lock(job.folder), open(job.folder / "log.txt", "ab"), 0, {}, process, "test")  # noqa: SIM115
    failed, told = [], []
    assert not advance(one, {}, failed, told.append)
    assert one.process is process  # not started again
    one.end()
    assert failed == [job.name]
    assert "test left no result, see " in told[0]


def test_a_folder_that_cannot_be_written_is_one_sentence(gans, small):
    Path("study").write_text("")
    code, _, err = gans("results run list.yaml --out study")
    assert (code, err) == (2, "gans: error: cannot write study/dcgan-digits/seed_0: Not a directory\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_one_sentence(gans, small):
    folder = Path("study/dcgan-digits/seed_0")
    folder.mkdir(parents=True)
    (folder / "log.txt").symlink_to("/dev/full")
    code, out, err = gans("results run list.yaml --out study")
    assert (code, out) == (1, "")
    assert f"cannot write {folder}/log.txt: No space left on device (" in err
    assert err.count("\n") == 1
    assert not record.locked(folder)


def test_own_recipes_are_scored_by_the_task_of_their_model(small, tmp_path):
    for model, key in (("Pix2Pix", "test"), ("gans.models.pix2pix.Pix2Pix", "test"), ("my.Own", "evaluate")):
        (tmp_path / "own.yaml").write_text(f"model: {{class_path: {model}}}\ntrainer: {{max_steps: 7}}\n")
        (found,) = listed("runs: [own.yaml]", small).entries
        assert (getattr(found, key), found.name, found.whole) == ({}, "own", 7)


def test_values_of_flags_are_written_as_the_command_line_reads_them():
    flags = {
        "model.betas": [0.5, 0.9],
        "seeds": [0, 1],
        "data.flip": False,
        "a.b": {"c": None},
        "evaluate.features": None,
    }
    words = ["--model.betas=[0.5, 0.9]", "--seeds", "0", "1", "--data.flip=false", '--a.b={"c": null}']
    assert filled(flags, {}) == [*words, "--evaluate.features=null"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("runs: [dcgan-mist]", "there is no recipe dcgan-mist (did you mean dcgan-mnist?)"),
        ("runs: [{recipe: dcgan-mnist, seed: 1}]", "has a key seed (did you mean seeds?)"),
        ("runs: [{recipe: dcgan-mnist, seeds: 3}]", "seeds is 3; expected a list of integers of at least 0"),
        ("runs: [{recipe: dcgan-mnist, seeds: [true]}]", "seeds is [True]; expected a list of integers"),
        (
            "runs: [{recipe: dcgan-mnist, seeds: [4294967296]}]",
            "expected a list of integers of at least 0, below 2**32",
        ),
        ("runs: [{recipe: dcgan-mnist, seeds: [1, 1]}]", "(dcgan-mnist): seeds is [1, 1]; expected each once"),
        ("runs: [dcgan-digits, dcgan-mist]", "run 2 (dcgan-mist): there is no recipe dcgan-mist"),
        ("runs: [{recipe: dcgan-mnist, name: ..}]", "name is ..; expected a letter or digit, then letters, digits"),
        ("runs: [{recipe: dcgan-mnist, picture: 3}]", "picture is 3; expected the first word of the names of grids"),
        ("runs: [{recipe: dcgan-mnist, steps: 0}]", "steps is 0; expected an integer of at least 1"),
        ("runs: [{recipe: dcgan-mnist, fit: [a]}]", "fit is ['a']; expected keys with values"),
        ("runs: [{recipe: dcgan-mnist, name: a/b}]", "name is a/b; expected a letter or digit, then letters, digits"),
        ("runs: [{recipe: dcgan-mnist, show: fid}]", "show is fid; expected a list of names of scores"),
        ("runs: [dcgan-mnist, dcgan-mnist]", "holds dcgan-mnist twice: give one of them another `name`"),
        ("runs: [{recipe: dcgan-mnist, pictures: {a.png: {row: 1}}}]", "a.png has a key row (did you mean rows?)"),
        ("runs: [{recipe: dcgan-mnist, pictures: {a.png: {scale: 0}}}]", "scale is 0; expected an integer of at least"),
        ("runs: [{seeds: [1]}]", "recipe is None; expected the name of a recipe, or a YAML file"),
        ("runs: dcgan-mnist", "runs is dcgan-mnist; expected a list of recipes"),
        ("run: [dcgan-mnist]", "has a key run (did you mean runs?); expected runs, write"),
        ("{runs: [dcgan-mnist], write: {table: a}}", "write has a key table; expected file, readme, pictures"),
    ],
)
def test_a_wrong_list_is_one_sentence(text, told, tmp_path):
    with pytest.raises(ValueError, match=re.escape(told)):
        listed(text, tmp_path / "list.yaml")


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("run absent.yaml", "there is no file absent.yaml"),
        ("rum list.yaml", "invalid choice: 'rum'"),
        ("run list.yaml --only dcgan", "only is dcgan (did you mean dcgan-digits?); expected names of the list"),
        ("run list.yaml --given mnist", "given is mnist; expected a name and a path, such as mnist=data"),
        ("run list.yaml --given mnist=absent", "given is mnist=absent, and there is nothing at absent"),
        ("run list.yaml --given mnist=.", "given is mnist, which no entry names; expected none"),
        ("run list.yaml --jobs 0", "0 is no integer of at least 1"),
    ],
)
def test_wrong_flags_are_one_sentence(gans, small, flags, told):
    code, _, err = gans(f"results {flags}")
    assert code == 2
    assert told in err
    assert err.count("\n") == 1


def test_entries_without_their_paths_are_left_out(gans, small):
    small.write_text('runs: [{recipe: dcgan-mnist, fit: {data.root: "{mnist}"}}]')
    code, out, _ = gans("results run list.yaml --out study")
    assert (code, out) == (0, "dcgan-mnist, seed 0: left out, it needs --given mnist=PATH\n")
    assert not Path("study").exists()


def test_first_seeds_run_before_second_ones_and_an_array_shares_them(tmp_path):
    todo = jobs([Entry("a", "a", (0, 1)), Entry("b", "b", (5,)), Entry("c", "c", (0, 1))], tmp_path)
    assert [job.name for job in todo] == ["a, seed 0", "b, seed 5", "c, seed 0", "a, seed 1", "c, seed 1"]
    array = {"SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_MAX": "3", "SLURM_ARRAY_TASK_COUNT": "3"}
    parts = [share(todo, array | {"SLURM_ARRAY_TASK_ID": str(task)}) for task in (1, 2, 3)]
    assert sorted(job.name for part in parts for job in part) == sorted(job.name for job in todo)
    assert share(todo, {}) == todo
    with pytest.raises(ValueError, match="has gaps between 1 and 9; expected one such as 0-7"):
        share(todo, array | {"SLURM_ARRAY_TASK_ID": "1", "SLURM_ARRAY_TASK_MAX": "9"})


@pytest.mark.parametrize(
    ("at_once", "environment", "gpus", "visible"),
    [
        (1, {}, 4, [None]),  # all of them
        (2, {}, 0, [None, None]),
        (2, {}, 1, [None, None]),
        (2, {}, 4, ["0,2", "1,3"]),
        (2, {"CUDA_VISIBLE_DEVICES": "5,7"}, 2, ["5", "7"]),
        (3, {}, 2, ["0", "1", "0"]),
    ],
)
def test_jobs_share_the_gpus(at_once, environment, gpus, visible):
    parts = [part(place, at_once, environment, gpus) for place in range(at_once)]
    assert [each.get("CUDA_VISIBLE_DEVICES") for each in parts] == visible
    assert {int(each["OMP_NUM_THREADS"]) for each in parts} == {max(1, os.cpu_count() // at_once)}
    assert part(0, at_once, {"OMP_NUM_THREADS": "3"}, gpus)["OMP_NUM_THREADS"] == "3"


def test_the_file_keeps_other_runs_and_replaces_the_same(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"runs": [row("b"), row("a", 1, steps=7)], "tables": {}}))
    found = merged(path, [row("a"), row("a", 1)])
    assert [(each["name"], each["seed"], each["steps"]) for each in found] == [
        ("a", 0, 100),
        ("a", 1, 100),
        ("b", 0, 100),
    ]
    path.write_text('{"runs": 3}')
    with pytest.raises(ValueError, match="is damaged: runs is no list of results"):
        merged(path, [])


def test_a_row_has_means_over_the_seeds_and_what_they_depend_on():
    legend = page.Legend()
    two = [row(), row(seed=1, scores={"fid": 14.0, "recall": 0.7})]
    assert page.result(two, None, legend) == (
        "FID 12.0 ± 2.8 (real 0.100), recall 0.600 ± 0.141<br>2 seeds, 100 of 200 steps, 10 CPU s<br>"
        "protocol 1, A, `ccccccc`"
    )
    # A run of another length is no further seed of it.
    longer = [*two, row(seed=2, steps=200, date="2026-02-01")]
    assert page.result(longer, None, legend).split("<br>")[1] == "seed 2, 200 steps, 10 CPU s"
    assert "seed 0, 300 steps, 10 CPU s" in page.result([row(steps=300)], None, legend)  # more than the recipe's
    lost = [row(), row(seed=1, state="diverged", steps=50, date="2025-01-01", scores={})]
    assert "seed 0, 100 of 200 steps, 10 CPU s<br>1 diverged" in page.result(lost, None, legend)
    lost = [row(state="diverged", steps=50, scores={}), row(seed=1, scores={"fid": 12.0}), row(seed=2, fit={"a": 1})]
    assert page.result(lost[:2], None, legend).startswith("FID 12.0 (real 0.100)<br>seed 1, 100 of 200 steps")
    assert "<br>seed 1, " in page.result(lost, None, legend)  # other flags, other runs
    with pytest.raises(ValueError, match=r"a: show is fdi \(did you mean fid\?\), which no run has; expected fid"):
        page.result([row()], Entry("a", "a", show=("fdi",)), legend)
    tested = [row(scores={"fid/mnist": 9.0, "baseline/fid/mnist": 300.0, "l1": 1.0}, real={})]
    assert page.result(tested, None, legend).startswith("FID (mnist) 9.00 (input 300)<br>")
    assert page.result(tested, Entry("a", "a", show=("l1",)), legend).startswith("l1 1.00<br>")


def test_the_first_cells_of_a_row_are_a_writers():
    before = "| r | w | s | x |\n|-|-|-|-|\n| `a` | my words |\n| `b` | others | old | old |\n| `c` | [c](#c) |\n"
    text = f"# A\n<!-- recipes -->\n{before}<!-- /recipes -->\n\n<!-- protocols -->\n<!-- /protocols -->\n"
    made = page.filled(text, [], [row()], {"a": "a.jpg"})
    assert "| `a` | my words | ![samples](a.jpg) | FID 10.0 (real 0.100), recall 0.500<br>seed 0, " in made
    assert "| `b` | others |  | not run |\n| `c` | [c](#c) |  | see the section |\n" in made
    assert "1. p\n\n- Machine A: m, torch 2\n" in made
    assert page.filled(made, [], [row()], {"a": "a.jpg"}) == made
    assert page.names(made, [Entry("d", "d")]) == {"a", "b", "c", "d"}
    several = f"{made}\n<!-- recipes -->\n<!-- /recipes -->\n"
    assert page.names(several, [Entry("d", "d")]) == {"a", "b", "c"}  # a writer decides which block has it


def test_entries_of_a_changed_list_get_rows():
    first = page.filled(page.NEW, [Entry("a", "a")], [row()], {})
    first = first.replace("| `a` | a |", "| `a` | my words |")
    made = page.filled(first, [Entry("b", "b"), Entry("a", "a")], [row()], {})
    assert re.findall(r"^\| (`.*?) \|  \|", made, re.MULTILINE) == ["`a` | my words", "`b` | b"]
    two = first + "<!-- recipes -->\n<!-- /recipes -->\n"  # whoever wrote the blocks says what is in them
    assert "`b`" not in page.filled(two, [Entry("b", "b")], [row()], {})


def test_a_strip_is_cut_between_the_images_of_a_grid():
    grid = Image.new("RGB", (2 + 20 * 34, 11 + 2 + 20 * 34), "white")  # 20 x 20 images of 32 pixels below a heading
    for i in range(20):
        for j in range(20):
            grid.paste((10 * i, 10 * j, 0), (2 + 34 * i, 13 + 34 * j, 34 + 34 * i, 45 + 34 * j))
    found = strip(grid, (32, 32))
    assert found.size == (2 + 12 * 34, 2 + 2 * 34)
    assert [found.getpixel((17 + 34 * i, 17)) for i in (0, 11)] == [(0, 0, 0), (110, 0, 0)]
    assert found.getpixel((17, 51)) == (0, 10, 0)
    shrunk = strip(grid.copy(), (50, 50))  # of another size
    assert shrunk.size == (420, 105)
    assert shrunk.getpixel((408, 20))[0] > 150  # its last column
    assert strip(Image.new("RGB", (2 + 3 * 258, 2 + 258)), (256, 256)).width <= 420


# -- the results of the recipes ----------------------------------------------------------------------------------------


def test_the_list_of_the_recipes_is_sound():
    found = plan(ROOT / "scripts" / "results.yaml")
    assert {entry.recipe for entry in found.entries} <= set(recipes())
    assert all((ROOT / path).is_file() for entry in found.entries for path in entry.pictures)
    assert all((ROOT / path).parent.is_dir() for path in found.places.values())


def test_the_readme_of_the_recipes_shows_the_file():
    found = plan(ROOT / "scripts" / "results.yaml")
    readme, rows = ROOT / found.places["readme"], merged(ROOT / found.places["file"], [])
    text = readme.read_text(encoding="utf-8")
    strips = page.links(ROOT / found.places["pictures"], readme, page.names(text, found.entries))
    assert page.filled(text, found.entries, rows, strips) == text
    shown = [cells[0].strip("`") for block in page.BLOCK.finditer(text) for cells in page.written(block[3])]
    assert sorted(shown) == sorted(recipes())
    assert {path.stem for path in (ROOT / found.places["pictures"]).glob("*")} == set(strips)


def test_the_lock_of_a_dead_process_does_not_hold(small, tmp_path):
    job = Job(plan(small).entries[0], 0, tmp_path)
    job.begin()
    pid = os.fork()
    if pid == 0:
        record.lock(job.folder)
        os._exit(0)
    os.waitpid(pid, 0)
    assert not record.locked(job.folder)
