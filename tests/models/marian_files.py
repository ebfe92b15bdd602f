"""Files as Marian writes them, with random numbers: the format is written here a second time, from its description."""

import struct

import torch

from limelight.models.marian_weights import named

WIDTH, HIDDEN, TOKENS = 16, 24, 40


def random_weights(encoder, decoder):
    """The arrays of a model of these numbers of layers, by name."""
    torch.manual_seed(0)
    found = {"Wemb": torch.randn(TOKENS, WIDTH) / 4, "decoder_ff_logit_out_b": torch.randn(1, TOKENS)}
    for kind, count, attending in (("encoder", encoder, "self"), ("decoder", decoder, "context")):
        for name in (named(kind, f"l{i + 1}") for i in range(count)):
            for part in "qkvo":
                found[named(name, attending, f"W{part}")] = torch.randn(WIDTH, WIDTH) / 3
                found[named(name, attending, f"b{part}")] = torch.randn(1, WIDTH) / 3
            found |= {
                named(name, "ffn_W1"): torch.randn(WIDTH, HIDDEN) / 4,
                named(name, "ffn_b1"): torch.randn(1, HIDDEN),
                named(name, "ffn_W2"): torch.randn(HIDDEN, WIDTH) / 4,
                named(name, "ffn_b2"): torch.randn(1, WIDTH),
            }
            norms = [named(name, attending, "Wo"), named(name, "ffn_ffn")]
            if kind == "decoder":
                norms.append(named(name, "rnn_ffn"))
                found |= {named(name, "rnn", own): torch.randn(WIDTH, WIDTH) / 3 for own in ("W", "Wf")}
                found[named(name, "rnn_bf")] = torch.randn(1, WIDTH)
            for norm in norms:
                found |= {
                    named(norm, "ln_scale"): torch.rand(1, WIDTH) + 0.5,
                    named(norm, "ln_bias"): torch.randn(1, WIDTH) / 3,
                }
    return found


def write(path, arrays, eight_bits=(), factor=20.0, padding=9):
    """A file of Marian with these arrays; those of `eight_bits` are rounded to whole numbers over `factor`."""
    headers, names, shapes, data = [], [], [], []
    for name, array in arrays.items():
        kind, stored = 0x404, array.float().contiguous().numpy().tobytes()
        if name in eight_bits:
            whole = (array * factor).round().clamp(-127, 127).to(torch.int8)
            kind = 0x4101
            stored = (whole if name == "Wemb" else whole.T).contiguous().numpy().tobytes() + struct.pack("<f", factor)
        stored += bytes(-len(stored) % 8)
        headers.append(struct.pack("<4Q", len(name) + 1, kind, array.ndim, len(stored)))
        names.append(name.encode() + b"\0")
        shapes.append(struct.pack(f"<{array.ndim}i", *array.shape))
        data.append(stored)
    text = b"type: transformer\0"
    headers.append(struct.pack("<4Q", len("special:model.yml") + 1, 0x101, 1, len(text)))
    names.append(b"special:model.yml\0")
    shapes.append(struct.pack("<i", len(text)))
    data.append(text)
    parts = [struct.pack("<QQ", 1, len(headers)), *headers, *names, *shapes, struct.pack("<Q", padding), bytes(padding)]
    path.write_bytes(b"".join([*parts, *data]))
