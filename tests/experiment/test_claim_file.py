"""A claim in a file of one's own: what is found and refused, how its results are named, how workers get it."""

import json
import sys

import pytest
from typer.testing import CliRunner

from limelight import ClusterError, InputError, UnknownNameError, cli
from limelight.experiment import catalog, claim_file, fingerprint, runner
from limelight.experiment.claim_file import ClaimFile, address, file_of
from limelight.experiment.fingerprint import source_digest
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from tests.experiment.claim_files import CLAIM, forgetting, write


@pytest.fixture(autouse=True)
def _no_traces(monkeypatch):
    with forgetting(monkeypatch):
        yield


def call(*arguments):
    return CliRunner().invoke(cli.app, arguments, env={"COLUMNS": "200"})


def test_list_show_and_report_take_a_file(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    claim = catalog.claim("./own.py")
    for seed in range(10):
        for arm in claim.arms:
            run_trial(claim, arm, seed, Store("results").folder)
    listed = json.loads(call("list", str(tmp_path / "own.py"), "--json").stdout)
    assert listed == [{"name": "own", "title": "More is more", "verdict": "supported"}]
    shown = call("show", "./own.py").stdout
    assert "Is one more than zero?" in shown
    assert str(tmp_path / "own.py") in shown
    assert "all 30 runs have results already" in call("run", "own.py").stderr
    assert call("report", "slopes", "./own.py").exit_code == 0
    assert str(tmp_path) not in sys.path


def test_a_claim_is_named_by_the_path_of_its_file(tmp_path, monkeypatch):
    (tmp_path / "a b").mkdir()
    write(tmp_path / "a b")
    monkeypatch.chdir(tmp_path / "a b")
    claim = catalog.claim("./own.py")
    assert address(claim) == "./own.py"
    monkeypatch.chdir(tmp_path / "..")
    assert address(claim) == f"'./{tmp_path.name}/a b/own.py'"
    assert address(catalog.claim("slopes")) == "slopes"
    run_trial(claim, "one", 0, Store(tmp_path / "results").folder)
    told = call("report", str(tmp_path / "a b" / "own.py"), "--results", str(tmp_path / "results")).stderr
    assert f"run `limelight run {address(claim)}` for the rest" in told


BAD = {
    "no claim": ("x = 1", "should define one subclass of Claim, and defines none"),
    "two claims": (CLAIM + "class Other(Own):\n    name = 'other'\n", "defines Own and Other"),
    "an error": ("x = 1\n\n1 / 0", r"cannot be imported \(own.py, line 3\): ZeroDivisionError: division by zero"),
    "no Python": ("x = 1\ndef f(:", r"cannot be imported \(own.py, line 2\): SyntaxError: "),
    "no text": ("\0", "cannot be imported"),
    "an exit": ("import sys\nsys.exit(3)", r"\(own.py, line 2\): SystemExit: 3"),
    "a lack": (
        "import no_such_module",
        r"\(own.py, line 1\): ModuleNotFoundError: No module named 'no_such_module'; it can import what",
    ),
    "a package that is none": ("from . import levels", "ImportError: attempted relative import"),
    "arguments": (CLAIM + "    def __init__(self, x): ...", r"Own\(\) in .* raises TypeError"),
    "parts": (CLAIM.replace("def judge", "def decide").replace("control =", "controls ="), "lacks control, judge"),
    "a control": (CLAIM.replace('control = "nothing"', 'control = "void"'), "one of its arms, 'one', .* got 'void'"),
    "a path as its name": (CLAIM.replace('"own"', '"../own"'), "letters, digits and underscores.*got '../own'"),
    "no folder of its own": (CLAIM.replace('"own"', '"damaged"'), "not be 'damaged'"),
    "a name that is taken": (CLAIM.replace('"own"', '"slopes"'), "limelight.claims.slopes.Slopes has already"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_file_that_is_no_claim_is_reported_in_a_sentence(tmp_path, what):
    text, says = BAD[what]
    path = write(tmp_path, own=text)
    with pytest.raises(InputError, match=says) as caught:
        catalog.claim(path)
    assert "own.py" in str(caught.value)
    assert ("own" in sys.modules) == (what == "a name that is taken")
    for command in ("run", "list", "show", "report"):
        told = call(command, path)
        assert told.exit_code == cli.BAD_INPUT
        assert told.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("./nowhere.py", "there is no file ./nowhere.py; `limelight new-claim"),
        ("nowhere/", "named as a Python module such as my_claim.py, got 'nowhere/'"),
        ("./my-claim.py", "named as a Python module"),
        ("./folder.py", "there is no file"),
        ("./statistics.py", r"Python has another module of that name \(.*statistics.py\); give the file another name"),
        ("./torch.py", "Python has another module of that name"),
        ("./__main__.py", "Python has another module of that name"),
    ],
)
def test_a_path_that_cannot_be_a_claim_is_refused(tmp_path, monkeypatch, path, says):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.py").mkdir()
    for name in ("my-claim", "statistics", "torch", "__main__"):
        (tmp_path / f"{name}.py").write_text(CLAIM)
    modules = dict(sys.modules)
    with pytest.raises(InputError, match=says):
        catalog.claim(path)
    assert dict(sys.modules) == modules


def test_a_module_beside_it_whose_name_is_taken_is_refused(tmp_path):
    (tmp_path / "json.py").write_text("x = 1")
    with pytest.raises(InputError, match=r"json.py would be imported as 'json', but Python has another module"):
        catalog.claim(write(tmp_path, levels="import json"))
    (tmp_path / "a").mkdir()
    (tmp_path / "json.py").unlink()
    catalog.claim(write(tmp_path))
    with pytest.raises(InputError, match=r"a/levels.py would be imported as 'levels', but .*\(.*levels.py\)"):
        catalog.claim(write(tmp_path / "a"))


def test_two_claims_of_one_name_are_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "again.py").write_text(CLAIM)
    with pytest.raises(InputError, match="two of these claims have the name 'own'"):
        catalog.claims([str(tmp_path / "own.py"), str(tmp_path / "again.py")])
    (tmp_path / "again.py").write_text(CLAIM.replace('"own"', '"again"'))
    both = catalog.claims([str(tmp_path / "own.py"), str(tmp_path / "again.py"), str(tmp_path / "own.py")])
    assert [claim.name for claim in both] == ["own", "again"]


def test_a_name_without_a_path_is_no_file(tmp_path, monkeypatch):
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownNameError, match="unknown claim 'own'"):
        catalog.claim("own")


# Names of results.


def digest(folder, **changed):
    return source_digest(type(catalog.claim(write(folder, **changed))))


@pytest.mark.parametrize(
    ("changed", "is_changed"),
    [
        ({"levels": "LEVELS = {'one': 2.0, 'zero': 0.0, 'nothing': 0.0}\n"}, True),
        ({"levels": "# more\nLEVELS = {'one': 1.0, 'zero': 0.0, 'nothing': 0.0}\nOTHER = 1\n"}, False),
        ({"noises__scales": "SCALE = 0.2\n"}, True),
        ({"own": CLAIM.replace("+ noise", "- noise")}, True),
        ({"own": CLAIM.replace("at least", "at most")}, False),
        ({"unrelated": "2 / 0\n"}, False),
    ],
)
def test_results_are_named_by_what_the_file_imports_too(tmp_path, changed, is_changed):
    assert (digest(tmp_path) != digest(tmp_path, **changed)) == is_changed


def test_a_name_of_limelight_is_followed_to_its_definition(tmp_path, monkeypatch):
    uses = CLAIM.replace("levels.LEVELS[arm]", "levels.LEVELS[arm] + Attention.__name__.count('x')")
    path = write(tmp_path, own=uses)
    before = source_digest(type(catalog.claim(path)))
    text = claim_file.importlib.util.find_spec("limelight.attention").loader.get_source("limelight.attention")
    given = file_of(type(catalog.claim(path))).texts | {
        "limelight.attention": claim_file.Text(text.replace("class Attention(", "class Attention(dict, "), False)
    }
    assert text != given["limelight.attention"].text
    assert before != digest_with(given)
    assert before == digest_with(given | {"limelight.attention": claim_file.Text(text, False)})
    assert digest(tmp_path) == digest_with(
        {**file_of(type(catalog.claim(write(tmp_path)))).texts, "limelight.attention": given["limelight.attention"]}
    )


def digest_with(given):
    """The digest of the claim in these texts, of which some stand for modules of Limelight."""

    class Patched(fingerprint.Sources):
        def text(self, module, stub=False):
            return super().text(module, stub) if stub or module not in given else given[module]

    own = {name: text for name, text in given.items() if not name.startswith("limelight")}
    packages = {"limelight", *(name.partition(".")[0] for name in own)}
    return fingerprint.digest_in(fingerprint.sources_reach(Patched(packages, fingerprint._UNREAD, own)), "own", "Own")


def test_a_package_of_ones_own_that_is_on_the_path_is_followed_too(tmp_path, monkeypatch):
    (tmp_path / "elsewhere" / "mine").mkdir(parents=True)
    (tmp_path / "elsewhere" / "site-packages" / "theirs").mkdir(parents=True)
    monkeypatch.syspath_prepend(tmp_path / "elsewhere")
    monkeypatch.syspath_prepend(tmp_path / "elsewhere" / "site-packages")
    mine, theirs = (
        tmp_path / "elsewhere" / "mine" / "__init__.py",
        tmp_path / "elsewhere" / "site-packages" / "theirs.py",
    )

    def named(own, installed):
        mine.write_text(f"import theirs\nLEVELS = {{'one': {own} + theirs.X}}\n")
        theirs.write_text(f"X = {installed}\n")
        fingerprint._digest_of_texts.cache_clear()
        return digest(tmp_path, levels="from mine import LEVELS\n")

    assert named(1.0, 1) != named(2.0, 1)
    assert named(1.0, 1) == named(1.0, 2)


def test_what_was_read_is_what_is_named(tmp_path):
    claim = catalog.claim(write(tmp_path))
    again = write(tmp_path, levels="LEVELS = {'one': 5.0}\n")  # after it was imported
    other = catalog.claim(again)
    assert source_digest(type(claim)) != source_digest(type(other))
    assert claim.measure("one", 0).values["size"] < 2 < other.measure("one", 0).values["size"]


def test_a_claim_of_a_notebook_is_refused_before_it_runs(tmp_path):
    names = {"__name__": "__main__"}
    exec(CLAIM.replace("import levels", ""), names)
    for module in ("__main__", "a_notebook"):
        names["Own"].__module__ = module
        with pytest.raises(
            InputError, match=rf"Own is written in a notebook .*\({module}\).*limelight run ./my_claim.py"
        ):
            runner.run(runner.trials([names["Own"]()], 1), Store(tmp_path), workers=1)
        source_digest.cache_clear()


# Workers.


def as_sent(claim, folder):
    """The claim's file as a machine gets it where the file does not exist."""
    return ClaimFile(folder / "own.py", dict(file_of(type(claim)).texts))


def test_a_worker_without_the_file_runs_its_texts(tmp_path):
    claim = catalog.claim(write(tmp_path / "here"))
    for name in file_of(type(claim)).texts:
        sys.modules.pop(name, None)
    sent, expected = as_sent(claim, tmp_path / "nowhere"), runner.circumstances(claim)
    there = [run_trial(sent, "one", seed, tmp_path / "there", expected) for seed in (0, 1)]
    assert [record.values for record in there] == [claim.measure("one", seed).values for seed in (0, 1)]
    assert not (tmp_path / "nowhere").exists()
    assert len(Store(tmp_path / "there").results(claim).records) == 2


def test_a_worker_that_ran_an_older_text_runs_the_new_one(tmp_path):
    """A worker of a cluster lives on from one run to the next."""
    first = catalog.claim(write(tmp_path))
    old = as_sent(first, tmp_path / "nowhere")
    second = catalog.claim(write(tmp_path, noises__scales="SCALE = 0.0\n"))
    new = as_sent(second, tmp_path / "nowhere")
    opened = claim_file.opened(old)
    assert claim_file.opened(old) is opened
    assert claim_file.opened(new).measure("one", 0).values == {"size": 1.0}
    assert claim_file.opened(old) is not opened
    assert claim_file.opened(old).measure("one", 0).values != {"size": 1.0}  # which imports `noises` only now


def test_two_files_that_share_a_module_stay_loaded(tmp_path):
    path = write(tmp_path)
    (tmp_path / "again.py").write_text(CLAIM.replace('"own"', '"again"'))
    files = [file_of(type(claim)) for claim in catalog.claims([path, str(tmp_path / "again.py")])]
    first = [claim_file.opened(file) for file in files]
    assert [claim_file.opened(file) for file in files] == first


@pytest.mark.parametrize("backend", ["loky", pytest.param("dask", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore")  # of distributed's own
def test_a_file_is_run_by_workers_that_never_imported_it(tmp_path, backend):
    if backend == "dask":
        pytest.importorskip("distributed")
    claim = catalog.claim(write(tmp_path))
    for path in tmp_path.rglob("*.py"):
        path.unlink()  # a worker on another machine would not find it either
    runner.run(runner.trials([claim], 2), Store(tmp_path / "results"), backend, workers=1)
    found = Store(tmp_path / "results").results(claim)
    assert found.seeds() == [0, 1]
    assert {record.arm: record.values for record in found.records if record.seed == 0} == {
        arm: claim.measure(arm, 0).values for arm in claim.arms
    }


def test_a_worker_that_lacks_a_package_says_so(tmp_path):
    claim = catalog.claim(write(tmp_path))
    sent = as_sent(claim, tmp_path / "nowhere")
    sent.texts["levels"] = claim_file.Text("import no_such_package", False)
    with pytest.raises(ClusterError, match=r"a worker cannot run the claim: .*'no_such_package'; .*must be installed"):
        run_trial(sent, "one", 0, tmp_path / "results")


def test_a_worker_whose_packages_differ_says_so(tmp_path):
    claim = catalog.claim(write(tmp_path))
    expected = runner.circumstances(claim) | {"source": "another"}
    with pytest.raises(ClusterError, match="another version of the code or the data of own"):
        run_trial(as_sent(claim, tmp_path), "one", 0, tmp_path / "results", expected)
