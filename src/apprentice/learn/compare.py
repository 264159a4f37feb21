"""Any models at the same held-out places: what `learn`, `apprentice eval` and the benchmark of learning run.

    test split, sessions --> for each Contestant: (gate fitted on the gate split) --> arms NAME and NAME_memory --> Comparison
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from apprentice.core.protocols import Generator, ProgressSink
from apprentice.eval.arms import Arm, ModelArm
from apprentice.eval.comparison import Comparison
from apprentice.eval.replay import Memories, Replay
from apprentice.eval.runner import Evaluation, EvaluationConfig
from apprentice.eval.samples import MEASURES, Row, Samples
from apprentice.eval.statistics import Resampling
from apprentice.examples import store
from apprentice.examples.example import NEXT_EDIT
from apprentice.examples.history import History
from apprentice.learn.stages import memory as memory_stage
from apprentice.memory.gate import Gate
from apprentice.text.tokenizer import Tokenizer


@dataclass(frozen=True, kw_only=True, slots=True)
class Contestant:
    """A model with its memory's gate."""

    name: str
    generator: Generator
    source: str
    """What stands for its weights, such as their content hash."""
    gate: Gate
    gate_hash: str
    tokenizer: Tokenizer | None = None
    """Its own; None: the one that the examples were made with."""


class TestBench:
    """One data set's held-out part, ready for any number of models."""

    __test__ = False

    def __init__(self, examples: Path, history: History, tokenizer: Tokenizer, progress: ProgressSink) -> None:
        self.examples, self.history, self.tokenizer, self._progress = examples, history, tokenizer, progress
        self.test = list(store.read(examples, "test"))
        self._starts = memory_stage.starts_of(self.test)
        self._open: Callable[[str], memory_stage.Memory] | None = None
        self._others: dict[int, Callable[[str], memory_stage.Memory]] = {}
        """By tokenizers that are not ours."""
        self._replay: Replay | None = None

    def fit_gate(self, generator: Generator, *, budget_s: float | None, max_examples: int) -> Gate:
        """A gate for this model, on commits that neither weights nor test have."""
        rows = memory_stage.newest(list(store.read(self.examples, "gate", kind=NEXT_EDIT)), max_examples)
        self._progress.stage("fit the memory's gate", len(rows), "edits")
        gate, _ = memory_stage.fit(
            self.history, rows, generator, self.tokenizer, budget_s=budget_s, advance=self._progress.advance
        )
        return gate

    def arm(self, model: Contestant, *, memory: bool = False, bare: bool = False, measures: tuple[str, ...] = MEASURES,
            name: str | None = None) -> ModelArm:  # fmt: skip
        """The model alone, with its memory, or with the bare window."""
        return ModelArm(
            name=name or model.name + ("_memory" if memory else ""), generator=model.generator, tokenizer=model.tokenizer or self.tokenizer,
            source=model.source, bare=bare, memory=model.name if memory else None,
            memory_source=model.gate_hash if memory else "", measures=measures,
        )  # fmt: skip

    def run(
        self, samples: Samples, models: Sequence[Contestant], arms: Sequence[Arm], config: EvaluationConfig, *,
        budget_s: float | None = None,
    ) -> tuple[Comparison, list[Row]]:
        """Evaluate, or go on where these samples end."""
        if self._open is None or self._replay is None:
            self._open = memory_stage.opener(self.history, self._starts, self.tokenizer)
            self._others = {
                id(own): memory_stage.opener(self.history, self._starts, own)
                for own in {id(model.tokenizer): model.tokenizer for model in models}.values() if own is not None and own is not self.tokenizer
            }  # fmt: skip
            self._replay = Replay(self.history, self._starts, texts=self.history)
        open_memory, others = self._open, self._others

        def open_memories(repository: str) -> Memories:
            memory = open_memory(repository)
            of_others = {key: opener(repository) for key, opener in others.items()}
            own = {model.name: of_others.get(id(model.tokenizer), memory) for model in models}
            return Memories({model.name: own[model.name].with_gate(model.gate) for model in models}, [memory, *of_others.values()])

        evaluation = Evaluation(
            samples, arms, self._replay, self.test, config, open_memories=open_memories, progress=self._progress
        )  # fmt: skip
        rows = evaluation.run(budget_s)
        return Comparison(rows, [arm.name for arm in arms], Resampling(seed=config.seed)), rows
