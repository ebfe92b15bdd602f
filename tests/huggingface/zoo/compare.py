"""Compare a tiny random model of a type with the same model under Limelight's attention.

`compare(name)` computes a type's row for the table in docs/models.md. A model runs under `eager` and then in three
ways: with the name of a registered mechanism, and with a transplant on `eager` and on `sdpa`. It is asked without
padding, for its attention weights, with padding on either side, and for three tokens that it generates. A similarity
that is not the dot product must give other outputs, which shows that the outputs depend on attention.
"""

import contextlib
import math
import warnings
from dataclasses import dataclass, field
from functools import partial

import torch
import transformers
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from limelight import Euclidean, InputError
from limelight.huggingface import attention_layers, register, transplant
from limelight.huggingface.layers import uses_attention_interface
from tests.huggingface.zoo import configs, inputs

DOT, OTHER = "zoo-dot", "zoo-euclidean"
ROUNDING, SHOWS = 2e-4, 1e-3  # relative to the size of the outputs: equal below the first, different above the second
WAYS = {"registered": DOT, "transplanted on eager": "eager", "transplanted on sdpa": "sdpa"}
LARGEST = 60e6  # parameters
WEIGHTS = "asked for its weights"
EAGER_ADDS = "its eager adds a boolean mask to the scores and so hides nothing; compared with its sdpa, which hides"
EAGER_IS_NAN = "eager itself gives NaN"
SDPA_IS_ANOTHER = "transformers' own sdpa is not its eager here; the transplant on sdpa is its sdpa"
OTHER_WEIGHTS = dict.fromkeys(
    ["GraniteSWAForCausalLM", "GraniteMoeSWAForCausalLM"],
    "eager's weights leave out what the sink takes; Limelight's are what multiplies the values",
)
NO_EAGER = {"Qwen2_5OmniToken2WavDiTModel", "Qwen2_5OmniToken2WavModel"}  # these ask for sdpa alone
PADDING_COUNTS = {  # sides on which a model is not padded, since padding changes its outputs under eager too
    "BltForCausalLM": ("left", "right"),  # its patches hold bytes of padding
    "PeAudioModel": ("left",),  # its output is that of its first token
}
CACHES = {"cache", "past_key_values", "cache_params"}


class UnsupportedError(Exception):
    """transformers has no sdpa for this model."""


@dataclass
class Row:
    """The result for one type. `reason` says why there is no comparison, and `remarks` has further facts."""

    result: str
    model: str = ""
    reason: str = ""
    difference: float = 0.0
    layers: list[str] = field(default_factory=list)  # the classes that attended
    remarks: list[str] = field(default_factory=list)


def quietly():
    """For a process of its own."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()


def compare(name):
    kind = configs.model_class(name)
    if kind is None:
        return Row("part", reason="a configuration without a model of its own")
    try:
        if not configs.asks_somewhere(configs.config(name)):
            return Row("no interface", kind.__name__)
        with contextlib.suppress(NotImplementedError):  # by some models on the meta device
            if not attention_layers(outline(name)):
                return Row("no interface", kind.__name__)
        model = build(name)
        given = inputs.asked(model, lambda given: run(model, given))
    except Exception as error:  # whatever a model raises
        return Row("not asked", kind.__name__, brief(error), layers=layers_of(name))
    if not attention_layers(model):
        return Row("no interface", kind.__name__)
    return compared(model, given)


def compared(model, given):
    row, attended, worst = Row("equal", type(model).__name__), {}, {}
    control, refused = 0.0, {}
    with watched(attended):
        for case, arguments, ask in cases(model, given):
            try:
                eager = ask()
            except Exception as error:
                if case != WEIGHTS:  # not every model returns them
                    row.remarks.append(f"not asked {case}: {brief(error)}")
                continue
            for way, used in WAYS.items():
                if used == "eager" != base(type(model)):
                    continue
                try:
                    out = under(model, used, ask, lent=way != "registered")
                except InputError as error:
                    refused[way] = str(error)
                except UnsupportedError:
                    row.remarks.append("transformers has no sdpa for it")
                else:
                    hides = (
                        base(type(model)) == "eager" and torch.bool in attended.values()
                    )  # what eager would add to the scores, and so not hide
                    if hides:
                        row.remarks.append(EAGER_ADDS)
                    own = partial(under, model, "sdpa", ask) if used == "sdpa" or hides else None
                    worst[f"{way}, {case}"] = apart(out, eager, own, arguments, row.remarks)
            with contextlib.suppress(InputError):
                control = max(control, difference(eager, under(model, OTHER, ask), arguments))
    if row.model in OTHER_WEIGHTS:
        row.remarks.append(OTHER_WEIGHTS[row.model])
    for side in PADDING_COUNTS.get(row.model, ()):
        row.remarks.append(f"not asked padded on the {side}: its answers depend on that padding, under eager too")
    if base(type(model)) != "eager":
        row.remarks.append("transformers has no eager for it; compared with its sdpa")
    row.remarks, row.layers = list(dict.fromkeys(row.remarks)), sorted(attended)
    row.difference = max(worst.values(), default=0.0)
    if refused:
        row.result, row.reason = "refused", "; ".join(dict.fromkeys(refused.values()))
        if len(refused) < len(WAYS):
            row.reason = f"{', '.join(refused)}: {row.reason}"
    if row.difference > ROUNDING:
        row.result = "wrong"
        row.reason = "; ".join(f"{where}: {off:.1g}" for where, off in worst.items() if off > ROUNDING)
    elif not attended:
        row.result = row.result if refused else "no interface"
    elif control < SHOWS and not refused:
        row.result, row.reason = "not asked", "attention reaches nothing of what it returns for these inputs"
    elif EAGER_IS_NAN in row.remarks and not refused:
        row.result, row.reason = "not asked", EAGER_IS_NAN
    return row


def apart(out, eager, own, arguments, remarks):
    """The difference from eager's outputs, or from own(), those of transformers' sdpa, if these differ from eager's."""
    right = eager
    if any(torch.isnan(x).any() for x in eager.values()):
        remarks.append(EAGER_IS_NAN)
        right = out
    if own is not None and difference(right, out, arguments) > ROUNDING:
        right = own()
        if difference(eager, right, arguments) > ROUNDING:
            if EAGER_ADDS not in remarks:
                remarks.append(SDPA_IS_ANOTHER)
            out = {key: out[key] for key in right if key in out}  # sdpa gives no weights
    if missing := {key for key in right.keys() - out.keys() if "attentions" in key}:
        remarks.append("its layers are not told that weights are asked for, so it returns None for them, as under sdpa")
        right = {key: x for key, x in right.items() if key not in missing}
    return difference(right, out, arguments)


def cases(model, given):
    """The comparisons of a model: (a name, arguments, a function that returns its outputs by name)."""
    asked = {"without padding": given}
    if type(model).__name__ not in OTHER_WEIGHTS:
        asked[WEIGHTS] = given | {"output_attentions": True}
    if "attention_mask" in inputs.parameters(model) and "input_ids" in given:
        for side in ("left", "right"):
            if side not in PADDING_COUNTS.get(type(model).__name__, ()):
                asked[f"padded on the {side}"] = inputs.padded(model, given, side)
    for case, arguments in asked.items():
        yield case, arguments, lambda arguments=arguments: run(model, arguments)
    if model.can_generate() and {"input_ids", "decoder_input_ids"} & given.keys():
        prompt = asked.get("padded on the left", given)
        yield "generating", {}, lambda: generated(model, prompt)


def under(model, used, ask, lent=False):
    """The outputs with the attention of this name, with Limelight's dot product transplanted into the model."""
    try:
        model.set_attn_implementation(used)
    except ValueError as error:
        raise UnsupportedError from error
    try:
        with transplant(model) if lent else contextlib.nullcontext():
            return ask()
    finally:
        model.set_attn_implementation(base(type(model)))


@contextlib.contextmanager
def watched(attended):
    """The classes of layers that use the registered name, and the dtype of the last mask that one passed."""
    register(DOT)
    register(OTHER, Euclidean(0.7))
    function = ALL_ATTENTION_FUNCTIONS[DOT]

    def call(module, query, key, value, attention_mask, *args, **given):
        attended[class_of(module)] = getattr(attention_mask, "dtype", None)
        return function(module, query, key, value, attention_mask, *args, **given)

    ALL_ATTENTION_FUNCTIONS.register(DOT, call)
    try:
        yield
    finally:
        register(DOT)


def class_of(layer):
    return f"{type(layer).__module__.rpartition('.')[2].removeprefix('modeling_')}.{type(layer).__name__}"


def build(name):
    kind = configs.model_class(name)
    with contextlib.suppress(NotImplementedError):
        size = sum(p.numel() for p in outline(name).parameters())
        if size > LARGEST:
            raise ValueError(f"{size / 1e6:.0f} million parameters in its smallest configuration here")
    torch.manual_seed(0)
    model = kind._from_config(configs.config(name), attn_implementation=base(kind)).eval().float()
    enlarge(model)
    return model


def base(kind):
    """What Limelight is compared with."""
    return "sdpa" if kind.__name__ in NO_EAGER else "eager"


def outline(name):
    """The model without its numbers."""
    with torch.device("meta"):
        kind = configs.model_class(name)
        return kind._from_config(configs.config(name), attn_implementation=base(kind))


def layers_of(name):
    """The classes of the layers of a model that could not be run, if it can be built without numbers."""
    try:
        return sorted({class_of(layer) for layer in outline(name).modules() if uses_attention_interface(layer)})
    except Exception:
        return []


@torch.no_grad()
def enlarge(model):
    """Enlarges the weights: with initial ones all attention is nearly uniform, and some are zero."""
    torch.manual_seed(1)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if not weight.is_floating_point() or not weight.numel():
                continue
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and name == "weight":
                weight.normal_(0, 1.5 / math.sqrt(max(1, weight[0].numel())))
            elif isinstance(module, nn.Embedding):
                weight.normal_(0, 1)
            elif (
                not torch.isfinite(weight).all()
                or (weight == 0).all()
                or weight.abs().max() > 1e6
                or (weight.ndim > 1 and weight.std() < 0.2)
            ):
                weight.normal_(0, 0.3)


@torch.no_grad()
def run(model, given):
    torch.manual_seed(3)
    return dict(tensors(model(**given)))


@torch.no_grad()
def generated(model, given):
    torch.manual_seed(3)
    given = {key: value for key, value in given.items() if not key.startswith("decoder_")}
    if model.config.is_encoder_decoder and model.generation_config.decoder_start_token_id is None:
        model.generation_config.decoder_start_token_id = 1
    settings = {"max_new_tokens": 3, "min_new_tokens": 3, "do_sample": False, "num_beams": 1}
    out = model.generate(**given, **settings, return_dict_in_generate=True, output_logits=True)
    return {f"step {i}": x for i, x in enumerate(out.logits)}


def tensors(out, path=""):
    """All floating outputs but caches and attentions, by their names."""
    if isinstance(out, torch.Tensor):
        if out.is_floating_point():
            yield path, out
    elif isinstance(out, dict):
        for key, value in out.items():
            if key not in CACHES:
                yield from tensors(value, f"{path}.{key}" if path else key)
    elif isinstance(out, (list, tuple)):
        for i, value in enumerate(out):
            yield from tensors(value, f"{path}[{i}]")


def difference(right, out, given):
    """The largest difference at tokens that are not padding, divided by the size of the outputs if that is above 1."""
    if right.keys() != out.keys():
        return math.inf
    worst = 0.0
    for name, x in right.items():
        x, y = x.double(), out[name].double()
        if x.shape != y.shape:
            return math.inf
        if (real := not_padding(x, given)) is not None:
            x, y = x[real], y[real]
        fine = torch.isfinite(x)
        if not torch.equal(fine, torch.isfinite(y)):
            return math.inf
        if fine.any():
            worst = max(worst, ((x - y)[fine].abs().max() / max(1.0, x[fine].abs().max())).item())
    return worst


def not_padding(x, given):
    """Of outputs (batch, tokens, …), which tokens are real; a model may add some at the end. None if x is none such."""
    for mask in ("attention_mask", "decoder_attention_mask"):
        real = given.get(mask)
        if real is not None and x.ndim > 1 and len(x) == len(real) and 0 <= x.shape[1] - real.shape[1] <= 1:
            return nn.functional.pad(real, (0, x.shape[1] - real.shape[1]), value=1).bool()
    return None


def brief(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:160]
