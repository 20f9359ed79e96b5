"""A causal language model that answers a prompt: any Hugging Face decoder, by name or folder.

torch and transformers are imported when one is opened, not before.
"""

from typing import TYPE_CHECKING, Any

from services.core.errors import InvalidArgument
from services.store.backbone_files import SMOLLM2_NAME, find_files, open_model

if TYPE_CHECKING:
    import torch

# An answer's tokens, at most, unless said.
MAX_TOKENS = 300
# Of the samples after the first answer.
TEMPERATURE, TOP_P = 0.7, 0.9


class TextWriter:
    """A loaded decoder. The same prompt and attempt give the same text."""

    def __init__(
        self, tokenizer: Any, model: "torch.nn.Module", *, seed: int, max_tokens: int
    ) -> None:
        self._tokenizer, self._model = tokenizer, model
        self._seed, self._max_tokens = seed, max_tokens

    def write(self, prompt: str, attempt: int) -> str:
        """Return what the model answers.

        Args:
            prompt: what to do; put as a user's turn where the model was taught to chat.
            attempt: 0 takes the likeliest token each time; others draw, each by a seed of its own.

        Raises:
            InvalidArgument: the prompt and an answer do not fit what the model can read.
        """
        import torch

        tokens = self._tokens(prompt)
        asked = tokens["input_ids"].shape[1]
        limit = getattr(self._model.config, "max_position_embeddings", asked + self._max_tokens)
        if asked + self._max_tokens > limit:
            raise InvalidArgument(
                "model",
                f"it reads {limit} tokens, facts and answer take {asked + self._max_tokens}; "
                "name a model that reads more, or ask for fewer interests",
            )
        how: dict[str, Any] = {
            "do_sample": False,
            "temperature": None,
            "top_p": None,
            "top_k": None,
        }
        if attempt:
            how = {"do_sample": True, "temperature": TEMPERATURE, "top_p": TOP_P, "top_k": 0}
        with torch.inference_mode(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed + attempt)
            model: Any = self._model
            made = model.generate(
                **tokens,
                max_new_tokens=self._max_tokens,
                pad_token_id=self._tokenizer.pad_token_id,
                **how,
            )
        return str(self._tokenizer.decode(made[0, asked:], skip_special_tokens=True))

    def _tokens(self, prompt: str) -> dict[str, Any]:
        if getattr(self._tokenizer, "chat_template", None):
            prompt = self._tokenizer.apply_chat_template(
                [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
            )
        found = self._tokenizer(prompt, return_tensors="pt", add_special_tokens=False)
        return {name: found[name] for name in ("input_ids", "attention_mask")}


def load_writer(
    name: str = SMOLLM2_NAME, *, seed: int = 0, max_tokens: int = MAX_TOKENS
) -> TextWriter:
    """Load a decoder.

    Args:
        name: hub name, folder, GGUF file or SMOLLM2_NAME.
        seed: of the answers that are drawn.
        max_tokens: of an answer, at most.

    Raises:
        InvalidArgument: there is no such model, or it continues no text.
        DependencyUnavailable: the hub did not answer.
    """
    try:
        tokenizer, model = open_model(find_files(name), continues=True)
    except InvalidArgument as error:
        # Said of a backbone's training there; here it is the model that was named.
        problem = error.problem.replace("; tune it with mlm", "; name a decoder")
        raise InvalidArgument("model", problem) from None
    return TextWriter(tokenizer, model, seed=seed, max_tokens=max_tokens)
