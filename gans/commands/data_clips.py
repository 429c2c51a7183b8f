"""`gans data clips`: clips of photographs by a camera that pans at constant velocity and zooms slowly.

A clip is a folder of PNG frames, beside others in the folders of the photographs: sets and classes stay. `clips.json`
has the motion of each clip. The same command continues after an interruption, and a complete clip is not made again.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from datamodules.base import integer
from datamodules.decode import UnreadableImageError, dimensions, read_whole
from datamodules.files import existing_folder, listed
from datamodules.layout import layout
from datamodules.pans import Camera, Motion, filmed, motion
from gans.commands.parser import Parser, check_writable
from gans.pictures import images
from gans.runs import atomic

RECORD = "clips.json"


def parser() -> Parser:
    """Return the parser of the flags."""
    flags = Parser(prog="gans data clips", description=__doc__)
    flags.add_argument("folder", type=Path, help="folder or archive of photographs")
    flags.add_argument("out", type=Path, help="folder to write, which need not exist")
    flags.add_argument("--frames", type=int, default=16, help="of a clip")
    flags.add_argument("--size", type=int | tuple[int, int], default=64, help="height and width of a frame")
    flags.add_argument("--num", type=int, default=10, help="clips of each photograph")
    flags.add_argument("--seed", type=int, default=0, help="of the motions")
    flags.add_argument(
        "--speed", type=tuple[float, float], default=(0.5, 2.0), help="least and greatest, in pixels per frame"
    )
    flags.add_argument(
        "--zoom", type=float, default=1.25, help="greatest factor between first and last frame; 1 does not zoom"
    )
    return flags


def main(args: list[str]) -> int:
    """Run the command and return its exit code: 0, or 1 if some of the photographs could not be read.

    Raises:
        ValueError: for bad input, in one sentence.
    """
    options = parser().parse_args(args)
    camera = checked(options)
    integer("num", options.num, least=1)
    integer("seed", options.seed, least=0)
    found = layout(existing_folder(options.folder, "folder"))
    print(f"photographs  {len(found.paths):,} in {found.root}")
    motions, broken, small = planned(found.root, found.paths, camera, options.num, options.seed)
    height, width = camera.needed()
    if not motions:
        why = f"expected {width}x{height} pixels or more, or a smaller size, speed, zoom or frames"
        told = f"of the {len(found.paths):,} photographs in {found.root}"
        raise ValueError(f"none {told} is large enough: {why}" if small else f"none {told} can be read")
    begin(options.out, camera, options.seed, motions)
    there = [name for name in motions if (options.out / name).is_dir()]
    if there:
        print(f"continued    {len(there):,} clips are complete")
    for path in tqdm(
        sorted({path for path, _ in motions.values()}),
        desc="clips",
        unit="photo",
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    ):
        left = {
            name: course for name, (of, course) in motions.items() if of == path and not (options.out / name).is_dir()
        }
        if left:
            try:
                photograph = read_whole(found.root / path, channels=3)
            except UnreadableImageError:
                broken.append(path)
                continue
            for name, course in left.items():
                write(options.out / name, photograph, camera, course)
    made = sum((options.out / name).is_dir() for name in motions)
    if small:
        print(f"left out     {len(small):,} photographs below {width}x{height} pixels: {listed(small)}")
    if broken:
        print(f"unreadable   {listed(broken)}")
    sides = f"{camera.size[1]}x{camera.size[0]}"
    print(f"written      {options.out}: {made:,} clips of {camera.frames} frames of {sides}")
    asked = camera.size[0] if camera.size[0] == camera.size[1] else list(camera.size)
    settings = f"--data.size {asked} --data.frames {camera.frames}".replace(", ", ",")
    print(f"\ngans fit RECIPE --data FrameFolderDataModule --data.root {options.out} {settings}")
    return 1 if broken else 0


def checked(options: Any) -> Camera:
    """Return the settings of the camera.

    Raises:
        ValueError: if one is out of range.
    """
    sides = (options.size, options.size) if isinstance(options.size, int) else options.size
    size = (integer("size", sides[0], least=1), integer("size", sides[1], least=1))
    least, most = options.speed
    if not 0 <= least <= most < float("inf"):
        raise ValueError(f"speed is {least}, {most}; expected two numbers, 0 <= least <= greatest")
    if not 1 <= options.zoom < float("inf"):
        raise ValueError(f"zoom is {options.zoom}; expected a factor of at least 1")
    return Camera(size, integer("frames", options.frames, least=2), (least, most), options.zoom)


def planned(
    root: Path, paths: list[str], camera: Camera, count: int, seed: int
) -> tuple[dict[str, tuple[str, Motion]], list[str], list[str]]:
    """Return photograph and motion of each clip by name, and the photographs that are unreadable, and too small.

    The motions of a photograph depend on its place among all, in the order of names.

    Raises:
        ValueError: if two photographs differ only in their suffix.
    """
    motions: dict[str, tuple[str, Motion]] = {}
    broken, small, stems = [], [], dict[str, str]()
    for place, path in enumerate(sorted(paths)):
        stem = path.rpartition(".")[0]
        if (other := stems.setdefault(stem, path)) != path:
            raise ValueError(f"{root} has {other} and {path}, whose clips would have the same names: rename one")
        try:
            width, height = dimensions(root / path)
        except UnreadableImageError:
            broken.append(path)
            continue
        if height < camera.needed()[0] or width < camera.needed()[1]:
            small.append(path)
            continue
        for number in range(count):
            course = motion(camera, (height, width), seed, place, number)
            motions[f"{stem}-{number:0{len(str(count - 1))}}"] = path, course
    return motions, broken, small


def begin(out: Path, camera: Camera, seed: int, motions: dict[str, tuple[str, Motion]]) -> None:
    """Write what will be there, or check that the folder was begun by the same command.

    Raises:
        ValueError: if the folder holds something else, or is not writable.
    """
    check_writable(out)
    clips = {name: {"photograph": path, **course._asdict()} for name, (path, course) in motions.items()}
    text = json.dumps({**camera._asdict(), "seed": seed, "clips": clips}, indent=1).encode()
    record = out / RECORD
    if record.is_file():
        if record.read_bytes() != text:
            told = "clips of other photographs, or with other settings"
            raise ValueError(f"out is {out}, which holds {told}; expected a new folder")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"out is {out}, which is not empty; expected a new folder")
    else:
        atomic.write(record, text)


def write(folder: Path, photograph: Any, camera: Camera, course: Motion) -> None:
    """Write the frames of a clip to a folder, which is there when all are."""
    partial = folder.with_name(f"{atomic.MARK}{folder.name}")  # hidden: no data module takes it for a clip
    shutil.rmtree(partial, ignore_errors=True)
    for number, frame in enumerate(filmed(photograph, camera, course).unbind(1)):
        images.save(frame, partial / f"{number:0{len(str(camera.frames - 1))}}.png")
    partial.rename(folder)
