"""The page of statements is that of the stored verdicts, and every claim is on it."""

import json

from docs import statements
from limelight.experiment import catalog

FOUND = json.loads(statements.FINDINGS.read_text(encoding="utf-8"))


def test_the_page_is_written_from_the_findings():
    page = statements.PAGE.read_text(encoding="utf-8")
    assert statements.page(FOUND) == page
    changed = FOUND | {"slopes": FOUND["slopes"] | {"outcome": "refuted"}}
    assert statements.page(changed) != page


def test_every_claim_is_on_the_page_once_with_its_sentence():
    page = statements.PAGE.read_text(encoding="utf-8")
    assert all(page.count(FOUND[name]["finding"]) == 1 for name in catalog.names())


def test_a_statement_without_a_claim_says_why():
    every = [statement for text in statements.TEXTS for statement in text.statements]
    assert all(statement.claims or statement.note for statement in every)
