"""A claim in a file of one's own: the text of the file, and of the modules beside it that it imports.

The texts are read once. They are what runs, what names the results, and what is sent to workers, which therefore need
not have the file. The modules are imported under their own names, as Python imports those beside a script, so a name
that another module has already is refused. `sys.path` does not change.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shlex
import sys
import threading
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.abc import ExecutionLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

from limelight.errors import InputError
from limelight.experiment.claim import Claim
from limelight.experiment.claim_class import claims_in, complete, described
from limelight.experiment.provenance.sources import Text, imported_modules

_LOCK = threading.RLock()  # held while modules are imported: the threads of one worker share `sys.modules`


@dataclass(frozen=True)
class ClaimFile:
    """The absolute path of a claim's file, and the texts of its module and of those beside it that it imports."""

    path: Path
    texts: Mapping[str, Text]

    def place(self, module: str) -> Path:
        """The file of one of the modules."""
        stem = self.path.parent.joinpath(*module.split("."))
        return stem / "__init__.py" if self.texts[module].is_package else stem.with_name(f"{stem.name}.py")


_FILES: WeakKeyDictionary[type[Claim], ClaimFile] = WeakKeyDictionary()


def file_of(claim: type) -> ClaimFile | None:
    """The file from which a claim was loaded, or None for a claim that was imported."""
    return _FILES.get(claim)


def address(claim: Claim) -> str:
    """What names the claim on the command line: its name, or the path of its file, quoted for a shell where needed."""
    file = file_of(type(claim))
    if file is None:
        return claim.name
    near = file.path.is_relative_to(Path.cwd())
    return shlex.quote(os.path.join(".", file.path.relative_to(Path.cwd())) if near else str(file.path))


def load(path: str) -> Claim:
    """The claim in the file at this path, which is read anew. Raises `InputError` in one sentence if there is none."""
    file = _read(path)
    for name in sorted({name.partition(".")[0] for name in file.texts}):
        require_free(name, file.place(name))
    return _run(file)


def opened(file: ClaimFile) -> Claim:
    """The claim in a file whose texts were read elsewhere. They are run once for as long as they do not change."""
    with _LOCK:
        importers = [finder for finder in sys.meta_path if isinstance(finder, _Importer)]
        now: dict[str, tuple[Path, Text]] = {}
        for importer in reversed(importers):  # the first that has a module is the one that Python asks
            now |= {name: (importer.file.place(name), text) for name, text in importer.file.texts.items()}
        if all(now.get(name) == (file.place(name), text) for name, text in file.texts.items()):
            known = [importer.claim for importer in importers if importer.file == file and importer.claim is not None]
            if known:
                return known[0]
        return _run(file)


class _Importer(MetaPathFinder, ExecutionLoader):
    """Gives Python the modules of one claim file from their texts."""

    def __init__(self, file: ClaimFile) -> None:
        self.file = file
        self.claim: Claim | None = None

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(name, self) if name in self.file.texts else None

    def get_filename(self, name: str) -> str:
        return str(self.file.place(name))

    def get_source(self, name: str) -> str:
        return self.file.texts[name].text

    def is_package(self, name: str) -> bool:
        return self.file.texts[name].is_package


def _read(given: str) -> ClaimFile:
    path = Path(os.path.abspath(given))  # links stay: a helper lies beside the link
    if path.suffix != ".py" or not path.stem.isidentifier():
        raise InputError(f"expected the file of a claim, named as a Python module such as my_claim.py, got {given!r}")
    if not path.is_file():
        raise InputError(f"there is no file {given}; `limelight new-claim NAME` writes one to start from")
    texts: dict[str, Text] = {}
    pending = [path.stem]
    for name in pending:
        found = None if name in texts or name.partition(".")[0] == "limelight" else _beside(path.parent, name)
        if found is None:
            continue
        place, is_package = found
        try:
            text = importlib.util.decode_source(place.read_bytes()) if place.exists() else ""
            pending += imported_modules(name, Text(text, is_package))
        except (OSError, SyntaxError, ValueError) as problem:  # the last for bytes that are no text
            raise InputError(_why(given, problem, [place])) from None
        texts[name] = Text(text, is_package)
    return ClaimFile(path, texts)


def _beside(folder: Path, module: str) -> tuple[Path, bool] | None:
    """The file of a module in a folder, and whether it is a package. A folder of modules is one without that file."""
    stem = folder.joinpath(*module.split("."))
    file = stem.with_name(f"{stem.name}.py")
    if (stem / "__init__.py").is_file() or (stem.is_dir() and not file.is_file() and any(stem.glob("*.py"))):
        return stem / "__init__.py", True
    return (file, False) if file.is_file() else None


def require_free(name: str, place: Path) -> None:
    """Raise `InputError` if Python has another module of this name than the one in this file."""
    try:
        spec = importlib.util.find_spec(name)
    except ValueError:  # for `__main__`
        spec = ModuleSpec(name, None, origin="the program that runs")
    mine = {os.path.realpath(place), os.path.realpath(place.parent)}
    if spec is None or mine & {os.path.realpath(one) for one in (spec.origin, *_folders(spec)) if one}:
        return
    raise InputError(
        f"{place} would be imported as {name!r}, but Python has another module of that name "
        f"({spec.origin or ', '.join(_folders(spec))}); give the file another name"
    )


def _folders(spec: ModuleSpec) -> list[str]:
    return list(spec.submodule_search_locations or ())


def _run(file: ClaimFile) -> Claim:
    """Import the modules of a file anew, also where older ones of these names have been imported."""
    importer = _Importer(file)
    with _LOCK:
        _forget(file)
        sys.meta_path.insert(0, importer)
        try:
            kind = _only_claim(_imported(file), file)
            _FILES[kind] = file
            importer.claim = complete(kind, str(file.path))
        except InputError:
            sys.meta_path.remove(importer)
            _forget(file)
            raise
    return importer.claim


def _forget(file: ClaimFile) -> None:
    for name in file.texts:
        sys.modules.pop(name, None)


def _imported(file: ClaimFile) -> ModuleType:
    try:
        return importlib.import_module(file.path.stem)
    except (Exception, SystemExit) as problem:
        raise InputError(_why(str(file.path), problem, [file.place(name) for name in file.texts])) from None


def _only_claim(module: ModuleType, file: ClaimFile) -> type[Claim]:
    found = claims_in(module)
    if len(found) != 1:
        names = " and ".join(one.__name__ for one in found) or "none"
        raise InputError(f"{file.path} should define one subclass of Claim, and defines {names}; keep one in each file")
    return found[0]


def _why(given: str, problem: BaseException, places: Sequence[Path]) -> str:
    """Why a file cannot be imported, with the last line of the user's own that was reached."""
    mine = [str(place) for place in places]
    if isinstance(problem, SyntaxError):
        at = [(problem.filename if problem.filename in mine else mine[0], problem.lineno)]
    else:
        at = [(one.filename, one.lineno) for one in traceback.extract_tb(problem.__traceback__) if one.filename in mine]
    where = f" ({Path(at[-1][0]).name}, line {at[-1][1]})" if at else ""
    hint = "; it can import what is installed and the modules in its own folder"
    return f"{given} cannot be imported{where}: {described(problem)}{hint * isinstance(problem, ModuleNotFoundError)}"
