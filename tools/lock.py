"""Write constraints.txt: the version of every package that the targets of the Makefile install (`make lock`).

pip is asked, without installing anything, which versions it would take into an empty environment: the newest that the
ranges in pyproject.toml allow. The answer depends on the Python and the system that ask; constraints.txt is for
Python 3.11 on Linux. Packages that only another system needs stay free there, since a constraint installs nothing.
"""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
EXTRAS = "dev,bench"  # these contain all others but `ray`
TORCH = "torch==2.13.0"  # moved by hand: not every release has a build without CUDA
HEADER = """\
# The version of every package that `make demo`, `lab`, `test`, `docs` and `bench` install, with all that these need.
# Written by `make lock` from the ranges in pyproject.toml, for Python 3.11 on Linux; do not edit it by hand.
# The extra `ray` is installed by none of them and not in here. torch is moved in tools/lock.py.
# The packages that build the editable install (hatchling and what it needs) are among them.
"""


def resolve() -> list[dict]:
    """What pip would install into an empty environment: one entry of its report for each package."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    wanted = [TORCH, *build, "editables", "-e", f".[{EXTRAS}]"]  # hatchling asks for editables when it builds `-e`
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        asked = ["install", "--dry-run", "--ignore-installed", "-qq", "--report", str(report)]
        subprocess.run([sys.executable, "-m", "pip", *asked, *wanted], cwd=ROOT, check=True)
        return json.loads(report.read_text(encoding="utf-8"))["install"]


def pins(packages: list[dict]) -> list[str]:
    """`name==version` of each package in the order of names, without Limelight and without local labels like `+cpu`."""
    found = ((each["metadata"]["name"], each["metadata"]["version"]) for each in packages)
    named = {re.sub(r"[-_.]+", "-", name).lower(): version.partition("+")[0] for name, version in found}
    return [f"{name}=={version}" for name, version in sorted(named.items()) if name != "limelight"]


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(pins(resolve())) + "\n", encoding="utf-8")
