"""Swap your code in: a GPT that is built, trained and sampled with a learner's own pieces.

``load`` runs the learner's notebooks and holds every answer that is a piece of the GPT against its
check. A piece that passes is theirs from then on; for one that does not, the package's own stands.
``Mine`` then gives the tokenizer, the model, the trainer and the sampling. The learner's modules
hold the reference's parameters under the reference's names, so a checkpoint of either loads into
the other, and with the same weights both give the same logits.
"""

import dataclasses
import math
import os
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, SupportsIndex, TypeVar

import regex
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg.attention import MultiHeadAttention
from course_pkg.checks import notebooks
from course_pkg.checks.engine import all_exercises, evaluate, raised_by
from course_pkg.config import GPTConfig
from course_pkg.data import Batch
from course_pkg.generation import next_token_probabilities, stream
from course_pkg.gpt import GPT
from course_pkg.tokenizer import GPT2_SPLIT_PATTERN, BPETokenizer
from course_pkg.training import IGNORE_INDEX, History, Trainer, cross_entropy
from course_pkg.transformer import GELU

Module = TypeVar("Module", bound=nn.Module)

MERGES_LIMIT = 60.0  # seconds that the learner's own training of a tokenizer may take
_TRIAL_MERGES = 8


@dataclasses.dataclass(frozen=True)
class Piece:
    """An exercise whose answer has a place in the program.

    ``within`` names the pieces that do this one's work themselves: where one of them is the
    learner's, this one is not called on its own.
    """

    exercise_id: str
    what: str
    within: tuple[str, ...] = ()


_LAYER = "03.multi_head_attention"
PIECES = (
    Piece("01.train_merges", "learning the merges"),
    Piece("01.encode_by_rank", "encoding"),
    Piece("01.split_pattern", "the split pattern"),
    Piece("01.decode_bytes", "decoding"),
    Piece(
        "02.softmax",
        "softmax of the scores",
        within=(_LAYER, "02.causal_weights", "02.mask", "02.attention_dropout"),
    ),
    Piece("02.causal_weights", "attention weights", within=(_LAYER,)),
    Piece("02.mask", "the mask", within=(_LAYER, "02.causal_weights")),
    Piece("02.attention_dropout", "dropout and mixture", within=(_LAYER,)),
    Piece("03.split_heads", "splitting into heads", within=(_LAYER, "03.one_projection")),
    Piece("03.merge_heads", "merging the heads", within=(_LAYER,)),
    Piece("03.one_projection", "queries, keys, values", within=(_LAYER,)),
    Piece(_LAYER, "the attention layer"),
    Piece("04.layer_norm", "layer norms"),
    Piece("04.gelu", "GELU"),
    Piece("04.feed_forward", "feed-forward networks"),
    Piece("04.transformer_block", "blocks"),
    Piece("05.embed", "tokens and positions"),
    Piece("05.tie_weights", "tying the head"),
    Piece("05.initialise", "first weights"),
    Piece("05.continue_greedily", "writing at temperature 0"),
    Piece("06.shifted_cross_entropy", "the loss"),
    Piece("06.decay_groups", "what decays"),
    Piece("06.warmup_cosine", "the learning rate"),
    Piece("06.clip", "clipping"),
    Piece("06.accumulate", "adding gradients up"),
    Piece("06.evaluate", "evaluation"),
    Piece("06.cut_the_tail", "choosing the next token"),
)


class PieceFailed(ValueError):  # noqa: N818 -- it names what happened
    """A piece of the learner's raised; the message names it, and the learner's own line."""


class Mine:
    """The pieces of a learner that pass, and what is built out of them.

    Args:
        answers: the learner's answers by exercise id. Those that are no piece are not looked at.
        failing: exercises without an answer that the learner did start.
    """

    def __init__(self, answers: Mapping[str, Any], failing: Collection[str] = ()) -> None:
        known = {exercise.id: exercise for exercise in all_exercises()}
        self._theirs: dict[str, Callable[..., Any]] = {}
        self._ours: dict[str, str] = {}  # why a piece is not the learner's
        for piece in PIECES:
            name = piece.exercise_id
            status = "failed" if name in failing else "not started"
            if name in answers:
                status = evaluate(known[name], answers[name]).status
            if status == "passed":
                self._theirs[name] = _guarded(name, answers[name])
            else:
                self._ours[name] = "failing" if status == "failed" else status

    def get(self, exercise_id: str) -> Callable[..., Any] | None:
        """The learner's own, or ``None`` where ours stands; what it raises is a ``PieceFailed``."""
        return self._theirs.get(exercise_id)

    def whose(self) -> dict[str, str]:
        """For each piece ``"yours"``, ``"yours, within ..."`` or ``"ours (why)"``."""
        told = {}
        for piece in PIECES:
            name = piece.exercise_id
            by = next((other for other in piece.within if other in self._theirs), None)
            if name not in self._theirs:
                told[name] = f"ours ({self._ours[name]})"
            else:
                told[name] = "yours" if by is None else f"yours, within {by}"
        return told

    def count(self) -> str:
        """How many pieces are the learner's, in a sentence."""
        return _count(self.whose())

    def _give_back(self, exercise_id: str, why: str) -> None:
        """Ours stands, although the learner's passes."""
        if self._theirs.pop(exercise_id, None) is not None:
            self._ours[exercise_id] = why

    # The tokenizer

    def train_tokenizer(
        self,
        documents: Sequence[str],
        vocab_size: int,
        special_tokens: Sequence[str],
        progress: Callable[[int, int], object] | None = None,
    ) -> "LearnersTokenizer":
        """``BPETokenizer.train`` with the learner's pattern and, if quick enough, merges."""
        split_pattern = self.get("01.split_pattern")
        pattern = GPT2_SPLIT_PATTERN if split_pattern is None else split_pattern()
        merges = self._learn_merges(documents, vocab_size - 256 - len(special_tokens), pattern)
        if merges is None:
            tokenizer = BPETokenizer.train(
                documents, vocab_size, special_tokens, pattern, progress=progress
            )
        else:
            tokens = [bytes([byte]) for byte in range(256)] + [
                left + right for left, right in merges
            ]
            specials = {name: len(tokens) + n for n, name in enumerate(special_tokens)}
            tokenizer = BPETokenizer(dict(enumerate(tokens)), merges, specials, pattern)
        return LearnersTokenizer(self, tokenizer)

    def given_tokenizer(self, tokenizer: BPETokenizer) -> "LearnersTokenizer":
        """A tokenizer that is not to be trained, encoding and decoding with the learner's code."""
        for name in ("01.train_merges", "01.split_pattern"):
            self._give_back(name, "the tokenizer was there")
        return LearnersTokenizer(self, tokenizer)

    def _learn_merges(
        self, documents: Iterable[str], wanted: int, pattern: str
    ) -> list[tuple[bytes, bytes]] | None:
        learn = self.get("01.train_merges")
        if learn is None:
            return None
        words = dict(Counter(word for text in documents for word in regex.findall(pattern, text)))
        started = time.perf_counter()
        learn(words, min(_TRIAL_MERGES, wanted), 1)
        seconds = (time.perf_counter() - started) * wanted / _TRIAL_MERGES
        if seconds > MERGES_LIMIT:
            self._give_back("01.train_merges", f"yours would take {seconds / 60:.0f} minutes")
            return None
        return [(bytes(left), bytes(right)) for left, right in learn(words, wanted, 1)]

    # The model

    def model(self, config: GPTConfig) -> "LearnersGPT":
        """A GPT out of the learner's modules and functions, with newly drawn weights."""
        return LearnersGPT(self, config)

    def module(self, exercise_id: str, ours: Module, *args: Any, **kwargs: Any) -> Module:
        """The learner's module with the parameters of ours, or ours where theirs has others."""
        make = self.get(exercise_id)
        if make is None:
            return ours
        theirs = make(*args, **kwargs)
        for part in theirs.modules():  # a mask is made again, and is in no file of ours
            part._non_persistent_buffers_set.update(part._buffers)
        shapes = [
            {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
            for module in (theirs, ours)
        ]
        if shapes[0] != shapes[1]:
            self._give_back(exercise_id, "yours has other parameters")
            return ours
        theirs.load_state_dict(ours.state_dict())
        theirs.forward = _guarded(exercise_id, theirs.forward)
        return theirs

    # Training and writing

    def trainer(self, *args: Any, **kwargs: Any) -> "LearnersTrainer":
        """A ``Trainer`` with the learner's loss, schedule, clipping and so on."""
        return LearnersTrainer(self, *args, **kwargs)

    def probabilities(
        self,
        logits: Tensor,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Tensor:
        """``next_token_probabilities`` by the learner's ``06.cut_the_tail``."""
        cut_the_tail = self.get("06.cut_the_tail")
        if cut_the_tail is None or temperature == 0:
            return next_token_probabilities(logits, temperature, top_k, top_p)
        B, V = logits.shape
        return cut_the_tail(
            logits,
            torch.full((B,), float(temperature)),
            torch.full((B,), V if top_k is None else min(top_k, V)),
            torch.full((B,), 1.0 if top_p is None else float(top_p)),
        )

    def stream(
        self,
        model: GPT,
        ids: Tensor,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        stop_ids: Collection[int] = (),
        generator: torch.Generator | None = None,
    ) -> Iterator[Tensor]:
        """``generation.stream`` with the learner's sampling, or their greedy choice at 0."""
        new = stream(
            model,
            ids,
            max_new_tokens,
            temperature,
            top_k,
            top_p,
            stop_ids,
            generator,
            probabilities=self.probabilities,
        )
        if temperature != 0 or self.get("05.continue_greedily") is None:
            return new
        return self._stream_greedily(model, ids, max_new_tokens, stop_ids)

    def _stream_greedily(
        self, model: GPT, ids: Tensor, max_new_tokens: int, stop_ids: Collection[int]
    ) -> Iterator[Tensor]:
        model.eval()
        for _ in range(max_new_tokens):
            with torch.no_grad():
                ids = self._theirs["05.continue_greedily"](
                    model, ids, 1, model.config.context_length
                )
            yield ids[:, -1]
            if all(token in stop_ids for token in ids[:, -1].tolist()):
                return


def load(
    paths: Iterable[Path], *, limit: float = notebooks.CELL_LIMIT, on_notebook: Any = None
) -> Mine:
    """Run a learner's notebooks in this process and keep the pieces that pass.

    Args:
        paths: the notebooks, one for a chapter.
        limit: seconds for each cell.
        on_notebook: called with the path of each notebook before it is run.

    Raises:
        ValueError: a file is no notebook.
        OSError: it cannot be read.
    """
    ids = [piece.exercise_id for piece in PIECES]
    answers: dict[str, Any] = {}
    failing: set[str] = set()
    for path in paths:
        notebook = notebooks.read(path)
        own = [name for name in notebook.exercise_ids if name in ids]
        if not own:
            continue
        if on_notebook is not None:
            on_notebook(path)
        ran = notebooks.run(notebook, limit=limit, until=own)
        answers.update({name: ran.answers[name] for name in own if name in ran.answers})
        for name in own:
            errors = (ran.errors.get(cell.number) for cell in notebook.cells_of(name))
            if any(error is not None and not error.is_stub for error in errors):
                failing.add(name)
    return Mine(answers, failing)


def _guarded(exercise_id: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function``, naming itself when it raises."""

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except PieceFailed:
            raise
        except Exception as error:
            raise PieceFailed(_say(exercise_id, error)) from error

    return call


def _say(exercise_id: str, error: Exception) -> str:
    raised = raised_by(error)
    text = f"your {exercise_id} raised {raised.type_name}: {raised.message}"
    if raised.line_number is not None:
        text += f" (line {raised.line_number} of its cell: {raised.line})"
    return f"{text}. Mend it, and see: course check {exercise_id}"


class LearnersTokenizer(BPETokenizer):
    """A tokenizer that merges and decodes with the learner's functions."""

    def __init__(self, mine: Mine, tokenizer: BPETokenizer) -> None:
        self._mine = mine
        super().__init__(
            tokenizer.vocab, tokenizer.merges, tokenizer.special_tokens, tokenizer.pattern
        )

    def decode(self, ids: Iterable[SupportsIndex], errors: str = "replace") -> str:
        decode = self._mine.get("01.decode_bytes")
        if decode is None or errors != "replace":
            return super().decode(ids, errors)
        return decode([int(i) for i in ids], self.vocab)

    def _merge_piece(self, piece: str) -> str:
        encode = self._mine.get("01.encode_by_rank")
        if encode is None:
            return super()._merge_piece(piece)
        tokens = encode(piece.encode("utf-8"), self.merges)
        return "".join(self._symbol_of[bytes(token)] for token in tokens)


class LearnersGPT(GPT):
    """The reference's GPT with the learner's modules and functions in their places.

    GELU has GPT-2's form, which is what the exercises ask for, whatever ``config`` says.
    """

    def __init__(self, mine: Mine, config: GPTConfig) -> None:
        self._mine = mine
        super().__init__(dataclasses.replace(config, exact_gelu=False))
        tie_weights = mine.get("05.tie_weights")
        if config.tie_weights and tie_weights is not None:
            self.output_head.weight = nn.Parameter(self.output_head.weight.detach().clone())
            tie_weights(self)

    def features(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, D), as ``GPT.features``."""
        embed = self._mine.get("05.embed")
        if embed is None:
            return super().features(ids)
        self._require_ids(ids)
        x = embed(ids, self.token_embedding.weight, self.position_embedding.weight)  # (B, T, D)
        x = self.embedding_dropout(x)
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x)

    def _initialise(self) -> None:
        with torch.random.fork_rng([]):  # to make their modules moves no generator
            for number, block in enumerate(self.blocks):
                self.blocks[number] = self._swapped(block)
            self.final_norm = self._norm(self.final_norm)  # type: ignore[assignment]
        initialise = self._mine.get("05.initialise")
        if initialise is None:
            super()._initialise()
        else:
            initialise(self)

    def _swapped(self, ours: Any) -> nn.Module:
        """The learner's block, with the learner's parts."""
        block = self._mine.module("04.transformer_block", ours, self.config)
        block.norm1, block.norm2 = self._norm(ours.norm1), self._norm(ours.norm2)
        block.attention = self._attention(ours.attention)
        block.feed_forward = self._feed_forward(ours.feed_forward)
        return block

    def _norm(self, ours: nn.Module) -> nn.Module:
        return self._mine.module("04.layer_norm", ours, self.config.d_model)

    def _attention(self, ours: nn.Module) -> nn.Module:
        config = self.config
        sizes = (config.d_model, config.d_model, config.context_length, config.dropout)
        layer = self._mine.module(_LAYER, ours, *sizes, config.num_heads, config.qkv_bias)
        if layer is not ours:
            return layer
        layer = LearnersAttention(self._mine, *sizes, config.num_heads, config.qkv_bias)
        layer.load_state_dict(ours.state_dict())
        return layer

    def _feed_forward(self, ours: nn.Module) -> nn.Module:
        network = self._mine.module("04.feed_forward", ours, self.config.d_model)
        gelu = self._mine.get("04.gelu")
        if gelu is None:
            return network
        found = [
            (parent, name)
            for parent in network.modules()
            for name, child in parent.named_children()
            if isinstance(child, (GELU, nn.GELU))
        ]
        for parent, name in found:
            setattr(parent, name, _Function(gelu))
        if not found:
            self._mine._give_back("04.gelu", "your 04.feed_forward has no GELU module")
        return network


class _Function(nn.Module):
    """A function without parameters in a module's place."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self._function = function

    def forward(self, x: Tensor) -> Tensor:
        return self._function(x)


class LearnersAttention(MultiHeadAttention):
    """The reference's attention layer with the learner's functions on the way through it."""

    def __init__(self, mine: Mine, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._mine = mine

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D)."""
        queries, keys, values = self._project(x)  # (B, H, T, Dh) each
        context = self._attend(queries, keys, values)  # (B, H, T, Dh)
        merge_heads = self._mine.get("03.merge_heads")
        if merge_heads is not None:
            return self.out_proj(merge_heads(context))
        return self.out_proj(context.transpose(1, 2).flatten(2))  # (B, H, T, Dh) -> (B, T, D)

    def _project(self, x: Tensor) -> list[Tensor]:
        layers = (self.W_query, self.W_key, self.W_value)
        project = self._mine.get("03.one_projection")
        if project is not None:
            weight = torch.cat([layer.weight for layer in layers])  # (3D, d_in)
            parts = list(project(x, weight, self.num_heads))
            if self.W_query.bias is None:
                return parts
            biases = [layer.bias.view(self.num_heads, 1, self.head_dim) for layer in layers]
            return [part + bias for part, bias in zip(parts, biases, strict=True)]
        split_heads = self._mine.get("03.split_heads")
        if split_heads is None:
            return [self._split_heads(layer(x)) for layer in layers]
        return [split_heads(layer(x), self.num_heads) for layer in layers]

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        get = self._mine.get
        weigh, mask, soften = get("02.causal_weights"), get("02.mask"), get("02.softmax")
        drop = get("02.attention_dropout")
        shape, rate = queries.shape, self.dropout.p if self.training else 0.0
        if not any((weigh, mask, soften, drop)):
            return F.scaled_dot_product_attention(
                queries, keys, values, dropout_p=rate, is_causal=True
            )
        # Chapter 2 knows one head only: each head is a text of its own.
        queries, keys, values = (t.flatten(0, 1) for t in (queries, keys, values))  # (BH, T, Dh)
        scores = queries @ keys.transpose(-2, -1) / math.sqrt(self.head_dim)  # (BH, T, T)
        later = torch.ones_like(scores[0], dtype=torch.bool).triu(diagonal=1)
        weights = None
        if weigh is not None:
            weights = weigh(queries, keys)
        elif mask is not None:
            weights = mask(scores, torch.ones_like(scores[:, 0], dtype=torch.bool))
        scores = scores.masked_fill(later, -torch.inf)
        if drop is not None:
            if weights is not None:
                scores = _scores_of(weights)
            context = drop(scores, values, self.dropout.p, self.training)
        else:
            if weights is None:
                weights = torch.softmax(scores, dim=-1) if soften is None else soften(scores)
            context = self.dropout(weights) @ values
        return context.view(shape)


def _scores_of(weights: Tensor) -> Tensor:
    """Scores whose softmax gives these weights back: their logarithms, since a row adds up to 1."""
    smallest = torch.finfo(weights.dtype).tiny
    return weights.clamp_min(smallest).log().masked_fill(weights == 0, -torch.inf)


class LearnersTrainer(Trainer):
    """The reference's loop with the learner's functions in its steps.

    When a piece raises, the run is saved as it was after the last whole step.

    Raises:
        ValueError: as ``Trainer``, or the configuration's optimizer is not AdamW.
    """

    def __init__(self, mine: Mine, *args: Any, **kwargs: Any) -> None:
        self._mine = mine
        super().__init__(*args, **kwargs)
        if self.config.optimizer != "adamw":
            raise ValueError(
                f"optimizer={self.config.optimizer!r} is not allowed with a learner's pieces: it "
                "must be 'adamw', as in chapter 6, whose exercises give its groups."
            )

    def train(self) -> History:
        """As ``Trainer.train``. Raises PieceFailed when a piece of the learner's raises."""
        try:
            return super().train()
        except PieceFailed as error:
            raise PieceFailed(f"{error}.{self._saved()}") from error
        except RuntimeError as error:  # PyTorch's, when it follows the gradients back
            message = str(error).partition("\n")[0]
            raise PieceFailed(f"with your pieces PyTorch says: {message}{self._saved()}") from error

    def load(self, path: str | os.PathLike[str]) -> None:
        """As ``Trainer.load``; the groups of ``06.decay_groups`` must be those of the run."""
        try:
            super().load(path)
        except ValueError as error:
            if "parameter group" not in str(error):  # PyTorch's words
                raise
            raise ValueError(
                f"{path}: the run's groups of parameters are not those of 06.decay_groups now: "
                "answer it as when the run was started, or start another run."
            ) from error

    def _saved(self) -> str:
        if self.checkpoint_path is None:
            return ""
        self._save_to_out_dir()
        return f" The run is saved as it was after step {self.step_number}."

    def make_optimizer(self) -> torch.optim.Optimizer:
        decay_groups = self._mine.get("06.decay_groups")
        if decay_groups is None:
            return super().make_optimizer()
        return torch.optim.AdamW(
            decay_groups(self.model, self.config.weight_decay),
            lr=self.config.learning_rate,
            betas=(self.config.beta1, self.config.beta2),
        )

    def accumulate(self, micro_batches: Sequence[Batch]) -> tuple[float, int]:
        combine = self._mine.get("06.accumulate")
        if combine is None and self._mine.get("06.shifted_cross_entropy") is None:
            return super().accumulate(micro_batches)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        counts = [int((targets != IGNORE_INDEX).sum()) for _, targets in micro_batches]
        gradients: list[tuple[Tensor, ...]] = []
        total = 0.0
        for (inputs, targets), count in zip(micro_batches, counts, strict=True):
            loss = self._loss(inputs.to(self._device), targets.to(self._device))
            total += loss.item() * count / sum(counts)
            if combine is None:
                (loss * (count / sum(counts))).backward()
            else:
                gradients.append(torch.autograd.grad(loss, parameters, materialize_grads=True))
        if combine is not None:
            for parameter, of_each in zip(parameters, zip(*gradients, strict=True), strict=True):
                parameter.grad = combine(list(of_each), counts)
        return total, sum(counts)

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        logits = self.model(inputs)  # (B, T) -> (B, T, V)
        loss = self._mine.get("06.shifted_cross_entropy")
        if loss is None:
            return cross_entropy(logits, targets)
        # The learner's shifts by itself: it wants the first token too, and asks no last logits.
        counts = targets != IGNORE_INDEX
        ids = torch.cat([inputs[:, :1], targets.where(counts, 0)], dim=1)  # (B, T + 1)
        mask = torch.cat([torch.ones_like(counts[:, :1]), counts], dim=1)  # (B, T + 1)
        return loss(F.pad(logits, (0, 0, 0, 1)), ids, mask)  # (B, T, V) -> (B, T + 1, V)

    def clip(self, max_norm: float) -> float:
        clip = self._mine.get("06.clip")
        if clip is None or not math.isfinite(max_norm):
            return super().clip(max_norm)
        parameters = list(self.model.parameters())
        shorter, norm = clip([p.grad for p in parameters], max_norm)
        for parameter, gradient in zip(parameters, shorter, strict=True):
            parameter.grad = gradient
        return float(norm)

    def learning_rate(self, step: int) -> float:
        warmup_cosine = self._mine.get("06.warmup_cosine")
        if warmup_cosine is None:
            return super().learning_rate(step)
        config = self.config
        # One cycle, and the last step still belongs to it.
        cycle = config.max_steps - config.warmup_steps + 1
        return float(
            warmup_cosine(step, config.learning_rate, config.min_lr, config.warmup_steps, cycle)
        )

    def mean_loss(self, batches: Sequence[Batch]) -> float:
        evaluate = self._mine.get("06.evaluate")
        if evaluate is None:
            return super().mean_loss(batches)
        there = [(x.to(self._device), y.to(self._device)) for x, y in batches]
        return float(evaluate(self.model, there))


def show(whose: Mapping[str, str]) -> list[str]:
    """A line for each piece, its exercise and whose stands there; then how many are yours."""
    names = {piece.exercise_id: piece.what for piece in PIECES}
    width = max(map(len, names.values()))
    long = max(map(len, names))
    lines = [f"{'piece':<{width}}  {'exercise':<{long}}  whose"]
    lines += [
        f"{names[i]:<{width}}  {i:<{long}}  {told}" for i, told in whose.items() if i in names
    ]
    return [*lines, _count(whose)]


def _count(whose: Mapping[str, str]) -> str:
    yours = sum(told.startswith("yours") for told in whose.values())
    return f"{yours} of {len(whose)} pieces are yours"
