"""The findings of the README are those of the stored results, and every claim has one."""

import json

from docs import verdicts
from limelight.experiment import catalog

FINDINGS = json.loads(verdicts.FINDINGS.read_text(encoding="utf-8"))


def test_every_claim_has_a_finding_and_a_section():
    assert list(FINDINGS) == catalog.names()
    page = verdicts.PAGE.read_text(encoding="utf-8")
    for name, found in FINDINGS.items():
        assert f"### `{name}`: {found['outcome']}\n\n**{found['finding']}**" in page


def test_the_ideas_have_a_row_for_each_verdict():
    ideas = verdicts.IDEAS.read_text(encoding="utf-8")
    assert verdicts.with_words(ideas, FINDINGS) == ideas
    for name in verdicts.ABILITIES:
        assert f"[{FINDINGS[name]['outcome']}](claims.md#{name}-{FINDINGS[name]['outcome']})" in ideas


def test_the_readme_shows_the_findings():
    readme = verdicts.README.read_text(encoding="utf-8")
    assert verdicts.with_findings(readme, FINDINGS) == readme
    assert FINDINGS["slopes"]["finding"] in readme
