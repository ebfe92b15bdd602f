"""Every option and argument of every command, with a right value and a wrong one, in UTF-8 and in Latin-1.

The list of options is the program's own, so an option without a case here fails a test.
"""

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from limelight import cli
from limelight.errors import UnknownNameError
from limelight.experiment import catalog, runner
from limelight.experiment.search import FIRST_SEED, SEEDS, Search
from limelight.experiment.store import Store
from limelight.experiment.trial import run_trial
from limelight.report import terminal
from tests.experiment.strange import Strange
from tests.experiment.toy import Toy, Tuned

BAD, UNREACHABLE = cli.BAD_INPUT, cli.UNREACHABLE
RUN, NO_VALUE = ("run", "toy"), "does not take a value"
AGAIN = ("replicate", "toy")
INSPECT = ("inspect", "model", "--text", "the cat")
A_FILE = "expected a folder of results at file, which is a file"

# (command, option) → right arguments, what they show · wrong arguments, the exit code, what they say
CASES = {
    ("run", "names"): (RUN, "supported", ("run", "toi"), BAD, "did you mean 'toy'?"),
    ("run", "quick"): ((*RUN, "--quick"), "supported", (*RUN, "--quick=1"), BAD, NO_VALUE),
    ("run", "full"): ((*RUN, "--arm", "zero", "--full"), "verdict", (*RUN, "--full", "--quick"), BAD, "exclude"),
    ("run", "seeds"): ((*RUN, "--seeds", "10"), "supported", (*RUN, "--seeds", "1e9"), BAD, "valid integer"),
    ("run", "arm"): ((*RUN, "--arm", "one"), "supported", (*RUN, "--arm", "ein"), BAD, "unknown arm of toy 'ein'"),
    ("run", "workers"): ((*RUN, "--workers", "1"), "supported", (*RUN, "--workers", "0"), BAD, "--workers expects"),
    ("run", "backend"): ((*RUN, "--backend", "loky"), "supported", (*RUN, "--backend", "lok"), BAD, "mean 'loky'?"),
    ("run", "address"): (
        (*RUN, "--backend", "dask", "--address", "tcp://127.0.0.1:8786"), "supported",
        (*RUN, "--backend", "dask", "--address", "somewhere"), BAD, "--address expects tcp://HOST:8786",
    ),
    ("run", "results"): ((*RUN, "--results", "results"), "supported", (*RUN, "--results", "file"), UNREACHABLE, A_FILE),
    ("run", "as_json"): ((*RUN, "--json"), '"supported"', (*RUN, "--json=x"), BAD, NO_VALUE),
    ("list", "names"): (("list", "toy"), "More is more", ("list", "toi"), BAD, "did you mean 'toy'?"),
    ("list", "results"): (("list", "--results", "results"), "supported", ("list", "--results", ""), BAD, "empty text"),
    ("list", "as_json"): (("list", "--json"), '"supported"', ("list", "--json=x"), BAD, NO_VALUE),
    ("show", "name"): (("show", "toy"), "Is one more", ("show", "toi"), BAD, "did you mean 'toy'?"),
    ("show", "results"): (
        ("show", "toy", "--results", "results"), "supported", ("show", "toy", "--results", "file"), UNREACHABLE, A_FILE,
    ),
    ("show", "as_json"): (("show", "toy", "--json"), '"supported"', ("show", "toy", "--json=x"), BAD, NO_VALUE),
    ("replicate", "name"): (AGAIN, "in both", ("replicate", "toi"), BAD, "did you mean 'toy'?"),
    ("replicate", "seeds"): (AGAIN, "1000009", ("replicate", "toy", "--seeds", "0"), BAD, "--seeds expects"),
    ("replicate", "workers"): (AGAIN, "in both", ("replicate", "toy", "--workers", "0"), BAD, "--workers expects"),
    ("replicate", "results"): (AGAIN, "in both", ("replicate", "toy", "--results", "none"), BAD, "`limelight run toy`"),
    ("replicate", "as_json"): ((*AGAIN, "--json"), '"replication"', ("replicate", "toy", "--json=x"), BAD, NO_VALUE),
    ("tune", "name"): (("tune", "tuned"), "chosen", ("tune", "toi"), BAD, "did you mean 'toy'?"),
    ("tune", "workers"): (
        ("tune", "tuned", "--workers", "1"), "chosen", ("tune", "tuned", "--workers", "0"), BAD, "--workers expects",
    ),
    ("tune", "results"): (
        ("tune", "tuned", "--results", "results"), "chosen",
        ("tune", "tuned", "--results", "file"), UNREACHABLE, A_FILE,
    ),
    ("tune", "as_json"): (("tune", "tuned", "--json"), '"scores"', ("tune", "tuned", "--json=x"), BAD, NO_VALUE),
    ("report", "names"): (("report", "toy"), "Report:", ("report", "toi"), BAD, "did you mean 'toy'?"),
    ("report", "output"): (("report", "--output", "page.html"), "page.html", ("report", "--output", ""), BAD, "empty"),
    ("report", "results"): (
        ("report", "--results", "results"), "Report:",
        ("report", "--results", "none"), BAD, "run `limelight run` first",
    ),
    ("report", "as_json"): (("report", "--json"), '"toy"', ("report", "--json=x"), BAD, NO_VALUE),
    ("export", "output"): (
        ("export", "--output", "all.csv"), "all.csv",
        ("export", "--output", "all.json"), BAD, "ends in .csv or .parquet",
    ),
    ("export", "names"): (
        ("export", "toy", "--output", "all.csv"), "(80 rows)",
        ("export", "toi", "--output", "all.csv"), BAD, "did you mean 'toy'?",
    ),
    ("export", "results"): (
        ("export", "--output", "all.csv", "--results", "results"), "Table:",
        ("export", "--output", "all.csv", "--results", "none"), BAD, "run `limelight run` first",
    ),
    ("export", "as_json"): (
        ("export", "--output", "all.csv", "--json"), '"toy"',
        ("export", "--output", "all.csv", "--json=x"), BAD, NO_VALUE,
    ),
    ("new-claim", "name"): (
        ("new-claim", "own"), "limelight run ./own.py --quick", ("new-claim", "my claim"), BAD, "got 'my claim'",
    ),
    ("new-claim", "as_json"): (
        ("new-claim", "own", "--json"), '"file"', ("new-claim", "own", "--json=x"), BAD, NO_VALUE,
    ),
    ("lab", "host"): (
        ("lab", "--host", "::1"), "'::1'", ("lab", "--host", "no.such.host.invalid"), BAD, "--host expects",
    ),
    ("lab", "port"): (("lab", "--port", "0"), ", 0,", ("lab", "--port", "99999"), BAD, "--port expects"),
    ("lab", "browser"): (("lab", "--no-browser"), "False", ("lab", "--no-browser=x"), BAD, NO_VALUE),
    ("lab", "sessions"): (("lab", "--sessions", "3"), ", 3,", ("lab", "--sessions", "0"), BAD, "for '--sessions'"),
    ("lab", "results"): (("lab", "--results", "other"), "other", ("lab", "--results", "file"), UNREACHABLE, A_FILE),
    ("inspect", "model"): (INSPECT, "8 heads", ("inspect", "./none", "--text", "a"), BAD, "no folder with"),
    ("inspect", "text"): (INSPECT, "8 heads", ("inspect", "model", "--text", ""), BAD, "empty text"),
    ("inspect", "file"): (
        ("inspect", "model", "--file", "text.txt"), "8 heads",
        ("inspect", "model", "--file", "none.txt"), BAD, "cannot be read as text",
    ),
    ("inspect", "output"): ((*INSPECT, "--output", "page.html"), "page.html", (*INSPECT, "--output", ""), BAD, "empty"),
    ("inspect", "lines"): (
        ("inspect", "model", "--file", "text.txt", "--lines"), "8 heads",
        (*INSPECT, "--lines"), BAD, "no --file is given",
    ),
    ("inspect", "image"): (
        ("inspect", "vit", "--image", "picture.png"), "8 heads", ("inspect", "vit", "--image", "text.txt"), BAD,
        "no picture that can be read",
    ),
    ("inspect", "as_json"): ((*INSPECT, "--json"), '"entropy"', (*INSPECT, "--json=x"), BAD, NO_VALUE),
    ("inspect", "tokens"): ((*INSPECT, "--tokens", "1"), "1 token;", (*INSPECT, "--tokens", "0"), BAD, "--tokens"),
    ("inspect", "ablate"): ((*INSPECT, "--ablate"), "ablation", (*INSPECT, "--ablate=1"), BAD, NO_VALUE),
    ("inspect", "compare"): (
        (*INSPECT, "--compare", "model"), "none", (*INSPECT, "--compare", "./none"), BAD, "no folder with",
    ),
    ("inspect", "download"): ((*INSPECT, "--download"), "8 heads", (*INSPECT, "--download=1"), BAD, NO_VALUE),
    (None, "show_version"): (("--version",), "limelight 0.", ("--version=x",), BAD, NO_VALUE),
}  # fmt: skip


def options():
    """Every parameter of the program: (command, its name in Python)."""
    program = get_command(cli.app)
    commands = {None: program, **program.commands}
    return {(name, each.name) for name, command in commands.items() for each in command.params} - {
        (None, "install_completion"), (None, "show_completion"),
    }  # fmt: skip


def test_every_option_has_a_case():
    assert options() == set(CASES)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder = tmp_path_factory.mktemp("options") / "results"
    for seed in range(10):
        for arm in Toy.arms:
            run_trial(Toy(), arm, seed, Store(folder).folder)
    for seed in range(10, 30):
        run_trial(Toy(), "zero", seed, folder)
    search = Search(Tuned())
    others = [
        *runner.trials([Toy()], 10, first=runner.FIRST_OF_REPLICATION),
        *runner.trials([search], SEEDS, first=FIRST_SEED),
    ]
    for trial in others:
        run_trial(trial.claim, trial.arm, trial.seed, folder)
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch, results):
    """A folder with results of the toy claim, and a file where a folder belongs."""
    monkeypatch.chdir(tmp_path)
    Path("results").symlink_to(results)
    Path("file").write_text("")
    monkeypatch.setattr(catalog, "names", lambda: ["toy"])
    monkeypatch.setattr(catalog, "claim", catalog_claim)


def catalog_claim(name):
    if name not in ("toy", "tuned"):
        raise UnknownNameError("claim", name, ["toy"])
    return Toy() if name == "toy" else Tuned()


@pytest.fixture(params=["utf-8", "latin-1"])
def call(request, place):
    runner = CliRunner(charset=request.param)
    return lambda *arguments: runner.invoke(cli.app, arguments, env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("transformers", reason="needs transformers: pip install -e '.[huggingface]'")
    from tests.microscope import folders

    return folders.causal(tmp_path_factory.mktemp("models") / "model")


@pytest.mark.parametrize("option", [case for case in CASES if case[0] == "inspect"])
def test_a_model_is_inspected(call, model, option):
    Path("model").symlink_to(model)
    Path("text.txt").write_text("the cat", encoding="utf-8")
    if "vit" in CASES[option][0]:
        from tests.microscope import folders

        pytest.importorskip("PIL.Image").new("RGB", (32, 32)).save("picture.png")
        folders.vision("vit")
    test_a_right_value_works_and_a_wrong_one_is_a_sentence(call, option)


@pytest.mark.parametrize("option", [case for case in CASES if case[0] not in ("lab", "inspect")])
def test_a_right_value_works_and_a_wrong_one_is_a_sentence(call, option):
    right, shows, wrong, code, says = CASES[option]
    done = call(*right)
    assert done.exit_code == 0, done.output
    assert shows in done.stdout
    refused(call(*wrong), code, says)


@pytest.mark.parametrize("option", [case for case in CASES if case[0] == "lab"])
def test_the_lab_takes_the_right_value_and_refuses_the_wrong_one(call, option, monkeypatch):
    server = pytest.importorskip("limelight.lab.server", reason="needs Dash: pip install -e '.[lab]'")
    monkeypatch.setattr("limelight.lab.sessions.warm", lambda: None)  # no process of workers is needed here
    right, shows, wrong, code, says = CASES[option]
    refused(call(*wrong), code, says)
    told = []
    monkeypatch.setattr(server, "serve", lambda *values: told.append(values))  # the lab would serve until Ctrl-C
    assert call(*right).exit_code == 0
    assert shows in repr(told)


def refused(done, code, says):
    assert done.exit_code == code, done.output
    assert says in " ".join(done.stderr.replace("│", " ").replace("|", " ").split())
    assert done.stdout == ""
    assert isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("argument", ["\x1b[31m", "toy\x07", "\x9b2J"])
def test_a_control_character_in_an_argument_is_refused(call, argument):
    done = call("run", argument)
    assert done.exit_code == BAD
    assert "control character" in done.stderr
    assert not {"\x1b", "\x07", "\x9b"} & set(done.output)


SHOWN = [("list",), ("list", "--json"), ("show", "x"), ("show", "x", "--json"), ("run", "--arm", "one"),
         ("run", "--arm", "one", "--json"), ("report",), ("report", "--json")]  # fmt: skip


@pytest.mark.parametrize("charset", ["utf-8", "latin-1", "ascii"])
@pytest.mark.parametrize("columns", ["40", "200"])
def test_no_text_of_a_claim_is_markup_or_reaches_the_terminal(place, monkeypatch, capsys, charset, columns):
    strange = Strange()
    monkeypatch.setattr(catalog, "names", lambda: [strange.name])
    monkeypatch.setattr(catalog, "claim", lambda name: strange)
    folder = Store("strange").folder
    records = [run_trial(strange, arm, seed, folder) for arm in strange.arms for seed in range(10)]
    runner = CliRunner(charset=charset)
    for arguments in SHOWN:
        done = runner.invoke(cli.app, [*arguments, "--results", "strange"], env={"COLUMNS": columns})
        assert isinstance(done.exception, SystemExit | None), (arguments, done.exception)
        obeyed = {c for c in done.output if (c < " " and c != "\n") or "\x7f" <= c < "\xa0" or c == "\u202e"}
        assert not obeyed, (arguments, obeyed)
        if "--json" not in arguments and arguments[0] in ("list", "show"):
            assert "[/bold] [red]x[/] :smile: \\ [link=file:" in " ".join(done.output.split()), done.output
            assert "\\x1b[31m" in "".join(done.output.split())
    failure = next(record for record in records if record.status == "error")
    with terminal.progress(1, 0) as done_with:
        done_with(failure)
    told = capsys.readouterr().err
    assert "failure [/bold] [red]x[/]" in told
    assert "\x1b" not in told
    assert "\nlimelight: all is well" not in told


@pytest.mark.parametrize("columns", ["20", "40", "80"])
def test_names_are_never_cut(place, monkeypatch, columns):
    monkeypatch.undo()
    for arguments in (("list",), ("show", "free_energy_phases")):
        done = CliRunner().invoke(cli.app, arguments, env={"COLUMNS": columns})
        assert done.exit_code == 0
        wanted = catalog.names() if arguments == ("list",) else catalog.claim("free_energy_phases").arms
        for name in wanted:
            assert name in done.stdout, done.stdout
        assert "…" not in done.stdout


def test_a_report_of_one_arm_says_what_is_missing(place):
    run_trial(Toy(), "one", 0, Store("partial").folder)
    done = CliRunner().invoke(cli.app, ["report", "--results", "partial"])
    assert done.exit_code == BAD
    assert "toy has 1 result but none of 'zero', 'nothing'; run `limelight run toy` for the rest" in done.stderr


def test_a_claim_without_results_shows_its_thresholds(place):
    shown = CliRunner().invoke(cli.app, ["show", "toy", "--results", "none"], env={"COLUMNS": "200"}).stdout
    assert "one is more than zero by a half" in shown
    assert "at least 0.500" in shown
    assert "control, ought to fail: nothing is" in shown
    assert not Path("none").exists()


@pytest.mark.slow
def test_an_arm_may_be_typed_as_ascii_shows_it(place, monkeypatch):
    class Greek(Toy):
        arms = {"α = ½": "half", **Toy.arms}

        def measure(self, arm, seed):
            return super().measure("zero" if arm == "α = ½" else arm, seed)

    run_trial(Greek(), "α = ½", 0, Store("greek").folder)
    monkeypatch.setattr(catalog, "claim", lambda name: Greek())
    arguments = ["run", "toy", "--arm", "alpha = 1/2", "--seeds", "1", "--results", "greek"]
    done = CliRunner(charset="ascii").invoke(cli.app, arguments)
    assert done.exit_code == 0, done.output
    assert "all 1 runs have results already" in done.stderr
