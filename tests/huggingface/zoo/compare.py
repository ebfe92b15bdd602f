"""Is a tiny random model of a type the same model under Limelight's attention?"""

import contextlib
import math

import torch
import transformers as hf
from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from limelight import Euclidean, InputError
from limelight.huggingface import register, transplant
from tests.huggingface.zoo import configs, inputs

SAME, OTHER = "zoo-dot", "zoo-euclidean"
register(SAME)
register(OTHER, Euclidean(0.7))
CALLS = []


def _recorded(name):
    function = ALL_ATTENTION_FUNCTIONS[name]

    def call(module, query, key, value, attention_mask, *args, **given):
        CALLS.append((type(module).__name__, mask_kind(attention_mask), {k: kind(v) for k, v in given.items() if v is not None}))
        return function(module, query, key, value, attention_mask, *args, **given)

    ALL_ATTENTION_FUNCTIONS.register(name, call)


def kind(value):
    if isinstance(value, torch.Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{value.ndim}d"
    return repr(value) if isinstance(value, (bool, str)) else type(value).__name__


def mask_kind(mask):
    return "none" if mask is None else type(mask).__name__ if not isinstance(mask, torch.Tensor) else kind(mask)


_recorded(SAME)


def build(name):
    kind = configs.model_class(name)
    if kind is None:
        return None
    config = configs.config(name)
    with torch.device("meta"), contextlib.suppress(NotImplementedError):
        size = sum(p.numel() for p in kind._from_config(config, attn_implementation="eager").parameters())
        if size > 60e6:
            raise ValueError(f"{size / 1e6:.0f} million parameters")
    torch.manual_seed(0)
    model = kind._from_config(configs.config(name), attn_implementation="eager").eval().float()
    enlarge(model)
    return model


@torch.no_grad()
def enlarge(model):
    """At their initial size all attention is nearly uniform, and what starts at zero says nothing."""
    torch.manual_seed(1)
    for module in model.modules():
        for name, weight in module.named_parameters(recurse=False):
            if not weight.is_floating_point():
                continue
            if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)) and name == "weight":
                weight.normal_(0, 1.5 / math.sqrt(max(1, weight[0].numel())))
            elif isinstance(module, nn.Embedding):
                weight.normal_(0, 1)
            elif not torch.isfinite(weight).all() or (weight == 0).all() or weight.abs().max() > 1e6:
                weight.normal_(0, 0.3)
            elif weight.ndim > 1 and weight.std() < 0.2:
                weight.normal_(0, 0.3)


def tensors(out, path=""):
    """All floating outputs but caches and attentions, by their names."""
    if isinstance(out, torch.Tensor):
        if out.is_floating_point():
            yield path, out
    elif isinstance(out, dict):
        for key, value in out.items():
            if key not in {"cache", "past_key_values", "attentions", "cache_params"}:
                yield from tensors(value, f"{path}.{key}" if path else key)
    elif isinstance(out, (list, tuple)):
        for i, value in enumerate(out):
            yield from tensors(value, f"{path}[{i}]")


@torch.no_grad()
def run(model, given):
    torch.manual_seed(3)
    return dict(tensors(model(**given)))


def difference(a, b, given):
    """The largest difference, and where; over the size of what is compared, where that is more than one."""
    worst, where = 0.0, ""
    if a.keys() != b.keys():
        return math.inf, f"{sorted(a.keys() ^ b.keys())}"
    for name in a:
        x, y = a[name].double(), b[name].double()
        if x.shape != y.shape:
            return math.inf, name
        for tokens, mask in (("input_ids", "attention_mask"), ("decoder_input_ids", "decoder_attention_mask")):
            real = given.get(mask)
            if real is not None and x.shape[:2] == real.shape:
                x, y = x[real.bool()], y[real.bool()]
                break
        if not x.numel():
            continue
        if not torch.equal(torch.isfinite(x), torch.isfinite(y)):
            return math.inf, name + " (not finite)"
        fine = torch.isfinite(x)
        d = ((x - y)[fine].abs().max() / max(1.0, x[fine].abs().max())).item() if fine.any() else 0.0
        if d > worst:
            worst, where = d, name
    return worst, where


@torch.no_grad()
def generated(model, given):
    torch.manual_seed(3)
    given = {k: v for k, v in given.items() if not k.startswith("decoder_")}
    out = model.generate(**given, max_new_tokens=3, min_new_tokens=3, do_sample=False, num_beams=1, return_dict_in_generate=True, output_logits=True)
    return {f"step {i}": x for i, x in enumerate(out.logits)}


def compare(name):
    torch.set_num_threads(1)
    model = build(name)
    if model is None:
        return {"result": "no model"}
    report = {"class": type(model).__name__}
    given = inputs.asked(model, lambda given: run(model, given))
    report["inputs"] = sorted(given)
    cases = {"plain": given}
    if "attention_mask" in inputs.parameters(model) and "input_ids" in given:
        cases |= {side: inputs.padded(given, side) for side in ("left", "right")}
    CALLS.clear()
    results, refused = {}, {}
    for case, arguments in cases.items():
        try:
            eager = run(model, arguments)
        except Exception as error:
            if case == "plain":
                raise
            report.setdefault("cannot", {})[case] = brief(error)
            continue
        for way in ("registered", "transplanted on eager", "transplanted on sdpa", "control"):
            try:
                with under(model, way):
                    out = run(model, arguments)
            except InputError as error:
                refused[way] = str(error)
                continue
            except Unsupported as error:
                report[way] = str(error)
                continue
            results[f"{way}, {case}"] = difference(eager, out, arguments)
    if model.can_generate() and hasattr(model, "generate") and "input_ids" in given or "decoder_input_ids" in given:
        arguments = cases.get("left", given)
        try:
            eager = generated(model, arguments)
        except Exception as error:
            report.setdefault("cannot", {})["generate"] = brief(error)
        else:
            for way in ("registered", "transplanted on eager", "transplanted on sdpa"):
                try:
                    with under(model, way):
                        out = generated(model, arguments)
                except InputError as error:
                    refused[way] = str(error)
                    continue
                except Unsupported as error:
                    continue
                results[f"{way}, generate"] = difference(eager, out, {})
    report["refused"] = refused
    report["differences"] = {k: v for k, v in results.items()}
    report["calls"] = len(CALLS)
    report["arguments"] = sorted({f"{layer}.{k}={v}" for layer, _, g in CALLS for k, v in g.items()})
    report["masks"] = sorted({f"{layer}:{m}" for layer, m, _ in CALLS})
    return report


class Unsupported(Exception):
    pass


@contextlib.contextmanager
def under(model, way):
    name = {"registered": SAME, "control": OTHER, "transplanted on eager": "eager", "transplanted on sdpa": "sdpa"}[way]
    try:
        model.set_attn_implementation(name)
    except ValueError as error:
        raise Unsupported(brief(error)) from error
    try:
        with transplant(model) if way.startswith("transplanted") else contextlib.nullcontext():
            yield
    finally:
        model.set_attn_implementation("eager")


def brief(error):
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]
