"""`gans export`: the averaged generator of a checkpoint alone, as a file that other programs can run."""

import copy
import importlib.util
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal

import torch
from jsonargparse import Namespace
from torch import Tensor, fx, nn
from torch.nn.utils import parametrize

from gans import atomic, hub
from gans.checkpoint import load_generator
from gans.cli import Parser, add_own_model, check_writable, own_model
from gans.commands.sample import run_folder
from gans.metrics.sampling import classes, latents

Format = Literal["safetensors", "torchscript", "torch-export", "onnx"]
Run = Callable[..., Tensor]

SUFFIX = {"safetensors": ".safetensors", "torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}
COUNT = 16  # pictures that are compared
BATCHES = [1, 4, 11]  # in batches of several sizes
TOLERANCE = 1e-5


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans export", description=__doc__)
    flags.add_argument("checkpoint", type=Path, help="file that training wrote")
    add_own_model(flags)
    flags.add_argument(
        "--format",
        type=Format,
        required=True,
        help="torch-export and torchscript (which PyTorch deprecates) need torch alone, onnx needs onnxruntime alone, "
        "safetensors holds weights, for this package",
    )
    flags.add_argument("--out", type=Path, help=f"file, {', '.join(SUFFIX.values())}; by default beside the run's")
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, or an export that gives other pictures, in one sentence.
    """
    options = parsed(args)
    model: Any = load_generator(options.checkpoint, model=own_model(options.model))
    inputs = (latents(model, range(COUNT), 0), *model.conditions(COUNT, None))
    wanted = in_batches(model, inputs)
    out: Path = options.out or run_folder(options.checkpoint) / f"generator{SUFFIX[options.format]}"
    check_writable(out.parent)
    with atomic.replacing(out) as partial:
        run = written(options.format, model, inputs, partial)
        error = float((in_batches(run, inputs) - wanted).abs().max())
        if not error <= TOLERANCE:  # also true of NaN
            raise ValueError(f"the {options.format} file gives other pictures, by {error:.1e}: it was not written")
    print(f"generator    {out} ({out.stat().st_size / 1e6:.1f} MB)")
    print(f"checked      {COUNT} of its pictures differ from the checkpoint's by at most {error:.1e}\n")
    print("\n".join(snippet(options.format, model, out, tuple(wanted.shape))))


def parsed(args: list[str]) -> Namespace:
    """Return the options, checked as far as they can be without the checkpoint."""
    options = parser().parse_args(args)
    suffix = SUFFIX[options.format]
    if options.out and options.out.suffix != suffix:
        raise ValueError(f"out is {options.out}; expected a name that ends with {suffix}")
    if options.out and options.out.is_dir():
        raise ValueError(f"out is {options.out}, which is a folder; expected a file")
    for package in NEEDS.get(options.format, ()):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f'{options.format} needs {package}: pip install "lightning-gans[{options.format}]"')
    return options


@torch.no_grad()
def in_batches(run: Run, inputs: tuple[Tensor, ...]) -> Tensor:
    """Return the images `(COUNT, ...)` of inputs that are given in batches of several sizes.

    Those of the model too: a layer may round otherwise in a batch of another size, and the file is not to blame.
    """
    return torch.cat([run(*part) for part in zip(*(torch.split(value, BATCHES) for value in inputs), strict=True)])


def written(form: Format, model: Any, inputs: tuple[Tensor, ...], path: Path) -> Run:
    """Write the generator to `path`, and return the function that the file has.

    Raises:
        ValueError: if what the generator computes cannot be captured.
    """
    if form == "safetensors":
        hub.save_generator(model, path)
        alone: Run = hub.from_pretrained(path)
        return alone
    generator, write = baked(model.generator_ema), {"torchscript": script, "torch-export": program, "onnx": graph}[form]
    try:
        with silence():
            return write(generator, inputs, path)
    except OSError:
        raise
    except Exception as error:  # capturing raises almost anything
        told = (" ".join(str(error).split("\n")[0].split()) or type(error).__name__).rstrip(".")
        raise ValueError(f"the generator of {type(model).__name__} cannot be written as {form}: {told}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Keep back what the user can do nothing about: what is deprecated was asked for, what is constant is the size."""
    aside = io.StringIO()  # PyTorch prints what it could not capture
    with warnings.catch_warnings(), redirect_stdout(aside), redirect_stderr(aside):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def baked(generator: nn.Module) -> nn.Module:
    """Return a copy whose parametrisations, such as spectral norms, are computed once and for all."""
    generator = copy.deepcopy(generator).eval()
    if hasattr(generator, "baked"):
        generator = generator.baked().eval()  # type: ignore[operator]
    # Not remove_parametrizations: it takes the weight from the class, which the copied layer shares with the original.
    for part in [part for part in generator.modules() if parametrize.is_parametrized(part)]:
        found = {name: getattr(part, name).detach() for name in part.parametrizations}  # type: ignore[union-attr]
        del part.parametrizations
        part.__class__ = parametrize.type_before_parametrizations(part)
        for name, value in found.items():
            part.register_parameter(name, nn.Parameter(value))
    return generator.requires_grad_(False)


def script(generator: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Run:
    """Write TorchScript, and return what it is when it is read again."""
    # Through memory: on a full disk PyTorch's own writer ends the process.
    path.write_bytes(torch.jit.trace(generator, inputs, check_trace=False).save_to_buffer())  # type: ignore[no-untyped-call]
    read: Run = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return read


def captured(generator: nn.Module, inputs: tuple[Tensor, ...]) -> torch.export.ExportedProgram:
    """Return the program of a generator for any number of rows, without a trace of where its source lies."""
    rows = tuple({0: torch.export.Dim("rows", min=1)} for _ in inputs)
    found = torch.export.export(generator, inputs, dynamic_shapes=rows)
    for part in found.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return found


def program(generator: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Run:
    """Write an exported program, and return what it is when it is read again."""
    memory = io.BytesIO()  # as above
    torch.export.save(captured(generator, inputs), memory)
    path.write_bytes(memory.getvalue())
    read: Run = torch.export.load(path).module()
    return read


def graph(generator: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> Run:
    """Write ONNX, and return what it does in ONNX Runtime."""
    import onnxruntime

    names = ["z", "labels"][: len(inputs)]
    options: dict[str, Any] = {"input_names": names, "output_names": ["images"], "dynamo": True, "verbose": False}
    found: Any = torch.onnx.export(captured(generator, inputs), (), **options)
    found.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> Tensor:
        fed = {name: value.numpy() for name, value in zip(names, values, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return run


def snippet(form: Format, model: Any, path: Path, shape: tuple[int, ...]) -> list[str]:
    """Return the three lines that make pictures of the file."""
    file, told, size = json.dumps(str(path)), f"# {shape} in [-1, 1]", f"{COUNT}, {model.latent_dim}"
    kinds = classes(model) if model.conditions(1, None) else 0
    dtype = str(next(model.generator_ema.parameters()).dtype).removeprefix("torch.")
    if form == "safetensors":
        kind = type(model)
        ours = kind.__module__.startswith("gans.models.")
        return [
            'from gans.hub import from_pretrained  # these are weights: pip install "lightning-gans"',
            *([] if ours else [f"from {kind.__module__} import {kind.__name__}  # which needs its class"]),
            f"model = from_pretrained({file}{'' if ours else f', model={kind.__name__}'})",
            f"images = model.sample({COUNT}, seed=0)  {told}",
        ]
    if form == "onnx":
        z = f"np.random.uniform(-1, 1, ({size}))" if model.prior == "uniform" else f"np.random.randn({size})"
        labels = f', "labels": np.arange({COUNT}) % {kinds}' if kinds else ""
        return [
            "import numpy as np, onnxruntime",
            f"session = onnxruntime.InferenceSession({file})",
            f'[images] = session.run(None, {{"z": {z}.astype("{dtype}"){labels}}})  {told}',
        ]
    options = "" if dtype == "float32" else f", dtype=torch.{dtype}"
    z = f"2 * torch.rand({size}{options}) - 1" if model.prior == "uniform" else f"torch.randn({size}{options})"
    labels = f", torch.arange({COUNT}) % {kinds}" if kinds else ""
    load = f"torch.jit.load({file})" if form == "torchscript" else f"torch.export.load({file}).module()"
    return ["import torch", f"generator = {load}", f"images = generator({z}{labels})  {told}"]
