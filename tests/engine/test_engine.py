"""The engine as a Generator: the same answers as the torch model, drafts and neighbours without influence, no torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from apprentice.core.errors import InputError, MissingPieceError
from apprentice.core.protocols import Generator, Request
from apprentice.engine.engine import Engine
from apprentice.engine.model import EngineConfig, NumpyModel
from apprentice.engine.native import NativeModel
from apprentice.kernels import native
from apprentice.quantize.convert import convert
from apprentice.text import decoding
from apprentice.text.tokenizer import Tokenizer

MakeFolder = Callable[..., Path]


def load(folder: Path, backend: str) -> Engine:
    return Engine.load(folder, EngineConfig(backend=backend))  # type: ignore[arg-type]


def close(backend: str) -> float:
    """What log-probabilities may differ by where matrices are float32: the native cache keeps halves."""
    return 1e-4 if backend == "numpy" else 3e-3


class Guesses:
    """A mixture that changes nothing and drafts: partly what greedy decoding will say, partly nonsense."""

    def __init__(self, answer: list[int], wrong_every: int) -> None:
        self._answer, self._at, self._wrong_every = answer, 0, wrong_every

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        return log_probs_V

    def advance(self, token_id: int) -> None:
        self._at += 1

    def draft(self, max_tokens: int) -> list[int]:
        guess = self._answer[self._at : self._at + max_tokens]
        return [5 if (self._at + i) % self._wrong_every == 0 else token_id for i, token_id in enumerate(guess)]


class Favours:
    """A mixture that gives one token half of the probability."""

    def __init__(self, token_id: int) -> None:
        self._token_id = token_id
        self.advanced: list[int] = []

    def mix(self, log_probs_V: np.ndarray) -> np.ndarray:
        mixed_V = log_probs_V + np.float32(np.log(0.5))
        mixed_V[self._token_id] = np.logaddexp(mixed_V[self._token_id], np.log(0.5))
        return mixed_V

    def advance(self, token_id: int) -> None:
        self.advanced.append(token_id)

    def draft(self, max_tokens: int) -> list[int]:
        return []


PROMPTS = ["def add(a, b):\n", "x", "class Point:\n    def __init__(self, x, y):\n        self." * 6, "# ä 日本\n"]


def requests(engine: Engine, **settings: object) -> list[Request]:
    return [Request(prompt_ids=engine.tokenizer.encode(text), max_tokens=24, **settings) for text in PROMPTS]  # type: ignore[arg-type]


def test_the_engine_is_a_generator(make_folder: MakeFolder, backend: str) -> None:
    assert isinstance(load(make_folder(), backend), Generator)


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.8, "top_p": 0.9, "seed": 3}])
def test_answers_are_those_of_the_torch_model(settings: dict[str, object], make_folder: MakeFolder, backend: str) -> None:
    from apprentice.model import weights
    from apprentice.model.generator import TorchGenerator

    folder = make_folder()
    engine = load(folder, backend)
    ours = engine.generate(requests(engine, **settings))
    theirs = TorchGenerator(weights.load(folder), Tokenizer.load(folder)).generate(requests(engine, **settings))
    for our, their in zip(ours, theirs, strict=True):
        if settings and backend == "native" and our.token_ids != their.token_ids:
            continue  # A draw near the border of two tokens falls to the other side: keys and values are halves.
        assert our.token_ids == their.token_ids
        assert our.text == their.text
        assert our.finish_reason == their.finish_reason
        np.testing.assert_allclose(our.model_log_probs, their.model_log_probs, atol=close(backend))


def test_the_quantized_folder_generates_from_its_own_weights(make_folder: MakeFolder, tmp_path: Path, backend: str) -> None:
    folder = make_folder()
    convert(folder, tmp_path / "quantized")
    plain, quantized = load(folder, backend), load(tmp_path / "quantized", backend)
    prompt = plain.tokenizer.encode("def add(a, b):\n    return")
    target = plain.tokenizer.encode(" a + b\n")
    full, packed = plain.score([prompt], [target])[0], quantized.score([prompt], [target])[0]
    difference = np.abs(np.subtract(full.model_log_probs, packed.model_log_probs))
    assert 0 < difference.max() < 2
    assert len(quantized.generate([Request(prompt_ids=prompt, max_tokens=5)])[0].token_ids) > 0


def test_drafts_save_steps_and_change_no_greedy_answer_bit_for_bit(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    plain = engine.generate(requests(engine))
    for wrong_every in (3, 7, 1000):
        drafted = engine.generate([
            Request(prompt_ids=request.prompt_ids, max_tokens=24, mixture=Guesses(sample.token_ids, wrong_every))
            for request, sample in zip(requests(engine), plain, strict=True)
        ])
        for before, after in zip(plain, drafted, strict=True):
            assert after.token_ids == before.token_ids
            assert after.model_log_probs == before.model_log_probs
            assert after.steps < before.steps or len(before.token_ids) < 3


def test_an_answer_does_not_depend_on_its_neighbours_bit_for_bit(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    sampled = requests(engine, temperature=1.0, seed=11)
    together = engine.generate(sampled)
    for request, sample in zip(sampled, together, strict=True):
        alone = engine.generate([request])[0]
        assert alone.token_ids == sample.token_ids
        assert alone.model_log_probs == sample.model_log_probs


def test_scores_are_the_log_probabilities_of_what_was_generated(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    asked = requests(engine)
    samples = engine.generate(asked)
    scores = engine.score([request.prompt_ids for request in asked], [sample.token_ids for sample in samples])
    for score, sample in zip(scores, samples, strict=True):
        np.testing.assert_allclose(score.model_log_probs, sample.model_log_probs, atol=1e-4)
        assert score.mixture_log_probs is None


def test_a_mixture_decides_and_both_log_probabilities_are_reported(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    wanted = engine.tokenizer.encode("z")[0]
    mixture = Favours(wanted)
    sample = engine.generate([Request(prompt_ids=[70, 71], max_tokens=3, mixture=mixture)])[0]
    assert sample.token_ids == [wanted] * 3
    assert mixture.advanced == sample.token_ids
    assert all(log_prob > np.log(0.5) for log_prob in sample.log_probs)
    assert all(a > b for a, b in zip(sample.log_probs, sample.model_log_probs, strict=True))
    score = engine.score([[70, 71]], [[wanted]], mixtures=[Favours(wanted)])[0]
    assert score.mixture_log_probs == pytest.approx(sample.log_probs[:1], abs=1e-5)


def test_streaming_gives_the_text_and_false_cancels(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    pieces: dict[int, str] = {}

    def on_token(index: int, token_id: int, text: str) -> bool:
        pieces[index] = pieces.get(index, "") + text
        return index != 1

    samples = engine.generate(requests(engine), on_token=on_token)
    assert samples[1].finish_reason == "cancelled"
    assert len(samples[1].token_ids) == 1
    for index in (0, 2, 3):
        assert pieces[index] == samples[index].text


def test_a_tokenizer_larger_than_the_model_is_refused(make_folder: MakeFolder, backend: str) -> None:
    folder = make_folder()
    Tokenizer.byte_level([f"<|special {i}|>" for i in range(40)]).save(folder)
    with pytest.raises(InputError, match="the tokenizer has 296 tokens, the model 273"):
        load(folder, backend)


def test_the_native_backend_is_taken_where_it_is_compiled(make_folder: MakeFolder) -> None:
    folder = make_folder()
    assert isinstance(load(folder, "numpy").model, NumpyModel)
    model = load(folder, "auto").model
    if native.load() is None:
        assert isinstance(model, NumpyModel)
        with pytest.raises(MissingPieceError, match="no native operators"):
            load(folder, "native")
    else:
        assert isinstance(model, NativeModel)


def test_generating_needs_no_torch(make_folder: MakeFolder, tmp_path: Path) -> None:
    """In a process of its own that cannot import it."""
    convert(make_folder(), tmp_path / "quantized")
    program = (
        "import sys\n"
        "sys.modules['torch'] = sys.modules['transformers'] = sys.modules['safetensors'] = None\n"
        "from pathlib import Path\n"
        "from apprentice.core.protocols import Request\n"
        "from apprentice.engine.engine import Engine\n"
        "from apprentice.quantize.convert import convert\n"
        "engine = Engine.load(Path(sys.argv[1]))\n"
        "print(len(engine.generate([Request(prompt_ids=[70], max_tokens=4)])[0].token_ids))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "quantized")], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert 0 <= int(done.stdout) <= 4


def test_a_long_text_is_scored_in_parts_and_the_same(make_folder: MakeFolder, backend: str) -> None:
    engine = load(make_folder(), backend)
    tokens = np.random.default_rng(0).integers(0, engine.tokenizer.vocab_size, 1300).tolist()
    seen = Favours(5)
    short, long = engine.score([tokens[:4], tokens[:7]], [tokens[4:9], tokens[7:]], mixtures=[None, seen])
    (whole,) = decoding.score(engine.model, [tokens[:7]], [tokens[7:]])
    np.testing.assert_allclose(long.model_log_probs, whole.model_log_probs, atol=1e-5)
    assert (len(short.model_log_probs), seen.advanced) == (5, tokens[7:])
    assert len(long.mixture_log_probs or []) == 1293
    with pytest.raises(InputError, match="empty prompt"):
        engine.score([[]], [tokens])
    with pytest.raises(InputError, match="the model reads"):
        engine.score([tokens], [tokens * 20])
