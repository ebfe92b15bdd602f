"""Random inputs for a model: tokens, images, sound and series of the shapes that its forward pass needs.

What a shape has to be follows from the name of the argument and the configuration; where a model wants it otherwise it
says so in its error, and `repaired` tries again. A model of images and texts that refuses is asked about texts alone.
"""

import inspect
import re

import torch

from tests.huggingface.zoo.special_inputs import INPUTS

BATCH, TOKENS, TARGETS, PATCHES = 2, 9, 7, (1, 4, 4)
ATTEMPTS = 6
END = 2  # the token


def parameters(model):
    return inspect.signature(inspect.unwrap(type(model).forward)).parameters


def find(config, *fields, default=None):
    """The first of these fields that this configuration, or one below it, has a value for."""
    for field in fields:
        value = getattr(config, field, None)
        if value is not None:
            return value
    for key in getattr(config, "sub_configs", {}):
        below = getattr(config, key, None)
        if below is not None and (value := find(below, *fields)) is not None:
            return value
    return default


def pair(value):
    return (value, value) if isinstance(value, int) else tuple(value)[-2:]


def ids(shape, seed):
    return torch.randint(3, 60, shape, generator=torch.Generator().manual_seed(seed))


def noise(*shape, seed=7):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def asked(model, run):
    """Keyword arguments, without padding, with which `run(given)` does not raise."""
    given, error = inputs(model), None
    for _ in range(ATTEMPTS):
        try:
            run(given)
            return given
        except Exception as raised:  # whatever a model raises
            error, given = error or raised, repaired(model, dict(given), raised)
        if given is None:
            break
    raise error


def inputs(model):
    config, wanted = model.config, parameters(model)
    given = {}
    for name in wanted:
        made = argument(name, config, wanted)
        if made is not None:
            given[name] = made
    if "input_ids" in given and given["input_ids"].ndim == 2 and not model.can_generate():
        given["input_ids"][:, -1] = END  # texts are pooled there
    for alternatives in (("input_features", "input_values"), ("input_ids", "inputs_embeds")):
        if all(name in given for name in alternatives):
            given.pop(alternatives[1])
    special = INPUTS.get(config.model_type)
    return given if special is None else {k: v for k, v in (given | special(config)).items() if v is not None}


def argument(name, config, wanted):
    """The argument of this name; None where the model can do without."""
    size = pair(find(vision(config), "image_size", default=16))
    channels = find(vision(config), "num_channels", "in_channels", "in_chans", default=3)
    channels = channels if isinstance(channels, int) else 3
    text, width = "input_ids" in wanted, find(config, "hidden_size", "d_model", default=64)
    needed = wanted[name].default is inspect.Parameter.empty
    in_patches = any(grid in wanted for grid in ("image_grid_thw", "grid_thw"))
    if name == "input_ids":
        return ids((BATCH, TOKENS), 5)
    if name == "decoder_input_ids":
        return ids((BATCH, TARGETS), 6)
    if name in ("pixel_values", "pixels"):
        return patches(config) if in_patches else noise(BATCH, channels, *size)
    if name in ("hidden_states", "pixel_values_videos") and needed and in_patches:
        return patches(config)
    if name in ("image_grid_thw", "grid_thw") and ("pixel_values" in wanted or needed):
        return torch.tensor([PATCHES])
    if name == "pixel_values_videos" and not text:
        return noise(BATCH, find(config, "frames_per_clip", "num_frames", default=4), channels, *size)
    if name == "input_features" and not text:
        bins = find(
            config,
            "feature_projection_input_dim",
            "num_mel_bins",
            "input_feat_per_channel",
            "n_mels",
            "feature_size",
            default=80,
        )
        return noise(BATCH, 2 * find(config, "max_source_positions", default=16), bins)
    if name == "input_values" and not text:
        return noise(BATCH, 4000)
    if (
        name in ("inputs_embeds", "hidden_states", "query_embeds", "encoder_hidden_states", "vision_features")
        and needed
    ):
        return noise(BATCH, TOKENS, width, seed=8 + len(name))
    if name == "past_values":
        return noise(BATCH, find(config, "context_length", default=32), find(config, "num_input_channels", default=1))
    if name == "bbox" and (needed or text):
        corner = torch.randint(0, 30, (BATCH, TOKENS, 2), generator=torch.Generator().manual_seed(9))
        return torch.cat([corner, corner + 10], -1)
    if name in ("input_features_mask", "pixel_attention_mask") and needed:
        return torch.ones(BATCH, 32, dtype=torch.long)
    if name == "spatial_shapes" and needed:
        return torch.tensor([PATCHES[1:]] * BATCH)
    return None


def vision(config):
    return getattr(config, "vision_config", None) or getattr(config, "image_encoder_config", None) or config


def patches(config):
    look = vision(config)
    patch = look.patch_size**2 * (getattr(look, "temporal_patch_size", None) or 1)
    patch *= getattr(look, "in_channels", None) or getattr(look, "in_chans", None) or getattr(look, "num_channels", 3)
    return noise(PATCHES[0] * PATCHES[1] * PATCHES[2], patch)


OF_IMAGES = ("pixel_values", "image_grid_thw", "grid_thw", "pixel_values_videos", "input_features", "image_sizes")


def repaired(model, given, error):
    """Other arguments, chosen by the model's error for these; None if there is nothing else to try."""
    message = str(error)
    text, image = given.get("input_ids"), given.get("pixel_values")
    place = find(model.config, "image_token_id", "image_token_index")
    if "tokens: 0, features" in message and place is not None and text is not None and text.shape[1] == TOKENS:
        count = int(re.search(r"features:? *(\d+)", message)[1])
        for width in (64, 1):
            if count % (width * BATCH) == 0 and count // (width * BATCH) <= 256:
                count //= width * BATCH
                break
        rest = ids((BATCH, TOKENS), 5)
        spaces = torch.full((BATCH, count), place)
        return given | {"input_ids": torch.cat([rest[:, :2], spaces, rest[:, 2:]], 1)}
    if "expected 5, got 4" in message and image is not None and image.ndim == 4:
        return given | {"pixel_values": image[:, None].repeat(1, find(model.config, "num_frames", default=1), 1, 1, 1)}
    if length := re.search(r"mel input features to be of length (\d+)", message):
        bins = find(model.config, "num_mel_bins", default=80)
        return given | {"input_features": noise(BATCH, bins, int(length[1]))}
    missing = re.findall(r"'(\w+)'", message) if "missing" in message and "required positional" in message else []
    for name in ("input_features", "input_values"):
        if name in given and re.search(r"to have \d+ channels|normalized_shape|Dimension out of range|mono", message):
            x = given[name]
            if x.ndim == 3:
                return given | {name: x.mT.contiguous()}
            if x.ndim == 2:
                return given | {name: x[:, None]}
    if text is not None and not missing and any(name in given for name in OF_IMAGES):
        kept = {name: value for name, value in given.items() if name not in OF_IMAGES}
        return kept | {"input_ids": ids((BATCH, TOKENS), 5)}
    return None


def padded(model, given, side):
    """The same with an attention mask, three tokens of the second row hidden at the given side."""
    out = dict(given)
    for tokens, mask in (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask")):
        if tokens not in given or given[tokens].shape[:-1] != (BATCH,):  # codebooks
            continue
        if mask.startswith("decoder") and side == "left":
            continue
        text, real = given[tokens].clone(), torch.ones_like(given[tokens])
        real[1, slice(0, 3) if side == "left" else slice(-3, None)] = 0
        if side == "right" and text[1, -1] == END:
            text[1, -4] = END
        out[tokens], out[mask] = torch.where((real == 1) | (text >= 60), text, 0), real
    if hasattr(model.config, "canvas_length"):  # a decoder that attends to the whole text and to all its outputs
        out["decoder_attention_mask"] = torch.cat(
            [out["attention_mask"], torch.ones_like(given["decoder_input_ids"])], 1
        )
    return out
