"""Tiny transformers of random weights, and a catalogue in which everything to be learned is planted."""

import numpy as np
import torch

from services.training.tuning.config import TuneConfig
from services.training.tuning.signals import Histories, Signals

TOPICS = 4
# Words of a topic; no word says its topic but by where it stands beside others.
WORDS = [[f"{letter}{i}" for i in range(8)] for letter in "abcd"]
FILLER = [f"z{i}" for i in range(6)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIAL, *[word for words in WORDS for word in words], *FILLER]


def save_tokenizer(folder, *, is_encoder):
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]")
    )
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    if is_encoder:
        raw.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    kept = (
        {"mask_token": "[MASK]", "cls_token": "[CLS]", "sep_token": "[SEP]"} if is_encoder else {}
    )
    PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]", model_max_length=32, **kept
    ).save_pretrained(folder)


def tiny_encoder(folder):
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder)
    save_tokenizer(folder, is_encoder=True)
    return str(folder)


def tiny_decoder(folder):
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(VOCABULARY), hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=32, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    save_tokenizer(folder, is_encoder=False)
    return str(folder)


def planted_texts(count=160, seed=0):
    """Return texts and the topic of each: three words of the topic in a row, among filler."""
    rng = np.random.default_rng(seed)
    texts, topics = [], []
    for _ in range(count):
        topic = int(rng.integers(TOPICS))
        start = int(rng.integers(8))
        words = [WORDS[topic][(start + step) % 8] for step in range(3)]
        texts.append(" ".join([str(rng.choice(FILLER)), *words, str(rng.choice(FILLER))]))
        topics.append(topic)
    return texts, np.array(topics)


def planted_signals(topics, users=60, periods=14, seed=0):
    """Labels and values by topic; each user has items of one topic only."""
    rng = np.random.default_rng(seed)
    rows = []
    for period in range(periods):
        for user in range(users):
            of_topic = np.flatnonzero(topics == user % TOPICS)
            rows += [(user, int(item), period) for item in rng.choice(of_topic, 3, replace=False)]
    user, item, period = np.array(rows).T
    return Signals(
        labels=tuple(f"topic {topic}" for topic in topics),
        value_N=topics * 1.5 + rng.normal(0, 0.1, len(topics)),
        histories=Histories(user_ix_E=user, text_ix_E=item, period_E=period, last=periods - 1),
    )


def quick(mode, objective, **given):
    """Return a configuration that learns the planted data in about a second."""
    return TuneConfig(
        **{
            "mode": mode, "objective": objective, "steps": 40, "batch_texts": 64,
            "rate": 5e-3, "head_rate": 1e-2, "held_out_periods": 3, "stop_periods": 1,
            "checks": 4, "origins_a_step": 4,
        } | given
    )  # fmt: skip
