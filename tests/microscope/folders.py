"""Folders of tiny random models with tokenizers, as `save_pretrained` writes them."""

import json
from pathlib import Path

import tokenizers
import torch
import transformers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from limelight.microscope.load import Loaded
from limelight.microscope.reading import read
from tests.huggingface.tiny import SEQ2SEQ, WIDE, enlarge

TEXT = "the cat sat on the mat, and the cat sat on the mat again. naïve café "


def byte_level():
    """Pieces of UTF-8, with Ġ for a space: an emoji is four tokens."""
    tokenizer = tokenizers.Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<pad>", "<s>", "</s>"]
    trainer = trainers.BpeTrainer(
        vocab_size=330, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([TEXT], trainer)
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<s>", eos_token="</s>")


def word_piece():
    """BERT's, with ## before the pieces of a word after the first."""
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "the", "cat", "##s", "sat", "on", "mat", ".", "a", "##gain"]
    tokenizer = tokenizers.Tokenizer(
        models.WordPiece({word: i for i, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )


def sentence_pieces():
    """Unigrams, with ▁ for a space, and bytes for what is not known."""
    pieces = ["<unk>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁the", "▁cat", "s", "▁", "▁sat"]
    tokenizer = tokenizers.Tokenizer(
        models.BPE({p: i for i, p in enumerate(pieces)}, [], unk_token="<unk>", byte_fallback=True)
    )
    for whole in pieces[258:]:
        tokenizer.add_tokens([whole])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>")


def save(folder, model, tokenizer):
    model.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return str(folder)


def causal(folder, **changes):
    torch.manual_seed(0)
    size = WIDE | {"vocab_size": 330, "num_key_value_heads": 2} | changes
    return save(folder, hf.LlamaForCausalLM(hf.LlamaConfig(**size)), byte_level())


def encoder(folder):
    torch.manual_seed(0)
    return save(folder, hf.BertModel(hf.BertConfig(**WIDE)), word_piece())


def encoder_decoder(folder):
    torch.manual_seed(0)
    config = hf.BartConfig(
        **SEQ2SEQ | {"vocab_size": 330}, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4,
        decoder_attention_heads=4, encoder_ffn_dim=48, decoder_ffn_dim=48, max_position_embeddings=128,
        forced_eos_token_id=None,
    )  # fmt: skip
    return save(folder, hf.BartForConditionalGeneration(config), byte_level())


def vision(folder, registers=0, **processing):
    """A tiny ViT, or DINOv2 with registers, with the processor that resizes pictures for it, and sharp attention."""
    size = {"image_size": 32, "patch_size": 8, "hidden_size": 32, "num_attention_heads": 4, "num_hidden_layers": 2}
    torch.manual_seed(0)
    if registers:
        made = hf.Dinov2WithRegistersModel(hf.Dinov2WithRegistersConfig(**size, num_register_tokens=registers))
    else:
        made = hf.ViTModel(hf.ViTConfig(**size, intermediate_size=48))
    enlarge(made)
    save(folder, made, None)
    of_vit = {"size": {"height": 32, "width": 32}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    settings = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "do_rescale": True,
        "do_normalize": True,
    }
    (Path(folder) / "preprocessor_config.json").write_text(json.dumps(settings | of_vit | processing))
    return str(folder)


def text_and_pictures(folder):
    part = {"hidden_size": 16, "num_attention_heads": 2, "num_hidden_layers": 1, "intermediate_size": 16}
    picture = part | {"image_size": 16, "patch_size": 8}
    return save(folder, hf.CLIPModel(hf.CLIPConfig(text_config=part, vision_config=picture)), None)


def read_by_base_model():
    """What a BERT with 12 layers of 12 heads that spread as they please does on 256 tokens."""
    torch.manual_seed(0)
    config = hf.BertConfig(vocab_size=330, hidden_size=96, num_attention_heads=12, intermediate_size=64)
    made = hf.BertModel(config).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(4 if parameter.ndim > 1 else 1)
    text = " ".join(chr(97 + i % 26) + "x" for i in range(128))
    return read(Loaded("base", made, byte_level(), None), text, 256)
