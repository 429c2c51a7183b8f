"""The house rules: who may import whom, and what every recipe looks like.

A rule is a function from the root of a checkout to its complaints. Each is run on this checkout, where it must have
none, and on small trees with one fault each, which it must find.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]

# From the shell down to torch: a room imports from its own level and from lower ones. A file that stands apart from its
# room has a level of its own. `ALONE` are the rooms of one level that do not import each other.
LEVELS = [
    {"scripts"},
    {"gans.__main__", "gans.benchmarks"},
    {"gans.commands"},
    {"gans.recipes", "gans.commands.words", "gans.commands.home"},
    {"gans.published"},
    {"gans.models", "gans.callbacks", "gans.hub"},
    {"gans.explore", "gans.card"},
    {"gans.metrics"},
    {"gans.engine"},
    {"gans.networks"},
    {"gans.pictures"},
    {"gans.terms"},
    {"gans.losses", "gans.penalties", "gans.reconstruction", "gans.augment", "gans.latent"},
    {"gans.runs", "gans.checks", "gans.philox", "gans.precision"},
]
ALONE = [LEVELS[5], LEVELS[12], LEVELS[13]]
# What a user lifts out: it needs torch, torchvision and numpy only.
PURE = {
    "losses",
    "penalties",
    "terms",
    "reconstruction",
    "augment",
    "latent",
    "philox",
    "precision",
    "checks",
    "networks",
}
DATA_USERS = {"scripts", "gans.__main__", "gans.benchmarks", "gans.commands", "gans.recipes"}


def modules(root: Path, *packages: str) -> dict[str, Path]:
    """Every file of `packages` (or of all three trees) by its module name."""
    found = {}
    for package in packages or ("gans", "datamodules", "scripts"):
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


def room(module: str) -> str:
    """`gans.networks` for everything in it, `scripts` for every script; a file with a level of its own is a room."""
    if module in set().union(*LEVELS):
        return module
    return ".".join(module.split(".")[: 2 if module.startswith("gans.") else 1])


def statements(node: ast.AST, executed: bool) -> Iterator[ast.AST]:
    """Everything below `node`, functions included; if `executed`, without `if TYPE_CHECKING`, which never runs."""
    for child in ast.iter_child_nodes(node):
        if executed and isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from statements(child, executed)


def imports(module: str, path: Path, executed: bool = False) -> Iterator[str]:
    """The dotted names that a file imports; `from a import b` gives both `a` and `a.b`, whichever is a module."""
    for node in statements(ast.parse(path.read_text(encoding="utf-8")), executed):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def internal(root: Path, executed: bool = False) -> Iterator[tuple[str, str]]:
    """Pairs (importer, imported) of modules of this project."""
    known = modules(root)
    for module, path in known.items():
        yield from ((module, name) for name in sorted(set(imports(module, path, executed)) & known.keys()))


# -- the rules ---------------------------------------------------------------------------------------------------------


def everything_has_a_level(root: Path) -> list[str]:
    placed = set().union(*LEVELS) | {"gans"}
    return [f"{name} has no level" for name in modules(root, "gans", "scripts") if room(name) not in placed]


def levels_look_down(root: Path) -> list[str]:
    level = {name: depth for depth, names in enumerate(LEVELS) for name in names}
    complaints = []
    for importer, imported in internal(root):
        above, below = room(importer), room(imported)
        if above not in level or below not in level or above == below:
            continue
        if level[below] < level[above] or (level[below] == level[above] and LEVELS[level[below]] in ALONE):
            complaints.append(f"{importer} imports {imported}")
    return complaints


def data_stands_apart(root: Path) -> list[str]:
    complaints = []
    for importer, imported in internal(root):
        ends = room(importer), room(imported)
        from_gans = ends[0] == "datamodules" and ends[1] != "datamodules"
        into_data = ends[1] == "datamodules" and ends[0] not in DATA_USERS | {"datamodules"}
        if from_gans or into_data:
            complaints.append(f"{importer} imports {imported}")
    return complaints


def pure_rooms_need_torch_only(root: Path) -> list[str]:
    # extras, imported where they are called: the text encoder of CLIP, and AutoencoderKL from a folder or the Hub
    extras = {"transformers", "diffusers", "huggingface_hub"}
    allowed = {"torch", "torchvision", "numpy", "gans", *extras, *sys.stdlib_module_names}
    pure = {f"gans.{name}" for name in PURE}
    return [
        f"{module} imports {name}"
        for module, path in modules(root, "gans").items()
        if room(module) in pure
        for name in imports(module, path)
        if name.split(".")[0] not in allowed
    ]


def packages_import_nothing(root: Path) -> list[str]:
    """Only `gans.models`, `gans.callbacks` and `datamodules` re-export; `gans.recipes` has a function."""
    return [
        f"{module} imports {name}"
        for module, path in modules(root, "gans").items()
        if path.name == "__init__.py" and module not in ("gans.models", "gans.callbacks", "gans.recipes")
        for name in imports(module, path)
    ]


def no_cycles(root: Path) -> list[str]:
    """Imports inside functions count. Importing a.b.c runs a and a.b too, so they count as well.

    A package and its own files alone make no cycle.
    """
    known = modules(root)
    edges: dict[str, set[str]] = {module: set() for module in known}
    for importer, imported in internal(root, executed=True):
        parts = imported.split(".")
        edges[importer] |= {".".join(parts[: n + 1]) for n in range(len(parts))} & known.keys() - {importer}

    def reached(start: str) -> set[str]:
        seen: set[str] = set()
        waiting = [start]
        while waiting:
            new = edges[waiting.pop()] - seen
            seen |= new
            waiting += new
        return seen

    reach = {module: reached(module) for module in known}
    return [
        f"{importer} and {imported} need each other"
        for importer in known
        for imported in sorted(edges[importer])
        if importer in reach[imported]
        if not (importer.startswith(f"{imported}.") or imported.startswith(f"{importer}."))
    ]


def functions(root: Path) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    for module, path in modules(root).items():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{module}.{node.name}", node


def arguments_are_annotated(root: Path) -> list[str]:
    complaints = []
    for name, node in functions(root):
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
        for argument in arguments:
            if argument and argument.arg not in ("self", "cls") and argument.annotation is None:
                complaints.append(f"{name} does not annotate {argument.arg}")
    return complaints


def recipes_are_short_and_say_what_they_are(root: Path) -> list[str]:
    complaints = []
    for path in sorted((root / "gans" / "recipes").glob("*")):
        if path.suffix != ".yaml":
            if path.suffix != ".py" and path.name not in ("__pycache__", "README.md", "results.json"):
                complaints.append(f"{path.name} is no recipe")
            continue
        text = path.read_text(encoding="utf-8")
        if len(text.splitlines()) > 40:
            complaints.append(f"{path.name} has {len(text.splitlines())} lines")
        if not re.match(r"# *\w", text):
            complaints.append(f"{path.name} does not begin with a comment")
        model = str(yaml.safe_load(text)["model"]["class_path"]).rpartition(".")[2].lower()
        named = re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", path.stem) and model.startswith(path.stem.split("-")[0])
        if not named and path.stem != "folder":  # whose model measurements choose
            complaints.append(f"{path.name} is not <model>-<data>")
    return complaints


RULES = [
    everything_has_a_level,
    levels_look_down,
    data_stands_apart,
    pure_rooms_need_torch_only,
    packages_import_nothing,
    no_cycles,
    arguments_are_annotated,
    recipes_are_short_and_say_what_they_are,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rules(rule):
    assert {"gans", "gans.losses", "gans.networks.dcgan", "datamodules.base", "scripts.train"} <= modules(ROOT).keys()
    assert rule(ROOT) == []


RECIPE = "# a title\nmodel:\n  class_path: DCGAN\n"
FAULTS = [
    (everything_has_a_level, {"gans/utils.py": ""}, "gans.utils has no level"),
    (levels_look_down, {"gans/losses.py": "import gans.networks.layers"}, "gans.losses imports gans.networks.layers"),
    (
        levels_look_down,
        {"gans/losses.py": "from gans.networks import layers"},
        "gans.losses imports gans.networks.layers",
    ),
    (levels_look_down, {"gans/losses.py": "from .networks import layers"}, "gans.losses imports gans.networks.layers"),
    (
        levels_look_down,
        {"gans/losses.py": "def f():\n    import gans.networks.layers"},
        "gans.losses imports gans.networks.layers",
    ),
    (
        levels_look_down,
        {"gans/networks/mlp.py": "from ..engine.module import X", "gans/engine/module.py": ""},
        "gans.networks.mlp imports gans.engine.module",
    ),
    (
        levels_look_down,
        {"gans/engine/ema.py": "from gans.models.gan import GAN", "gans/models/gan.py": ""},
        "gans.engine.ema imports gans.models.gan",
    ),
    (
        levels_look_down,
        {"gans/commands/trainer.py": "import scripts.train", "scripts/train.py": ""},
        "gans.commands.trainer imports scripts.train",
    ),
    (
        data_stands_apart,
        {"datamodules/base.py": "from gans.networks.layers import Size"},
        "datamodules.base imports gans.networks.layers",
    ),
    (data_stands_apart, {"gans/engine/module.py": "import datamodules"}, "gans.engine.module imports datamodules"),
    (pure_rooms_need_torch_only, {"gans/losses.py": "import lightning as L"}, "gans.losses imports lightning"),
    (
        pure_rooms_need_torch_only,
        {"gans/networks/mlp.py": "from torchmetrics import Metric"},
        "gans.networks.mlp imports torchmetrics",
    ),
    (
        packages_import_nothing,
        {"gans/__init__.py": "from gans.networks.layers import X"},
        "gans imports gans.networks.layers",
    ),
    (
        no_cycles,
        {"gans/models/a.py": "import gans.models.b", "gans/models/b.py": "from gans.models import a"},
        "gans.models.a and gans.models.b need each other",
    ),
    (
        no_cycles,
        {"gans/models/a.py": "def f() -> None:\n    import gans.models.b", "gans/models/b.py": "import gans.models.a"},
        "gans.models.a and gans.models.b need each other",
    ),
    (  # by way of the package, whose __init__ runs whenever a file of it is imported
        no_cycles,
        {"datamodules/__init__.py": "from datamodules.a import A", "datamodules/a.py": "import datamodules.base"}
        | {"datamodules/base.py": "from datamodules import A"},
        "datamodules.a and datamodules.base need each other",
    ),
    (arguments_are_annotated, {"gans/losses.py": "def f(a: int, *b): ..."}, "gans.losses.f does not annotate b"),
    (
        arguments_are_annotated,
        {"datamodules/base.py": "class A:\n    def f(self, *, a=1): ..."},
        "base.f does not annotate a",
    ),
    (recipes_are_short_and_say_what_they_are, {"gans/recipes/dcgan.yaml": RECIPE}, "dcgan.yaml is not <model>-<data>"),
    (recipes_are_short_and_say_what_they_are, {"gans/recipes/gan-mnist.yaml": RECIPE}, "gan-mnist.yaml is not <model>"),
    (recipes_are_short_and_say_what_they_are, {"gans/recipes/dcgan-mnist.yaml": RECIPE[10:]}, "begin with a comment"),
    (recipes_are_short_and_say_what_they_are, {"gans/recipes/dcgan-mnist.yaml": RECIPE + "\n" * 38}, "has 41 lines"),
    (recipes_are_short_and_say_what_they_are, {"gans/recipes/dcgan-mnist.yml": RECIPE}, "dcgan-mnist.yml is no recipe"),
]


def build(root: Path, files: dict[str, str]) -> None:
    """Write a small tree that keeps every rule, with `files` in it."""
    sound = dict.fromkeys(["gans/__init__.py", "gans/networks/__init__.py", "gans/models/__init__.py"], "")
    sound |= {
        "gans/networks/layers.py": "import torch",
        "datamodules/__init__.py": "",
        "datamodules/base.py": "import lightning",
    }
    sound |= {
        "gans/commands/trainer.py": "import datamodules, gans.networks.layers",
        "gans/recipes/dcgan-digits.yaml": RECIPE,
    }
    sound |= {
        "gans/networks/dcgan.py": "from gans.networks.layers import f",
        "scripts/sample.py": "def f(a: int) -> None: ...",
    }
    for name, text in (sound | files).items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(("rule", "files", "complaint"), FAULTS)
def test_a_fault_is_found(tmp_path, rule, files, complaint):
    build(tmp_path, files)
    assert any(complaint in found for found in rule(tmp_path)), rule(tmp_path)


def test_a_sound_tree_has_no_faults(tmp_path):
    build(
        tmp_path,
        {
            # Imports for type checkers never run, so they close no cycle.
            "gans/models/a.py": "if typing.TYPE_CHECKING:\n    import gans.models.b",
            "gans/models/b.py": "def f() -> None:\n    from gans.models import a",
            "gans/models/__init__.py": "if typing.TYPE_CHECKING:\n    from gans.models.b import b",
        },
    )
    assert {rule.__name__: rule(tmp_path) for rule in RULES} == {rule.__name__: [] for rule in RULES}
    assert {rule for rule, _, _ in FAULTS} == set(RULES)


# -- what an import really loads ---------------------------------------------------------------------------------------

PROBE = """
import sys, importlib
for name in {names}:
    importlib.import_module(name)
    for heavy in {heavy}:
        if heavy in sys.modules:
            sys.exit(f"importing {{name}} imports {{heavy}}")
"""


def load(names: list[str], heavy: list[str]) -> str:
    """Import `names` in a fresh process and return its complaint about the first of `heavy` that came with them."""
    code = PROBE.format(names=names, heavy=heavy)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True).stderr.strip()


@pytest.mark.slow
def test_the_parts_come_without_lightning():
    # In one process: what none of them has loaded after all of them, none loads alone.
    names = ["gans.losses", "gans.penalties", "gans.latent", "gans.networks.dcgan"]
    names += [name for name in modules(ROOT, "gans") if room(name)[5:] in PURE]
    heavy = [
        "lightning",
        "lightning_fabric",
        "pytorch_lightning",
        "torchmetrics",
        "tensorboard",
        "sklearn",
        "jsonargparse",
    ]
    assert load(names, heavy) == ""


def test_the_door_opens_without_torch():
    assert load(["gans", "gans.__main__"], ["torch", "lightning", "numpy", "torchvision", "jsonargparse", "yaml"]) == ""


def test_the_probe_sees_what_is_loaded():
    assert load(["gans.__main__"], ["difflib"]) == "importing gans.__main__ imports difflib"
    assert "ModuleNotFoundError" in load(["gans.no_such_part"], [])
