"""A run in place of a recipe on the command line of validate, test and predict. Nothing is imported for a recipe."""

from pathlib import Path

from gans.commands.home import expanded
from gans.recipes.arguments import name_of
from gans.runs.recipes import recipes


def as_recipe(verb: str, args: list[str]) -> list[str]:
    """Return the arguments with the config.yaml of a run and `--ckpt_path` in place of the run, if they begin with one.

    Raises:
        ValueError: for `fit`, which resumes a run by its recipe, for a model without config.yaml, and for a folder or a
            run without the checkpoint.
    """
    name, *rest = args or [""]
    recipe, _, choice = name.rpartition(":")
    if recipe in recipes() and choice in ("best", "last") and verb != "fit":
        return [recipe, "--ckpt_path", name, *rest]
    if not name or name[0] == "-" or name in recipes() or name.endswith((".yaml", ".yml")):
        return args
    from gans.recipes.named import RUNS, absent, local  # imports torch, which takes seconds
    from gans.runs.folder import of_checkpoint

    named = Path(expanded(name))
    try:
        found = local(named)
    except OSError:  # a name that is too long
        return args
    if found is None:
        if verb != "fit" and (choice in ("best", "last") or named.is_dir()):
            raise ValueError(absent(named, RUNS))
        return args
    config = of_checkpoint(found) / "config.yaml"
    if verb == "fit":
        told = f"gans fit {name_of(config)} --ckpt_path last resumes it, --init_from starts from its weights"
        raise ValueError(f"{name} is a run; expected a recipe or a YAML file: {told}")
    if not config.is_file():
        raise ValueError(f"{name} holds no config.yaml: give a recipe, and --ckpt_path {name}")
    return [str(config), "--ckpt_path", str(found), *rest]
