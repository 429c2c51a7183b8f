"""`gans blend A.ckpt B.ckpt WEIGHT`: a checkpoint between two of the same model, (1 - WEIGHT) A + WEIGHT B.

ESRGAN's network interpolation: `gans blend content.ckpt last.ckpt 0.8` keeps most of the texture of the second stage
and has fewer of its artefacts. The result makes images, and `--init_from` trains it further. No run resumes from it.
"""

import hashlib
import shlex
from pathlib import Path
from typing import Any

from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.engine.blend import apart, blend, check_alike, differing
from gans.engine.checkpoint import load_model
from gans.engine.interface import translates
from gans.published.checkpoint import save
from gans.recipes.named import trained

UNRELATED = 0.7  # relative distance of weights; independent ones are 1.4 apart


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans blend", description=__doc__)
    flags.add_argument("first", type=Path, help="a checkpoint, such as content.ckpt of the first stage")
    flags.add_argument("second", type=Path, help="another of the same model, such as last.ckpt")
    flags.add_argument("weight", type=float, help="of the second, from 0 to 1")
    flags.add_argument("--out", type=Path, help="checkpoint to write; by default blend-WEIGHT.ckpt beside the second")
    add_own_model(flags)
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    weight = options.weight
    if not 0 <= weight <= 1:
        raise ValueError(f"weight is {weight}; expected a number from 0 to 1")
    paths = [trained(options.first), trained(options.second)]
    out = options.out or paths[1].with_name(f"blend-{weight:g}.ckpt")
    if out.suffix != ".ckpt":
        raise ValueError(f"out is {out}; expected a name that ends with .ckpt")
    if any(out.resolve() == path.resolve() for path in paths):
        raise ValueError(f"out is {out}, a checkpoint that is read; expected another")
    first, second = (load_model(path, model=own_model(options.model)) for path in paths)
    try:
        check_alike(first, second)
    except ValueError as error:
        raise ValueError(f"{paths[0]} and {paths[1]} cannot be blended: {error}") from error
    check_writable(out.parent)
    distance = apart(first, second)
    blend(first, second, weight)
    noted = origin(first, second, paths, weight)
    second.origin = noted  # type: ignore[assignment]
    save(second, out)
    print(f"blended      {noted['source']} ({type(second).__name__})")
    print(f"apart        {distance:.3f}, relative to the weights of {paths[1].name}")
    if distance > UNRELATED:
        print("             which is far: blends work for weights that descend from the same ones")
    for name, values in differing(first, second).items():
        print(f"differing    {name} ({values[0]}, {values[1]}); the second is kept")
    print(f"checkpoint   {out}\n")
    name = shlex.quote(str(out))
    print(f"gans predict {name} --input DIR --output DIR" if translates(second) else f"gans sample {name}")


def origin(first: Any, second: Any, paths: list[Path], weight: float) -> dict[str, Any]:
    """Return where the weights of a blend are from, as imported checkpoints have it, with the licences that they note.

    Args:
        first: a model.
        second: the other model.
        paths: of their checkpoints.
        weight: of the second.
    """
    before = [model.origin for model in (first, second)]
    licences = dict.fromkeys(part["licence"] for part in before if part.get("licence"))
    missing = dict.fromkeys(name for part in before for name in part.get("missing", ()))
    told = [f"{share:g} of {path}" for share, path in zip((1 - weight, weight), paths, strict=True)]
    for i, part in enumerate(before):
        told[i] += f" ({part['source']})" if part.get("source") else ""
    return {
        "kind": "blend",
        "source": " and ".join(told),
        **({"licence": " and ".join(licences)} if licences else {}),
        "files": {str(path): digest(path) for path in paths},
        "arguments": before[1].get("arguments", {}),
        "missing": list(missing),
    }


def digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
