"""The command line: arguments in, exit codes out. What is shown is in `limelight.report.terminal`."""

from __future__ import annotations

import functools
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from limelight import __version__
from limelight.errors import ClusterError, InputError, LimelightError, MissingExtraError, StoreError, how_to_install
from limelight.experiment import catalog, new_claim, runner
from limelight.experiment.claim import Claim
from limelight.experiment.claim_file import address
from limelight.experiment.processes import stopping_like_ctrl_c
from limelight.experiment.results import Results
from limelight.experiment.search import FIRST_SEED, SEEDS, Found, Search, TunedClaim, searched
from limelight.experiment.store import Store, write_atomically
from limelight.report import export, replication, search_table, streams, terminal
from limelight.report.entry import Entry
from limelight.report.plain_text import encodable, visible
from limelight.report.summaries import Summaries, summarized
from limelight.report.summary import Summary

FAULTS, BAD_INPUT, UNREACHABLE, INTERRUPTED = 1, 2, 3, 130
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


class Program(TyperGroup):
    """The program on any terminal: see `limelight.report.streams`."""

    def main(self, args: Sequence[str] | None = None, *rest: Any, **options: Any) -> Any:
        arguments = sys.argv[1:] if args is None else list(args)
        with streams.prepared(UNREACHABLE):
            for argument in arguments:
                if CONTROL.search(argument):
                    terminal.log(f"an argument holds a control character: {visible(argument)!r}; type it without")
                    raise SystemExit(BAD_INPUT)
            return super().main(args, *rest, **options)


app = typer.Typer(
    cls=Program,
    help="Claims about attention, put to the test on your own machine.",
    epilog="Exit codes: 0 every verdict was reached, whatever it is · 1 a run raised an error · 2 bad input · "
    "3 a folder or a cluster cannot be used · 130 interrupted; what was finished is kept.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _given(text: str) -> str:
    if not text.strip():
        raise typer.BadParameter("expected a name, got an empty text")
    return text


def _path(text: str | Path) -> Path:
    return Path(_given(str(text)))


A_CLAIM = "by name, or the file of one of your own, such as ./my_claim.py"
Names = Annotated[list[str] | None, typer.Argument(metavar="CLAIM", help=f"Claims {A_CLAIM}; all if none is given.")]
Folder = Annotated[
    Path,
    typer.Option(
        "--results", envvar="LIMELIGHT_RESULTS", help="Where results are kept.", parser=_path, metavar="FOLDER"
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
RESULTS = Path("results")


def reporting_errors(command: Callable[..., None]) -> Callable[..., None]:
    """One sentence and an exit code for what goes wrong, instead of a traceback."""

    @functools.wraps(command)
    def guarded(*args: Any, **options: Any) -> None:
        try:
            command(*args, **options)
        except (StoreError, ClusterError) as problem:
            _quit(problem, UNREACHABLE)
        except LimelightError as problem:
            _quit(problem, BAD_INPUT)

    return guarded


@app.command("list")
@reporting_errors
def list_claims(names: Names = None, results: Folder = RESULTS, as_json: AsJson = False) -> None:
    """The claims, and the verdicts reached so far."""
    claims = _summaries(names, Store(results))
    if as_json:
        _print_json([{"name": c.name, "title": c.title, "verdict": c.verdict and c.verdict.outcome} for c in claims])
    else:
        terminal.show_list(claims)


@app.command()
@reporting_errors
def run(
    names: Names = None,
    quick: Annotated[bool, typer.Option("--quick", help=f"{runner.QUICK} seeds: the default.")] = False,
    full: Annotated[bool, typer.Option("--full", help=f"{runner.FULL} seeds.")] = False,
    seeds: Annotated[int | None, typer.Option(help="This many seeds.", show_default=False)] = None,
    arm: Annotated[list[str] | None, typer.Option(help="Only this arm; may be repeated.", show_default=False)] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes at once; as many as cores.", show_default=False)
    ] = None,
    backend: Annotated[str, typer.Option(help="loky (this machine), dask or ray.")] = "loky",
    address: Annotated[str | None, typer.Option(help="Of the Dask or Ray cluster; started here if left out.")] = None,
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Run claims and print their verdicts. What has a result already is not run again."""
    if sum((quick, full, seeds is not None)) > 1:
        raise InputError("--quick, --full and --seeds exclude each other; give one")
    count = seeds if seeds is not None else runner.FULL if full else runner.QUICK
    claims = _that_can_run(_claims(names), is_named=bool(names))
    runner.check_workers(backend, workers, address)
    wanted = runner.trials(claims, count, [_arm(name, claims) for name in arm or ()])
    store = Store(results)
    ran = _run_missing(wanted, store, backend, workers, address)
    found = [(claim, store.results(claim, count)) for claim in claims]
    entries = [(claim, _judged(claim, results)) for claim, results in found]
    if as_json:
        told = [terminal.as_json(Summary.of(*entry)) for entry in entries]
        _print_json({"results": str(results), "ran": ran, "claims": told})
    else:
        terminal.show_verdicts(entries)
    if any(record.status == "error" for _, results in found for record in results.failures):
        raise typer.Exit(FAULTS)


@app.command()
@reporting_errors
def replicate(
    name: Annotated[str, typer.Argument(metavar="CLAIM", help="A claim by name.")],
    seeds: Annotated[
        int | None, typer.Option(help="This many seeds; as many as the verdict has if left out.", show_default=False)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes at once; as many as cores.", show_default=False)
    ] = None,
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Run a claim again on seeds that its verdict has not used, and print both verdicts side by side."""
    (claim,) = _that_can_run([catalog.claim(name)], is_named=True)
    store = Store(results)
    original = _judged(claim, store.results(claim))
    if original is None:
        raise InputError(f"{name} has no verdict in {results} to replicate; run `limelight run {name}` first")
    runner.check_workers(workers=workers)
    count, first = original.seeds if seeds is None else seeds, runner.FIRST_OF_REPLICATION
    _run_missing(runner.trials([claim], count, first=first), store, workers=workers)
    again = _judged(claim, store.results(claim, count, first))
    if again is None:
        raise InputError(f"no seed of the replication of {name} has a result for every arm")
    if as_json:
        _print_json(replication.as_json(original, again))
    else:
        replication.show(original, again)


@app.command()
@reporting_errors
def tune(
    name: Annotated[str, typer.Argument(metavar="CLAIM", help="A claim by name, whose arms are trained.")],
    workers: Annotated[
        int | None, typer.Option(help="Processes at once; as many as cores.", show_default=False)
    ] = None,
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Try the same learning rates with every arm, on seeds that no verdict uses, and print what each arm reached."""
    claim = catalog.claim(name)
    if not isinstance(claim, TunedClaim):
        raise InputError(f"{name} has no learning rates to search; `limelight show {name}` prints what it measures")
    runner.check_workers(workers=workers)
    search, store = Search(claim), Store(results)
    _run_missing(runner.trials([search], SEEDS, first=FIRST_SEED), store, workers=workers)
    found = search.table(store.results(search, SEEDS, FIRST_SEED))
    if as_json:
        _print_json(search_table.as_json(claim, found))
    else:
        search_table.show(claim, found)


def _run_missing(
    wanted: Sequence[runner.Trial],
    store: Store,
    backend: str = "loky",
    workers: int | None = None,
    address: str | None = None,
) -> int:
    """Run the trials that have no result, with their progress; the number of those that were missing."""
    missing = runner.missing(wanted, store)
    terminal.log_problems(store.damaged)
    try:
        with stopping_like_ctrl_c(), terminal.progress(len(wanted), len(wanted) - len(missing)) as done:
            runner.run(missing, store, backend, workers, address, done)
    except KeyboardInterrupt:
        left = len(runner.missing(wanted, store))
        terminal.log(
            f"interrupted; {len(wanted) - left} of {len(wanted)} runs are kept, and the same command runs the others"
        )
        raise typer.Exit(INTERRUPTED) from None
    return len(missing)


@app.command("report")
@reporting_errors
def write_report(
    names: Names = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="The file to write; report.html in the folder of results if left out.", parser=_path, metavar="FILE"
        ),
    ] = None,
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write one self-contained HTML page with every verdict and the evidence for it."""
    from limelight.report.page import render  # here, as in the commands below, since it takes long to import

    claims = _claims(names)
    store = Store(results)
    found = [(claim, store.results(claim)) for claim in claims]
    terminal.log_problems(store.damaged)
    entries = [entry for claim, results_of in found if (entry := _judged(claim, results_of, searched(claim, store)))]
    partial = [(claim, results_of) for claim, results_of in found if results_of.records and not results_of.seeds()]
    if not entries and not partial:
        raise InputError(
            f"no results in {results} to report on; run `limelight run` first, or name a folder with --results"
        )
    reporting_errors = [_incomplete(claim, results_of) for claim, results_of in partial]
    if not entries:
        raise InputError("no verdict to report on: " + "; ".join(reporting_errors))
    for sentence in reporting_errors:
        terminal.log(f"left out of the report: {sentence}")
    path = output or results / "report.html"
    page = render(entries)
    write_atomically(path, page)
    if as_json:
        _print_json(
            {"report": str(path), "bytes": len(page.encode()), "claims": [entry.claim.name for entry in entries]}
        )
    else:
        terminal.log_report(path, len(page.encode()))


@app.command("export")
@reporting_errors
def export_results(
    output: Annotated[
        Path,
        typer.Option(
            help="The file to write, which ends in .csv or .parquet; Parquet needs pyarrow or polars.",
            parser=_path,
            metavar="FILE",
        ),
    ],
    names: Names = None,
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """Write one table with a row for each trial, those of replications too, and a column for each measure."""
    content_of = export.writer(output)
    claims = _claims(names)
    store = Store(results)
    found = {claim.name: store.records(claim, (0, runner.FIRST_OF_REPLICATION)) for claim in claims}
    terminal.log_problems(store.damaged)
    records = [record for of_claim in found.values() for record in of_claim]
    if not records:
        raise InputError(
            f"no results in {results} to export; run `limelight run` first, or name a folder with --results"
        )
    measures = [measure for claim in claims if found[claim.name] for measure in claim.measures]
    content = content_of(export.columns(records, measures))
    write_atomically(output, content)
    if as_json:
        exported = [name for name, of_claim in found.items() if of_claim]
        _print_json({"export": str(output), "bytes": len(content), "rows": len(records), "claims": exported})
    else:
        terminal.log_export(output, len(records))


@app.command()
@reporting_errors
def show(
    name: Annotated[str, typer.Argument(metavar="CLAIM", help=f"A claim {A_CLAIM}.")],
    results: Folder = RESULTS,
    as_json: AsJson = False,
) -> None:
    """One claim: its question, who competes, what is expected, and what was found."""
    (claim,) = _summaries([name], Store(results))
    if as_json:
        _print_json(terminal.as_json(claim))
    else:
        terminal.show_claim(claim)


@app.command("new-claim")
@reporting_errors
def write_new_claim(
    name: Annotated[str, typer.Argument(help="Its name, which is also the name of the file.")], as_json: AsJson = False
) -> None:
    """Write NAME.py, a claim of your own that runs as it is, into the current folder."""
    path = new_claim.write(_given(name), Path())
    command = f"limelight run ./{path.name} --quick"
    if as_json:
        _print_json({"file": str(path), "command": command})
    else:
        typer.echo(f"Wrote {path.name}, which runs as it is: {command}")


@app.command()
@reporting_errors
def inspect(
    model: Annotated[
        str,
        typer.Argument(help="A folder, an installed package that ships a model, or a name on the Hugging Face Hub."),
    ],
    text: Annotated[str | None, typer.Option(help="The text to read.", show_default=False)] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(help="A file with a text to read; may be repeated.", parser=_path, metavar="FILE"),
    ] = None,
    lines: Annotated[bool, typer.Option("--lines", help="Each line of a file is a text of its own.")] = False,
    image: Annotated[
        Path | None, typer.Option(help="A picture to look at, for a model of images.", parser=_path, metavar="FILE")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Write a page with every head to this file.", parser=_path, metavar="FILE")
    ] = None,
    tokens: Annotated[int | None, typer.Option(help="Read only this many tokens.", show_default=False)] = None,
    ablate: Annotated[
        bool, typer.Option("--ablate", help="Also ablate each head in turn: how far does the model's output move?")
    ] = False,
    compare: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Compare it with this model, head by head.", show_default=False),
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="Let transformers fetch the model from the Hub, over the network.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a model read texts or look at a picture, and show what each of its attention heads does."""
    words = [] if image is not None else _texts_to_read(text, file or [], lines)
    if image is not None and (text is not None or file or lines or tokens is not None):
        raise InputError("--image is read by itself; leave out --text, --file, --lines and --tokens")
    from limelight.microscope.load import load

    loaded = load(_given(model), download=download)
    from limelight.microscope.ablation_effect import ablation_effect
    from limelight.report.microscope import page as heads_page
    from limelight.report.microscope import terminal as heads
    from limelight.report.microscope.session import Session

    session = Session(words, image, tokens, [ablation_effect] if ablate else [])
    seen, comparison = session.of(loaded), None
    if compare is not None:
        from limelight.microscope.comparing import Comparison

        comparison = Comparison(seen.reading, session.of(load(_given(compare), download=download)).reading)
    page = None if output is None else heads_page.render(seen.reading, comparison, seen.over)
    if output is not None and page is not None:
        write_atomically(output, page)
    if as_json:
        written = {} if output is None or page is None else {"page": str(output), "bytes": len(page.encode())}
        _print_json(written | heads.as_json(seen.reading, comparison, seen.over))
        return
    heads.show(seen.reading, seen.over)
    if comparison is not None:
        heads.show_comparison(comparison)
    if output is not None and page is not None:
        terminal.log_page("Page", output, len(page.encode()))


def _texts_to_read(text: str | None, files: Sequence[Path], lines: bool) -> list[str]:
    if (text is None) == (not files):
        raise InputError(
            "give the text to read with --text, or with --file the file that it is in, or a picture with --image"
        )
    if lines and not files:
        raise InputError("--lines says that each line of a --file is a text, and no --file is given")
    if text is not None:
        return [_given(text)]
    return [words for file in files for words in _texts_of(file, lines)]


def _texts_of(file: Path, lines: bool) -> list[str]:
    """The text in a file, or its lines but for empty ones."""
    try:
        words = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as problem:
        raise InputError(f"{file} cannot be read as text in UTF-8: {problem}") from None
    if not words.strip():
        raise InputError(f"{file} is empty; give a file with some words")
    return [line for line in words.splitlines() if line.strip()] if lines else [words]


@app.command()
@reporting_errors
def lab(
    host: Annotated[str, typer.Option(help="The address to listen on; 0.0.0.0 lets others in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes any that is free.")] = 8765,
    browser: Annotated[bool, typer.Option(help="Open the browser.")] = True,
    sessions: Annotated[int, typer.Option(help="How many pages may play at once.", min=1, max=64)] = 32,
    results: Folder = RESULTS,
) -> None:
    """Open the lab in the browser: train toy models live, move points and see the weights, read the verdicts."""
    Store(results)  # raises where there is something else
    try:
        from limelight.lab.sessions import warm

        warm()  # while the server loads
        from limelight.lab.server import serve
    except ImportError as missing:
        raise MissingExtraError(
            f"the lab needs {missing.name}, which is not installed; {how_to_install('lab')}"
        ) from None
    serve(
        host,
        port,
        browser,
        sessions,
        results,
        lambda address: terminal.log(f"the lab is at {address} · Ctrl-C stops it"),
    )


@app.callback(invoke_without_command=True)
def version(show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if show_version:
        typer.echo(f"limelight {__version__}")
        raise typer.Exit


def _claims(names: Sequence[str] | None) -> list[Claim]:
    """The claims of these names and files, or all; then a sentence is printed for each that cannot be used."""
    if not names:
        terminal.log_problems(catalog.problems())
    return catalog.claims(names or ())


def _summaries(names: Sequence[str] | None, store: Store) -> list[Summary]:
    """The summaries of the claims of these names and files, or of all, and a sentence for each thing that is wrong."""
    if names and not all(map(catalog.is_built_in, names)):
        found = [summarized(claim, store) for claim in catalog.claims(names)]
    else:
        if not names:
            terminal.log_problems(catalog.problems())
        summaries = Summaries(store)
        found = [summaries.of(name) for name in dict.fromkeys(names or catalog.usable())]
        summaries.keep()
    terminal.log_problems(store.damaged)
    return found


def _that_can_run(claims: Sequence[Claim], is_named: bool) -> list[Claim]:
    """The claims without those that need what is not installed; for each of these a sentence is printed.

    Raises `MissingExtraError` if such a claim was asked for by its name.
    """
    lacking = {claim.name: sentence for claim in claims if (sentence := claim.missing())}
    sentences = [f"{name} cannot run, since {sentence}" for name, sentence in lacking.items()]
    if is_named and sentences:
        raise MissingExtraError(sentences[0])
    terminal.log_problems(sentences)
    return [claim for claim in claims if claim.name not in lacking]


def _arm(name: str, claims: Sequence[Claim]) -> str:
    """The arm of that name, which may be typed as a terminal that has no Greek letters shows it."""
    arms = [arm for claim in claims for arm in claim.arms]
    return name if name in arms else next((arm for arm in arms if encodable(arm, "ascii") == name), name)


def _incomplete(claim: Claim, results: Results) -> str:
    """Why there is no verdict yet, and what to do."""
    lacking = [arm for arm in claim.arms if not results.seeds(arm)]
    missing = ", ".join(map(repr, lacking)) if lacking else "all arms on a common seed"
    count = "1 result" if len(results.records) == 1 else f"{len(results.records)} results"
    return f"{claim.name} has {count} but none of {missing}; run `limelight run {address(claim)}` for the rest"


def _judged(claim: Claim, results: Results, search: Sequence[Found] = ()) -> Entry | None:
    verdict = claim.verdict(results)
    return None if verdict is None else Entry(claim, results, verdict, search)


def _print_json(value: object) -> None:
    """In ASCII, with \\u escapes: the same on every terminal, and free of what a terminal would obey."""
    typer.echo(json.dumps(value, indent=2, allow_nan=False))


def _quit(problem: LimelightError, code: int) -> None:
    terminal.log(str(problem))
    raise typer.Exit(code)
