"""The recipes: one complete experiment a YAML file. `load` makes one in Python; nothing else here imports torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gans.recipes.experiment import Recipe


def load(
    name: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    model: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    trainer: dict[str, Any] | None = None,
    grid: dict[str, Any] | None = None,
    health: dict[str, Any] | None = None,
    checkpoint: dict[str, Any] | None = None,
    evaluate: dict[str, Any] | None = None,
    explore: dict[str, Any] | None = None,
    seed_everything: int | None = None,
    init_from: str | Path | None = None,
    compile: bool | str | None = None,
    tf32: bool | None = None,
    **unknown: Any,
) -> "Recipe":
    """Return the model, the data module and the trainer's arguments of a recipe, as `gans fit` makes them.

        recipe = load("dcgan-mnist", size=64, model=dict(width=32), data=dict(root="data"))
        L.Trainer(**recipe.trainer).fit(recipe.model, recipe.data)

    This run has the same weights as `gans fit dcgan-mnist --data.size 64 --model.width 32 --data.root data`. A keyword
    is a flag: `model=dict(width=32)` is `--model.width 32`. All that are not given are the recipe's. It seeds torch,
    numpy and random, as Lightning's `seed_everything` does. Load one recipe after the other: the last one loaded seeds
    the next `fit`.

    Args:
        name: of a recipe, see `gans recipes`, or the path of a YAML file, such as the config.yaml of a run.
        size: side of the images, or (height, width): the data's, from which the model takes it.
        channels: of the images: the data's, from which the model takes them.
        model: arguments of the model. Its key `class_path` replaces the class, by name or by the class itself. Its keys
            `encoder` and `autoencoder` take the names of checkpoints that `gans fit` takes.
        data: arguments of the data module. Its key `class_path` replaces the class.
        trainer: arguments of `lightning.Trainer`. Its `callbacks` may be objects. Other objects, such as a logger, go
            into `trainer` of the result.
        grid: arguments of `gans.callbacks.ImageGrid`.
        health: arguments of `gans.callbacks.Health`.
        checkpoint: arguments of `gans.engine.checkpoint.Checkpoint`.
        evaluate: arguments of `gans.callbacks.Evaluate`.
        explore: arguments of `gans.callbacks.Explore`.
        seed_everything: seed of the run.
        init_from: checkpoint from whose weights the run starts, by any name that `gans fit` takes.
        compile: whether to compile the networks, or a mode of `torch.compile`.
        tf32: whether to use TF32 for float32 products on a GPU.
        unknown: any other keyword, which is refused.

    Raises:
        ValueError: for a name or a value that `gans fit` refuses, with the nearest valid name.
    """
    from gans.commands.words import HERE
    from gans.recipes.arguments import checked, flags
    from gans.recipes.experiment import (  # here, because torch and Lightning take seconds to import
        Loaded,
        own_callbacks,
    )

    if (named := str(name)).startswith("-"):
        raise ValueError(f"name is {named}; expected a recipe or a YAML file: `gans recipes` lists the recipes")
    trainer, own = own_callbacks(trainer)
    sections = {"model": model, "data": data, "trainer": trainer, "grid": grid, "health": health}
    sections |= {"checkpoint": checkpoint, "evaluate": evaluate, "explore": explore}
    alone: dict[str, Any] = {"data.size": size, "data.channels": channels, "seed_everything": seed_everything}
    alone |= {"init_from": init_from, "compile": compile, "tf32": tf32}
    run, args = checked("fit", [named, *flags(sections, alone, unknown)])
    try:
        return Loaded("fit", run, args, own=own).recipe()
    except ValueError as error:
        raise ValueError(str(error).replace(HERE, "")) from None  # the parser's own chain is long and says less
