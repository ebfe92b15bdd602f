"""The Python in the documents runs, as printed and without a warning."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = [
    pytest.param(code, id=f"{path.name}-{i}")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for i, code in enumerate(re.findall(r"```python\n(.*?)```", path.read_text(encoding="utf-8"), re.DOTALL))
]


@pytest.mark.parametrize("code", BLOCKS)
def test_it_runs(code):
    exec(compile(code, "<document>", "exec"), {})


def test_the_readme_shows_ten_lines_or_so_and_every_file_it_names_is_there():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 12
    for name in re.findall(r'(?:\]\(|srcset="|src=")([^)"#:]+)[)"]', readme):
        assert (ROOT / name).exists(), name
