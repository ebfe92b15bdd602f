"""Write constraints.txt and constraints-oldest.txt from the ranges in pyproject.toml (`make lock`).

constraints.txt has the version of every package that the targets of the Makefile install: the newest that the ranges
allow, as pip resolves them for an empty environment, without installing anything. The versions depend on Python and the
system; the file is for Python 3.11 on Linux. Packages that only another system needs are not constrained.

constraints-oldest.txt has the lower bounds themselves, for `make test-oldest`.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = "dev,bench"  # together they contain all other extras except `ray`
TORCH = "torch==2.13.0"  # changed by hand, since not every release has a build without CUDA
NEWEST = """\
# The version of every package that `make demo`, `lab`, `test`, `docs` and `bench` install, with all that these need.
# Written by `make lock` from the ranges in pyproject.toml, for Python 3.11 on Linux; do not edit it by hand.
# The extra `ray` is installed by none of them and not in here. torch is moved in tools/lock.py.
# The packages that build the editable install (hatchling and what it needs) are among them.
"""
OLDEST = """\
# The lower bounds in pyproject.toml, on which `make test-oldest` runs. Written by `make lock`; do not edit it by hand.
"""


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def resolve() -> list[dict]:
    """The packages that pip would install into an empty environment, as in its report: one entry for each."""
    build = project()["build-system"]["requires"]
    wanted = [TORCH, *build, "editables", "-e", f".[{EXTRAS}]"]  # hatchling needs editables for `-e`
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = ["install", "--dry-run", "--ignore-installed", "-qqq", "--report", str(report)]
        subprocess.run([sys.executable, "-m", "pip", *asked, *wanted], cwd=ROOT, check=True)
        return json.loads(report.read_text(encoding="utf-8"))["install"]


def normal(name: str) -> str:
    """The normalized name of a package."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(versions: dict[str, str]) -> str:
    return "".join(f"{name}=={version}\n" for name, version in sorted(versions.items()))


def newest(packages: list[dict]) -> dict[str, str]:
    """The version of each package, without Limelight's own, and without local labels such as `+cpu`."""
    found = {normal(each["metadata"]["name"]): each["metadata"]["version"] for each in packages}
    return {name: version.partition("+")[0] for name, version in found.items() if name != "limelight"}


def oldest() -> dict[str, str]:
    """The lower bound of each package that pyproject.toml names."""
    extras = project()["project"]["optional-dependencies"].values()
    requirements = [*project()["project"]["dependencies"], *(each for extra in extras for each in extra)]
    bounds = (re.match(r"([\w.-]+)(?:\[.*\])?>=([\w.]+)", each) for each in requirements if "limelight" not in each)
    return {normal(bound[1]): bound[2] for bound in bounds}


if __name__ == "__main__":
    (ROOT / "constraints-oldest.txt").write_text(OLDEST + pins(oldest()), encoding="utf-8")
    (ROOT / "constraints.txt").write_text(NEWEST + pins(newest(resolve())), encoding="utf-8")
