"""Inputs of single types, in addition to or instead of those that `inputs.py` makes from the arguments' names.

None removes an argument.
"""

import torch


def noise(*shape, seed=7):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def ids(*shape, seed=5, below=60):
    return torch.randint(3, below, shape, generator=torch.Generator().manual_seed(seed))


def series(config):
    """A series with its past and future; what is known of time is one number for each step."""
    past = config.context_length + max(config.lags_sequence)
    times = max(1, config.num_time_features)
    return {
        "past_values": noise(2, past),
        "past_time_features": noise(2, past, times, seed=8)[..., : config.num_time_features],
        "past_observed_mask": torch.ones(2, past),
        "future_values": noise(2, config.prediction_length, seed=9),
        "future_time_features": noise(2, config.prediction_length, times, seed=10)[..., : config.num_time_features],
    }


def codebooks(config):
    """A token of each codebook for each step."""
    count = getattr(config, "decoder", config).num_codebooks
    text = {"input_ids": ids(2, 9), "decoder_input_ids": ids(2 * count, 7, seed=6)}
    return text if hasattr(config, "decoder") else {"input_ids": ids(2 * count, 9)}


def flattened(config):
    """Patches of two images, each with its row and column in front."""
    look = getattr(config, "vision_config", config)
    place = torch.cartesian_prod(torch.arange(1.0, 5), torch.arange(1.0, 5)).expand(2, 16, 2)
    return {
        "flattened_patches": torch.cat([place, noise(2, 16, look.patch_embed_hidden_size)], -1),
        "attention_mask": None,
    }


def regarded(width):
    return lambda config: {"encoder_hidden_states": noise(2, 7, getattr(config, width), seed=9)}


def image(*shape):
    return lambda config: {"pixel_values": noise(*shape)}


def packed(config):
    """Two images of 4 × 4 patches, side by side."""
    size = config.patch_size
    return {"pixel_values": noise(1, 3, size, 32 * size), "target_sizes": torch.tensor([[4, 4], [4, 4]])}


def sounds(config):
    """Two sounds one after the other, and how long each is."""
    return {"input_features": noise(config.num_mel_bins, 64), "feature_lens": torch.tensor([32, 32])}


INPUTS = {
    "audio-spectrogram-transformer": lambda config: {"input_values": noise(2, config.max_length, config.num_mel_bins)},
    "audioflamingo3_encoder": lambda config: {"input_features_mask": torch.ones(2, 32, dtype=torch.long)},
    "blip_2_qformer": lambda config: {
        "query_embeds": noise(2, 5, config.hidden_size),
        **regarded("encoder_hidden_size")(config),
    },
    "blt": lambda config: {"use_cache": False},
    "bridgetower_vision_model": lambda config: {"image": noise(2, 3, 16, 16)},
    "clap": lambda config: {"input_features": noise(2, 1, 1001, 64), "is_longer": torch.zeros(2, 1, dtype=torch.bool)},
    "clap_audio_model": lambda config: {
        "input_features": noise(2, 1, 1001, 64),
        "is_longer": torch.zeros(2, 1, dtype=torch.bool),
    },
    "d_fine": image(2, 3, 64, 64),
    "decision_transformer": lambda config: {
        "states": noise(2, 5, config.state_dim),
        "actions": noise(2, 5, config.act_dim, seed=8),
        "rewards": noise(2, 5, 1, seed=9),
        "returns_to_go": noise(2, 5, 1, seed=10),
        "timesteps": torch.arange(5).expand(2, 5),
        "attention_mask": torch.ones(2, 5, dtype=torch.long),
        "input_ids": None,
    },
    "deepseek_ocr2_encoder": lambda config: {"num_patches": 5},
    "deimv2": image(2, 3, 64, 64),
    "depth_pro": image(2, 3, 64, 64),
    "dia": lambda config: {"decoder_input_ids": ids(2, 7, config.decoder_config.num_channels, seed=6)},
    "dia_decoder": lambda config: {
        "input_ids": ids(2, 7, config.num_channels),
        "encoder_hidden_states": noise(2, 9, config.cross_hidden_size),
        "position_ids": None,
    },
    "efficientloftr": image(2, 2, 3, 64, 64),
    "florence_vision": lambda config: {"hidden_states": noise(2, 3, 64, 64)},
    "fun_asr_nano_encoder": lambda config: {"input_features": noise(2, 32, config.input_size)},
    "gemma3n_audio": lambda config: {
        "audio_mel": noise(2, 64, config.input_feat_size),
        "audio_mel_mask": torch.zeros(2, 64, dtype=torch.bool),
    },
    "gemma4_audio": lambda config: {"input_features": noise(2, 32, 128)},
    "gemma4_vision": lambda config: {
        "pixel_values": noise(2, 16, 3 * config.patch_size**2),
        "pixel_position_ids": torch.cartesian_prod(torch.arange(4), torch.arange(4)).expand(2, 16, 2),
    },
    "granite_speech5_ctc": lambda config: {"input_features": noise(2, 64, 4 * config.encoder_config.num_mel_bins)},
    "granite_speech5_encoder": lambda config: {"input_features": noise(2, 64, 4 * config.num_mel_bins)},
    "idefics": lambda config: {
        "pixel_values": noise(2, 1, 3, 16, 16),
        "image_attention_mask": torch.ones(2, 9, 1, dtype=torch.long),
    },
    "idefics2_perceiver": lambda config: {
        "context": noise(2, 7, config.hidden_size),
        "attention_mask": torch.ones(2, 7, dtype=torch.long),
    },
    "informer": series,
    "kimi_k25_vision": image(16, 3, 4, 4),
    "kosmos_2_5_vision_model": lambda config: {"attention_mask": torch.ones(2, 9)},
    "kyutai_speech_to_text": lambda config: {"input_ids": ids(2, 9, config.num_codebooks + 1)},
    "lightglue": lambda config: {"pixel_values": noise(2, 2, 3, 64, 64)},
    "mimi": lambda config: {"input_values": noise(2, 1, 20000)},
    "mimi_decoder": lambda config: {"latents": noise(2, config.hidden_size, 5)},
    "mimi_encoder": lambda config: {"input_values": noise(2, 1, 20000)},
    "minicpm_ocr_vision": packed,
    "minicpmv4_6_vision": packed,
    "minicpmv4_7_vision": packed,
    "mllama_vision_model": lambda config: {
        "pixel_values": noise(2, 1, config.max_num_tiles, 3, 16, 16),
        "aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(2, 1, config.max_num_tiles, dtype=torch.long),
    },
    "molmo2_vision": image(2, 16, 48),
    "moshi_depth": lambda config: {"input_ids": ids(2, 5), "last_hidden_state": noise(2, 1, config.input_size)},
    "muse_glimmer_assistant": lambda config: {
        "noise_embeds": noise(2, 5, config.hidden_size),
        "context_hidden_states": noise(2, 9, 5 * config.hidden_size, seed=9),
    },
    "muse_glimmer_vision": image(16, 96),
    "muse_spark_vision": image(16, 96),
    "musicgen": codebooks,
    "musicgen_decoder": codebooks,
    "musicgen_melody": codebooks,
    "musicgen_melody_decoder": codebooks,
    "neucodec": lambda config: {"input_values": noise(2, 1, 4000)},
    "oneformer": lambda config: {"task_inputs": ids(2, config.task_seq_len)},
    "paddleocr_vl_vision": lambda config: {"pixel_values": noise(1, 16, 3, config.patch_size, config.patch_size)},
    "pe_audio": lambda config: {"input_values": noise(2, 1, 4000)},
    "phi4_multimodal_audio": lambda config: {
        "hidden_states": noise(2, 64, config.input_size),
        "mask": torch.ones(2, 64, dtype=torch.bool),
    },
    "pix2struct": lambda config: flattened(config) | {"decoder_input_ids": ids(2, 7)},
    "pix2struct_vision_model": flattened,
    "pocket_tts_audio_tokenizer": lambda config: {"input_values": noise(2, 1, 20000)},
    "pocket_tts_audio_tokenizer_decoder": lambda config: {"latents": noise(2, config.hidden_size, 5)},
    "pocket_tts_audio_tokenizer_encoder": lambda config: {"input_values": noise(2, 1, 20000)},
    "pp_doclayout_v2": image(2, 3, 64, 64),
    "pp_doclayout_v3": image(2, 3, 64, 64),
    "pp_doclayout_v4": image(2, 3, 64, 64),
    "qwen2_5_omni_audio_encoder": sounds,
    "qwen2_5_omni_dit": lambda config: {
        "hidden_states": noise(2, 16, config.mel_dim),
        "condition_vector": noise(2, 16, config.mel_dim, seed=8),
        "speaker_embedding": noise(2, 16, config.enc_emb_dim, seed=9),
        "quantized_code": ids(2, 8),
        "time_step": torch.tensor(0.5),
        "apply_cfg": False,
    },
    "qwen3_asr_encoder": lambda config: {
        "input_features": noise(2, config.num_mel_bins, 200),
        "input_features_mask": torch.ones(2, 200, dtype=torch.long),
    },
    "qwen3_omni_moe_audio_encoder": sounds,
    "qwen3_omni_moe_talker_code_predictor": lambda config: {
        "input_ids": None,
        "inputs_embeds": noise(2, 3, config.hidden_size),
    },
    "qwen3_omni_moe_talker_text": lambda config: {
        "input_ids": None,
        "inputs_embeds": noise(2, 9, config.hidden_size),
    },
    "rt_detr": image(2, 3, 64, 64),
    "rt_detr_v2": image(2, 3, 64, 64),
    "segformer": image(2, 3, 64, 64),
    "speech-encoder-decoder": lambda config: {"input_features": None, "inputs": noise(2, 4000)},
    "t5gemma2_decoder": regarded("hidden_size"),
    "time_series_transformer": series,
    "timesfm": lambda config: {
        "past_values": noise(2, 128),
        "past_values_padding": torch.zeros(2, 128, dtype=torch.long),
        "freq": torch.zeros(2, 1, dtype=torch.long),
    },
    "timesfm2_5": lambda config: {
        "past_values": noise(2, 128),
        "past_values_padding": torch.zeros(2, 128, dtype=torch.long),
    },
    "unlimited_ocr_vision_encoder": lambda config: {"patch_embeds": noise(2, config.hidden_size, 4, 4)},
    "video_llama_3_vision": lambda config: {"merge_sizes": torch.tensor([1])},
    "videoprism": lambda config: {"pixel_values_videos": noise(2, 16, 3, 16, 16)},
    "voxtral_realtime": lambda config: {
        "input_ids": ids(2, 4),
        "input_features": noise(2, config.audio_config.num_mel_bins, 32),
    },
    "voxtral_realtime_text": lambda config: {"t_cond": noise(1, config.hidden_size)},
    "xclip_vision_model": image(16, 3, 16, 16),
    "xcodec2": lambda config: {"input_values": noise(2, 1, 4000)},
}
