"""SmolLM2 answers prompts: cut to a few layers, and whole where tests are slow."""

import pytest

from services.core.errors import InvalidArgument
from services.core.grounding import check_text
from services.core.wording import Source, reasons_against, worded
from services.store.text_writer import TextWriter, load_writer
from tests.core.test_wording import FACTS, KNOWN, SENTENCES
from tests.training.tuning.tiny import tiny_decoder, tiny_encoder

pytestmark = pytest.mark.xdist_group("smollm2")


@pytest.fixture(scope="module")
def writer(smollm2_cut) -> TextWriter:
    return load_writer(str(smollm2_cut), max_tokens=12)


def shown_is_checked(made):
    if made.source is Source.MODEL:
        assert check_text(made.text, FACTS, KNOWN).is_accepted
        assert reasons_against(made.text, SENTENCES, FACTS, KNOWN) == ()
    else:
        assert made.text == " ".join(SENTENCES)
        assert len(made.refused) == 2
        assert all(refusal.reasons for refusal in made.refused)


def test_an_answer_repeats_for_its_attempt_and_other_attempts_give_others(writer: TextWriter):
    first, second = (writer.write("Green tea is", attempt) for attempt in (0, 1))
    assert first and second
    assert first != second
    assert writer.write("Green tea is", 1) == second
    assert writer.write("Green tea is", 0) == first


def test_drawing_leaves_torchs_own_draws_alone(writer: TextWriter):
    import torch

    torch.manual_seed(3)
    expected = torch.rand(2).tolist()
    torch.manual_seed(3)
    writer.write("Green tea is", 1)
    assert torch.rand(2).tolist() == expected


def test_a_model_taught_to_chat_is_asked_as_a_user(writer: TextWriter):
    tokens = writer._tokens("Green tea")["input_ids"][0]
    assert "<|im_start|>user\nGreen tea" in writer._tokenizer.decode(tokens)


def test_what_a_cut_model_says_is_never_shown_unchecked(writer: TextWriter):
    shown_is_checked(worded(SENTENCES, FACTS, writer.write, known_names=KNOWN, tries=2))


@pytest.mark.slow
def test_what_the_whole_packaged_model_says_is_never_shown_unchecked():
    write = load_writer(max_tokens=60).write
    shown_is_checked(worded(SENTENCES, FACTS, write, known_names=KNOWN, tries=2))


def test_an_encoder_is_refused_and_so_are_facts_that_do_not_fit(tmp_path):
    with pytest.raises(InvalidArgument, match="name a decoder"):
        load_writer(tiny_encoder(tmp_path / "encoder"))
    small = load_writer(tiny_decoder(tmp_path / "decoder"))
    with pytest.raises(InvalidArgument, match="it reads 32 tokens, facts and answer take 302"):
        small.write("a0 a1", 0)
