"""The shell commands that the README files show, and a way to parse one without running it."""

import argparse
import contextlib
import importlib
import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import jsonargparse
import readme_blocks

from gans.__main__ import VERBS, on_pictures
from gans.__main__ import main as gans
from gans.recipes.arguments import checked
from gans.runs.recipes import recipes

ROOT = readme_blocks.ROOT
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROGRAMS = "gans|python|pip|pytest|torchrun|sbatch|tensorboard"
PLACEHOLDERS = {"RECIPE": "dcgan-mnist", "SEED": "0"}


class Parsed(BaseException):
    """A parser has understood its command line; whatever would run next is not run."""


def commands() -> Iterator[tuple[str, list[str]]]:
    """Yield the place and the words of every command: in blocks of bash, and in inline code with arguments.

    Inline code that is cut short by `...`, or that is the name of a command, such as `gans explore ui`, is left out.
    """
    for place, block in readme_blocks.fenced("bash").items():
        for line in block.replace("\\\n", " ").splitlines():
            if words := shlex.split(line, comments=True):
                yield place, words
    for path, text in readme_blocks.readmes().items():
        prose = readme_blocks.FENCE.sub("", text)
        for code in re.findall(rf"(?<!`)`((?:\w+=\S+ )?(?:{PROGRAMS}) [^`]+)`(?!`)", prose):
            words = shlex.split(code.replace("\\|", "|"), comments=True)
            name = len(words) < 3 or (words[1] == "explore" and len(words) == 3)
            if not name and "..." not in code:
                yield path, words


@contextlib.contextmanager
def only_parsing() -> Iterator[list[jsonargparse.ArgumentParser]]:
    """Let a parser raise `Parsed` in place of a result; give the list of those that have parsed.

    A parser may call others, for subcommands. The outermost one raises.
    """
    used: list[jsonargparse.ArgumentParser] = []
    running: list[argparse.ArgumentParser] = []
    real = {kind: kind.parse_args for kind in (argparse.ArgumentParser, jsonargparse.ArgumentParser)}

    def stopping(kind):
        def parse_args(self, *args, **kwargs):
            running.append(self)
            try:
                found = real[kind](self, *args, **kwargs)
            finally:
                running.pop()
            if running:
                return found
            used.append(self)
            raise Parsed

        return parse_args

    for kind in real:
        kind.parse_args = stopping(kind)
    try:
        yield used
    finally:
        for kind, method in real.items():
            kind.parse_args = method


class Checker:
    """Parses commands in the current folder, which gets the files that the parsers look for.

    The trainer's parser of each verb is built once, by the first of its commands.
    """

    def __init__(self) -> None:
        self.trainers: dict[str, jsonargparse.ArgumentParser] = {}
        for name in recipes():
            run = Path("runs", name, "version_0", "checkpoints")
            run.mkdir(parents=True)
            (run / "last.ckpt").touch()
        for code in readme_blocks.blocks().values():
            if "class MyGAN" in code:
                Path("my_gan.py").write_text(code)

    def check(self, words: list[str]) -> None:
        """Raise a ValueError for a command that would not be understood."""
        while re.match(r"\w+=", words[0]):
            words = words[1:]
        words = [PLACEHOLDERS.get(word, word) for word in words]
        words = words[: words.index(">")] if ">" in words else words
        program, *args = words
        if program == "sbatch" and "--wrap" in args:
            program, *args = shlex.split(args[args.index("--wrap") + 1])
        if program == "torchrun":
            args = args[args.index("-m") + 1 :]
            program, args = args[0], args[1:]
        elif program == "sbatch":
            program, args = args[0], ["fit", *args[1:]]
            if not (ROOT / program).is_file():
                raise ValueError(f"there is no {program}")
            program = "gans"
        elif program == "python" and args[:2] == ["-m", "gans"]:
            program, args = "gans", args[2:]
        if program == "gans":
            self.check_gans(args)
        elif program == "python":
            self.check_script(*args)
        elif program == "pip":
            extras = re.findall(r"\.\[(\w+)\]", " ".join(args))
            if args[0] != "install" or set(extras) - set(PROJECT["project"]["optional-dependencies"]):
                raise ValueError(f"pip {args}: no such extra in pyproject.toml")
        elif program == "pytest":
            check_pytest(args)
        elif program == "tensorboard":
            if args[:1] != ["--logdir"] or len(args) != 2:
                raise ValueError(f"tensorboard {args}")
        elif program == "scripts/gpu_check.sh" and not args:
            if not (ROOT / program).is_file():
                raise ValueError(f"there is no {program}")
        elif program != ".ci/run":
            raise ValueError(f"no rule for {program}: add one here")

    def check_gans(self, args: list[str]) -> None:
        """Parse a `gans` command."""
        for before, arg in zip(["", *args], args, strict=False):
            if arg.endswith(".yaml"):
                Path(arg).parent.mkdir(parents=True, exist_ok=True)
                Path(arg).write_text(recipes()["dcgan-digits"].read_text(encoding="utf-8"))
            elif before == "--data" and not arg.endswith("DataModule"):
                Path(arg).mkdir(parents=True, exist_ok=True)
        if args and args[0] in VERBS and re.search(r"--(\w+\.)?help", " ".join(args)):
            return  # it takes seconds to build the help of hundreds of flags
        verb = args[0] if args and args[0] in VERBS and not on_pictures(args[0], args[1:]) else ""
        if verb in self.trainers:
            try:
                self.trainers[verb].parse_args([verb, *checked(verb, args[1:])[1]])
            except SystemExit as end:
                if end.code:
                    raise ValueError(f"exit code {end.code}") from end
            return
        with only_parsing() as used:
            try:
                code = gans(args)
            except Parsed:
                if verb:
                    [self.trainers[verb]] = used
                return
        if code != 0:
            raise ValueError("refused")

    def check_script(self, path: str, *args: str) -> None:
        """Parse the command line of a script, or find the script that is run as a whole."""
        if not (ROOT / path).is_file():
            raise ValueError(f"there is no {path}")
        name = Path(path).stem
        if name in ("train", "sample", "explore", "results"):
            self.check_gans([*([] if name == "train" else [name]), *args])
        elif Path(path).parent.name == "scripts":
            [starts] = re.findall(r"^from (gans\.\S+) import main$", (ROOT / path).read_text(), re.MULTILINE)
            command = importlib.import_module(starts)
            try:
                with only_parsing():
                    getattr(command, "parse", command.main)(list(args))
            except Parsed:
                return
            except SystemExit as end:
                raise ValueError(f"exit code {end.code}") from end
        elif args:
            raise ValueError(f"no rule for {path} {args}: add one here")


def check_pytest(args: list[str]) -> None:
    """Raise a ValueError for a marker, or a path, that does not exist."""
    markers = {line.split(":")[0] for line in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    for before, arg in zip(["", *args], args, strict=False):
        if before == "-m" and set(re.findall(r"\w+", arg)) - markers - {"and", "or", "not"}:
            raise ValueError(f"no such marker: {arg}")
        if "/" in arg and not (ROOT / arg.split("::")[0]).exists():
            raise ValueError(f"there is no {arg}")


def main() -> int:
    """Print every command of the README files."""
    for place, words in commands():
        print(place, shlex.join(words))
    return 0


if __name__ == "__main__":
    sys.exit(main())
