"""`gans export`: write the averaged generator of a checkpoint to a file that other programs can run.

The file of a translator takes images of any height and width, which it pads itself, and the extra inputs of
`gans predict`: a mask, or a style. The file of a model of clips makes them from noise, or with --extend continues given
frames.
"""

import copy
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Literal, cast

import torch
from jsonargparse import Namespace
from torch import Tensor, fx, nn
from torch.fx.experimental import _config as symbols
from torch.nn.utils import parametrize

from gans import hub
from gans.checks import article
from gans.commands.export_lines import Format
from gans.commands.exported import Run, Subject, continuation, drawing, translation
from gans.commands.parser import Parser, add_own_model, check_writable, own_model
from gans.engine.checkpoint import check_draws, load_model
from gans.engine.interface import translates
from gans.runs import atomic
from gans.runs.folder import of_checkpoint

SUFFIX = {"safetensors": ".safetensors", "torchscript": ".pt", "torch-export": ".pt2", "onnx": ".onnx"}
NEEDS = {"onnx": ("onnx", "onnxscript", "onnxruntime")}


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans export", description=__doc__)
    flags.add_argument("checkpoint", type=Path, help="checkpoint, folder of a run, recipe, or user/name of the Hub")
    add_own_model(flags)
    flags.add_argument(
        "--format",
        type=Format,
        help="by default that of the suffix of --out; torch-export and torchscript (deprecated by PyTorch) need only "
        "torch, onnx needs only onnxruntime, safetensors are weights for this package",
    )
    flags.add_argument("--out", type=Path, help=f"file, {', '.join(SUFFIX.values())}; by default beside the run's")
    flags.add_argument(
        "--noise",
        type=Literal["stored", "input"],
        default="stored",
        help="noise of the layers, for a model that has one: constants of the file, or an input",
    )
    flags.add_argument("--back", action="store_true", help="the reverse direction, for a model that has both")
    flags.add_argument(
        "--extend", action="store_true", help="continue given frames, for a model of clips that was trained with given"
    )
    return flags


def main(args: list[str]) -> None:
    """Run the command.

    Raises:
        ValueError: for bad input, or an export whose images differ, in one sentence.
    """
    options = parsed(args)
    model: Any = load_model(options.checkpoint, model=own_model(options.model))
    if translates(model) and not hasattr(model, "source_channels"):
        held = f"{options.checkpoint} holds {article(type(model))}, whose input is no image"
        raise ValueError(f"{held}; export takes models that make images of latents or of images")
    if options.noise == "input" and not hasattr(model.generator_ema, "noise_dim"):
        raise ValueError(f"noise is input, but {options.checkpoint} holds {article(type(model))} without noise")
    if options.extend:
        held = f"{options.checkpoint} holds {article(type(model))}"
        if not getattr(model, "given", 0):
            raise ValueError(f"extend is for models of clips that were trained with given, but {held} without it")
        if not callable(getattr(model, "continuation", None)):
            raise ValueError(f"extend is for models with noise, but {held}: without extend, the file makes one frame")
        if options.back:
            raise ValueError("back and extend are given; expected one of them")
        subject = continuation(model)
    elif translates(model):
        if options.back and not hasattr(model, "back"):
            raise ValueError(f"back asks for the other way, but {options.checkpoint} holds {article(type(model))}")
        subject = translation(model, options.back)
    else:
        check_draws(model, options.checkpoint)
        if options.back:
            raise ValueError(f"back is for models of images from images, but {options.checkpoint} holds none")
        subject = drawing(model, options.noise == "input")
    wanted = compared(subject.reference, subject)
    out: Path = options.out or of_checkpoint(options.checkpoint) / f"generator{SUFFIX[options.format]}"
    check_writable(out.parent)
    with atomic.replacing(out) as partial:
        run = written(options.format, model, subject, partial)
        pairs = zip(compared(run, subject), wanted, strict=True)
        error = float(torch.stack([(found - right).abs().max() for found, right in pairs]).max())
        if not error <= subject.tolerance:  # also true of NaN
            raise ValueError(f"the {options.format} file gives other pictures, by {error:.1e}: it was not written")
    print(f"generator    {out} ({out.stat().st_size / 1e6:.1f} MB)")
    print(f"checked      {subject.told} by at most {error:.1e}\n")
    print("\n".join(subject.lines(options.format, out)))


def parsed(args: list[str]) -> Namespace:
    """Return the options, checked as far as possible without the checkpoint."""
    options = parser().parse_args(args)
    if options.format is None:
        options.format = format_of(options.out)
    suffix = SUFFIX[options.format]
    if options.out and options.out.suffix != suffix:
        raise ValueError(f"out is {options.out}; expected a name that ends with {suffix}")
    if options.out and options.out.is_dir():
        raise ValueError(f"out is {options.out}, which is a folder; expected a file")
    if options.noise == "input" and options.format == "safetensors":
        raise ValueError("noise is input, but safetensors are weights, which have no inputs; expected another format")
    for package in NEEDS.get(options.format, ()):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f'{options.format} needs {package}: pip install "lightning-gans[{options.format}]"')
    return options


def format_of(out: Path | None) -> Format:
    """Return the format of a file, by its suffix.

    Raises:
        ValueError: if there is no file, or no format has its suffix.
    """
    known = ", ".join(f"{suffix} ({name})" for name, suffix in SUFFIX.items())
    if out is None:
        raise ValueError(f"format must be given, or --out with one of the suffixes {known}")
    found = [name for name, suffix in SUFFIX.items() if out.suffix == suffix]
    if not found:
        raise ValueError(f"out is {out}; expected one of the suffixes {known}, or --format")
    return cast(Format, found[0])


@torch.no_grad()
def compared(run: Run, subject: Subject) -> list[Tensor]:
    """Return the images of the batches that are compared.

    File and model get the same batches, because a layer may round differently in a batch of another size.
    """
    return [run(*batch) for batch in subject.batches]


def written(form: Format, model: Any, subject: Subject, path: Path) -> Run:
    """Write the generator to `path`, and return the function of the file.

    Raises:
        ValueError: if PyTorch cannot capture the generator.
    """
    if form == "safetensors":
        hub.save_generator(model, path)
        return subject.loaded(hub.from_pretrained(path))
    network, write = subject.network(baked), {"torchscript": script, "torch-export": program, "onnx": graph}[form]
    try:
        with silence():
            return write(network, subject, path)
    except OSError:
        raise
    except Exception as error:  # capturing raises almost anything
        told = (" ".join(str(error).split("\n")[0].split()) or type(error).__name__).rstrip(".")
        raise ValueError(f"the generator of {type(model).__name__} cannot be written as {form}: {told}") from error


@contextmanager
def silence() -> Iterator[None]:
    """Silence notes of PyTorch about deprecated formats and constant sizes, which a user can do nothing about."""
    aside = io.StringIO()  # PyTorch prints the operations that it cannot capture
    with warnings.catch_warnings(), redirect_stdout(aside), redirect_stderr(aside):
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def baked(generator: nn.Module) -> nn.Module:
    """Return a copy with constant weights in place of parametrisations such as spectral norms, in the default format.

    With weights in the `channels_last` format, an exported program would be bound to batches of several images.
    """
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
    return generator.requires_grad_(False).to(memory_format=torch.contiguous_format)


def script(network: nn.Module, subject: Subject, path: Path) -> Run:
    """Write TorchScript, and return the function of the file."""
    traced: Any = torch.jit.trace(network, subject.example, check_trace=False)  # type: ignore[no-untyped-call]
    path.write_bytes(traced.save_to_buffer())  # through memory: on a full disk PyTorch's own writer ends the process
    read: Run = torch.jit.load(path)  # type: ignore[no-untyped-call]
    return read


def captured(network: nn.Module, subject: Subject) -> torch.export.ExportedProgram:
    """Return the program of a network, with variable length on the axes of its inputs, without paths of source files.

    Sides of images, and of the maps inside, may be 1 although those of the example are not.
    """
    if subject.axes == (0,):
        rows: Any = tuple({0: torch.export.Dim("rows", min=1)} for _ in subject.example)
        found = torch.export.export(network, subject.example, dynamic_shapes=rows)
    else:
        sides = tuple(dict.fromkeys(subject.axes, torch.export.Dim.DYNAMIC) for _ in subject.example)
        with symbols.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            found = torch.export.export(network, subject.example, dynamic_shapes=(sides,))
    for part in found.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return found


def program(network: nn.Module, subject: Subject, path: Path) -> Run:
    """Write an exported program, and return the function of the file."""
    memory = io.BytesIO()  # as above
    torch.export.save(captured(network, subject), memory)
    path.write_bytes(memory.getvalue())
    read: Run = torch.export.load(path).module()
    return read


def graph(network: nn.Module, subject: Subject, path: Path) -> Run:
    """Write ONNX, and return the function of the file in ONNX Runtime."""
    import onnxruntime

    options: dict[str, Any] = {"output_names": ["images"], "dynamo": True, "verbose": False}
    found: Any = torch.onnx.export(captured(network, subject), (), input_names=list(subject.names), **options)
    found.save(path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(*values: Tensor) -> Tensor:
        fed = {name: value.numpy() for name, value in zip(subject.names, values, strict=True)}
        return torch.from_numpy(session.run(None, fed)[0])

    return run
