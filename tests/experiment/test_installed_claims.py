"""Claims that installed packages bring, by entry points of the group `limelight.claims`."""

import json

import pytest
from typer.testing import CliRunner

from limelight import InputError, cli
from limelight.experiment import catalog, fingerprint
from limelight.experiment.fingerprint import source_digest
from tests.experiment.claim_files import CLAIM, FILES, forgetting

GOOD = {"own": "brought.own:Own"}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Install a package with these entry points, as pip does: a folder of modules, and one that describes them."""
    monkeypatch.syspath_prepend(tmp_path)

    def installed(entries, name="brought", **modules):
        texts = {path.removesuffix(".py").replace("/", "__"): text for path, text in FILES.items()}
        for module, text in {"__init__": "", **texts, **modules}.items():
            path = tmp_path / name / f"{module.replace('noises__', 'noises/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            local = text.replace("import levels", f"from {name} import levels")
            path.write_text(local.replace("from noises", f"from {name}.noises"), encoding="utf-8")
        about = tmp_path / f"{name}-1.0.dist-info"
        about.mkdir(exist_ok=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{claim} = {value}\n" for claim, value in entries.items())
        (about / "entry_points.txt").write_text(f"[limelight.claims]\n{lines}")
        catalog._entries.cache_clear()

    with forgetting(monkeypatch):
        yield installed
    catalog._entries.cache_clear()


def call(*arguments):
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})


def test_a_claim_of_an_installed_package_is_listed_and_run(install, tmp_path, monkeypatch):
    install(GOOD)
    monkeypatch.chdir(tmp_path)
    assert catalog.names()[-1] == "own"
    assert [claim.name for claim in catalog.claims()] == catalog.names()
    assert catalog.problems() == []
    done = call("run", "own", "--seeds", "1", "--workers", "1")  # a worker finds an installed package as any other
    assert done.exit_code == 0, done.output
    assert "own" in done.stdout
    assert call("show", "own").exit_code == 0


def test_its_results_are_named_by_its_package(install):
    install(GOOD)
    claim = type(catalog.claim("own"))
    before = source_digest(claim)
    for changed, is_other in (({"levels": "LEVELS = 3"}, True), ({"unrelated": "x = 1"}, False)):
        install(GOOD, **changed)
        for cached in (source_digest, fingerprint._reach):
            cached.cache_clear()
        assert (source_digest(claim) != before) == is_other
        install(GOOD)


BROKEN = {
    "missing": (
        {"own": "brought.nowhere:Own"},
        {},
        "cannot be imported: ModuleNotFoundError: No module named 'brought.n",
    ),
    "no class": ({"own": "brought.own:Nobody"}, {}, "cannot be imported: AttributeError"),
    "an error": ({"own": "brought.own:Own"}, {"own": "1 / 0"}, "cannot be imported: ZeroDivisionError"),
    "an exit": ({"own": "brought.own:Own"}, {"own": "raise SystemExit"}, "cannot be imported: SystemExit"),
    "no claim": ({"own": "brought.levels:LEVELS"}, {}, "should be a subclass of Claim, and is {"),
    "parts": ({"own": "brought.own:Own"}, {"own": CLAIM.replace("control =", "controls =")}, "lacks control"),
    "two names": ({"mine": "brought.own:Own"}, {}, "has the name 'own'; its name and that of the entry point"),
    "a built-in": (
        {"slopes": "brought.own:Own"},
        {},
        "the name of the claim of limelight.claims.slopes, which is built",
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_one_does_not_hide_the_others(install, tmp_path, monkeypatch, what):
    entries, modules, says = BROKEN[what]
    monkeypatch.chdir(tmp_path)
    install({"works": "other.own:Own"}, "other", own=CLAIM.replace('"own"', '"works"'))
    install(entries, **modules)
    (problem,) = catalog.problems()
    assert says in problem
    (name,) = entries
    assert f"the claim {name!r} of the installed package brought, {entries[name]}," in problem
    done = call("list", "--json")
    assert done.exit_code == 0
    assert done.stderr == f"limelight: {problem}\n"
    listed = [entry["name"] for entry in json.loads(done.stdout)]
    assert listed == [*(each for each in catalog.names() if each not in (name, "works") or each == "slopes"), "works"]
    if what == "a built-in":
        assert type(catalog.claim(name)).__module__ == "limelight.claims.slopes"
        return
    with pytest.raises(InputError) as caught:
        catalog.claim(name)
    assert str(caught.value) == problem
    assert call("run", name).exit_code == cli.BAD_INPUT


def test_two_packages_with_one_name_are_both_refused(install):
    install(GOOD)
    install({"own": "other.own:Own"}, "other")
    first, second = catalog.problems()
    assert (
        "package brought, brought.own:Own, is left out, since it has the name of the claim of the package other"
        in first
    )
    assert (
        "package other, other.own:Own, is left out, since it has the name of the claim of the package brought" in second
    )


def test_a_file_cannot_take_the_name_of_an_installed_claim(install, tmp_path):
    install(GOOD)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "mine.py").write_text(CLAIM.replace("import levels", ""))
    with pytest.raises(InputError, match=r"has the name 'own', which brought\.own\.Own has already"):
        catalog.claim(str(tmp_path / "mine" / "mine.py"))


def test_the_lab_lists_them(install):
    pytest.importorskip("dash", reason="needs Dash: pip install -e '.[lab]'")
    from limelight.lab.pages.verdicts import results_cache

    install(GOOD | {"missing": "brought.nowhere:Own"})
    assert {"own", "missing"} <= set(results_cache.claim_names())
    assert results_cache.load_claim("own").title == "More is more"
    assert "The claim missing cannot be read: InputError: the claim 'missing' of" in results_cache.load_claim("missing")
