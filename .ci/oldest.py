"""Print the lower bounds of the core dependencies in pyproject.toml, as a file of constraints for pip."""

import re
import tomllib
from pathlib import Path

with (Path(__file__).parents[1] / "pyproject.toml").open("rb") as file:
    needed = tomllib.load(file)["project"]["dependencies"]
for line in needed:
    name, version = re.fullmatch(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", line).groups()
    print(f"{name}=={version}")
