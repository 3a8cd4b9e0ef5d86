"""What a model and a training run are made of: two frozen dataclasses and their presets."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from course_pkg.errors import unknown_name

Config = TypeVar("Config", bound="_Config")

PRECISIONS = ("float32", "bfloat16", "auto")
PARALLEL = ("ddp", "fsdp")
OPTIMIZERS = ("adamw", "muon")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Config:
    """Shared by both configurations: to and from plain dictionaries."""

    def to_dict(self) -> dict[str, Any]:
        """All fields as plain Python values, ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls: type[Config], values: Mapping[str, Any]) -> Config:
        """The inverse of ``to_dict``.

        Raises:
            ValueError: a key is unknown or a required one is missing, or a value is not allowed.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                raise unknown_name("key", key, fields)
        required = {name for name, f in fields.items() if f.default is dataclasses.MISSING}
        missing = sorted(required - set(values))
        if missing:
            raise ValueError(f"{cls.__name__} is missing {', '.join(missing)}.")
        return cls(**values)

    def _require(self, condition: bool, name: str, allowed: str) -> None:
        if not condition:
            value = getattr(self, name)
            raise ValueError(f"{name}={value!r} is not allowed: it must be {allowed}.")

    def _require_count(self, *names: str, minimum: int = 1) -> None:
        for name in names:
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            self._require(whole and value >= minimum, name, f"a whole number of at least {minimum}")

    def _require_number(self, name: str, allowed: str, low: float, high: float) -> None:
        """``low <= value < high``; NaN fails both."""
        value = getattr(self, name)
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        self._require(number and low <= value < high, name, allowed)

    def _require_switch(self, *names: str) -> None:
        for name in names:
            self._require(isinstance(getattr(self, name), bool), name, "True or False")

    def _require_choice(self, name: str, allowed: tuple[str, ...]) -> None:
        self._require(getattr(self, name) in allowed, name, f"one of {', '.join(allowed)}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GPTConfig(_Config):
    """The shape of a GPT. The defaults are GPT-2 small's (Radford et al. 2019, table 2).

    Attributes:
        vocab_size: number of different token ids.
        context_length: the longest input, in tokens.
        d_model: width of the vector that stands for a token.
        num_heads: attention heads in each block; divides ``d_model``.
        num_layers: transformer blocks.
        dropout: probability of dropping a value on the embeddings, on the attention weights and
            on each residual branch while training, in [0, 1).
        qkv_bias: whether the query, key and value projections have a bias.
        tie_weights: whether the output head is the token embedding's own parameter.
        exact_gelu: whether GELU is computed with the normal distribution itself, as nanoGPT does,
            and not in GPT-2's form with tanh.

    Raises:
        ValueError: a value is not allowed; the message names it.
    """

    vocab_size: int = 50257
    context_length: int = 1024
    d_model: int = 768
    num_heads: int = 12
    num_layers: int = 12
    dropout: float = 0.1
    qkv_bias: bool = True
    tie_weights: bool = True
    exact_gelu: bool = False

    def __post_init__(self) -> None:
        self._require_count("vocab_size", "context_length", "d_model", "num_heads", "num_layers")
        self._require_number("dropout", "a number in [0, 1)", 0.0, 1.0)
        self._require_switch("qkv_bias", "tie_weights", "exact_gelu")
        if self.d_model % self.num_heads:
            raise ValueError(
                f"d_model={self.d_model} is not divisible by num_heads={self.num_heads}: "
                "each head gets d_model / num_heads features."
            )

    @property
    def head_dim(self) -> int:
        """Features of one head."""
        return self.d_model // self.num_heads

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "GPTConfig":
        """A named configuration, with some of its fields replaced.

        Raises:
            ValueError: the preset or a field is unknown (with the nearest names).
        """
        return cls.from_dict({**_preset(name).model.to_dict(), **overrides})


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(_Config):
    """How a GPT is trained. Lengths are in optimizer steps unless said otherwise.

    Attributes:
        max_steps: optimizer steps of the whole run; the learning rate's schedule ends here.
        batch_size: windows in one forward pass.
        accumulation_steps: forward passes whose gradients make one step.
        learning_rate: the peak, reached after ``warmup_steps``.
        min_lr: the learning rate at and after ``max_steps``.
        warmup_steps: steps over which the rate rises linearly from 0.
        optimizer: ``"adamw"``, or ``"muon"`` for the matrices of the blocks and AdamW for the rest
            (see ``course_pkg.optimizers``).
        weight_decay: decoupled decay, on matrices only.
        beta1, beta2: AdamW's decay rates of the two moments, in [0, 1).
        grad_clip: largest norm of all gradients together; ``None`` does not clip.
        eval_every: steps between evaluations; the last step is always evaluated.
        eval_batches: batches per split in one evaluation.
        log_every: steps between progress lines.
        checkpoint_every: steps between checkpoints; the last step always leaves one.
        seed: of the batches drawn and of dropout.
        precision: in which numbers a step multiplies matrices. ``"float32"`` keeps the model's
            own dtype; ``"bfloat16"`` runs the forward pass under autocast (weights, gradients and
            the loss itself stay in float32); ``"auto"`` takes whichever a short measurement at
            the run's start finds faster, and stays with it.
        compile: whether ``torch.compile`` compiles the forward and backward pass.
        loss_rows: of how many tokens the logits are in memory at a time (256 is a good number);
            ``None`` holds those of the whole batch. Pays where the vocabulary is large.
        fused: whether AdamW updates a tensor in one pass over it. On CUDA it always does. On a CPU
            its results differ from the plain update's in the last digit.
        parallel: how several processes share the work: ``"ddp"`` gives each a whole model,
            ``"fsdp"`` a part of every tensor. One process alone needs neither.

    Raises:
        ValueError: a value is not allowed; the message names it.
    """

    max_steps: int
    batch_size: int
    learning_rate: float
    min_lr: float
    warmup_steps: int
    accumulation_steps: int = 1
    weight_decay: float = 0.1
    beta1: float = 0.9
    beta2: float = 0.95
    grad_clip: float | None = 1.0
    eval_every: int = 100
    eval_batches: int = 8
    log_every: int = 10
    checkpoint_every: int = 100
    seed: int = 0
    optimizer: str = "adamw"
    precision: str = "float32"
    compile: bool = False
    loss_rows: int | None = None
    fused: bool = False
    parallel: str = "ddp"

    def __post_init__(self) -> None:
        self._require_count("max_steps", "batch_size", "accumulation_steps", "eval_every")
        self._require_count("eval_batches", "log_every", "checkpoint_every")
        self._require_count("warmup_steps", "seed", minimum=0)
        infinity = float("inf")
        self._require_number("learning_rate", "a finite number of at least 0", 0.0, infinity)
        self._require_number("min_lr", "a finite number of at least 0", 0.0, infinity)
        self._require_number("weight_decay", "a finite number of at least 0", 0.0, infinity)
        self._require_number("beta1", "a number in [0, 1)", 0.0, 1.0)
        self._require_number("beta2", "a number in [0, 1)", 0.0, 1.0)
        if self.grad_clip is not None:
            self._require_number("grad_clip", "None or a finite number above 0", 0.0, infinity)
            self._require(self.grad_clip > 0, "grad_clip", "None or a finite number above 0")
        self._require(
            self.min_lr <= self.learning_rate,
            "min_lr",
            f"at most learning_rate={self.learning_rate}",
        )
        self._require(
            self.warmup_steps <= self.max_steps,
            "warmup_steps",
            f"at most max_steps={self.max_steps}",
        )
        self._require_choice("optimizer", OPTIMIZERS)
        self._require_choice("precision", PRECISIONS)
        self._require_switch("compile", "fused")
        if self.loss_rows is not None:
            self._require_count("loss_rows")
        self._require_choice("parallel", PARALLEL)
        whole = self.parallel == "ddp" or self.optimizer != "muon"
        self._require(whole, "parallel", "'ddp' with optimizer='muon', which needs whole matrices")

    @classmethod
    def preset(cls, name: str, **overrides: Any) -> "TrainingConfig":
        """The recipe of a named preset, with some of its fields replaced.

        Raises:
            ValueError: the preset or a field is unknown (with the nearest names).
        """
        return cls.from_dict({**_preset(name).training.to_dict(), **overrides})


@dataclasses.dataclass(frozen=True)
class Preset:
    """A model's shape and the recipe that trains it."""

    model: GPTConfig
    training: TrainingConfig


def _preset(name: str) -> Preset:
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


# GPT-2's shapes: Radford et al. 2019, table 2. Its recipe was not published: the learning rates
# and the batch of about half a million tokens are those of GPT-3's models of the same sizes
# (Brown et al. 2020, table 2.1).
def _gpt2(num_layers: int, num_heads: int, d_model: int, learning_rate: float) -> Preset:
    return Preset(
        model=GPTConfig(num_layers=num_layers, num_heads=num_heads, d_model=d_model),
        training=TrainingConfig(
            max_steps=600_000,
            batch_size=8,
            accumulation_steps=64,
            learning_rate=learning_rate,
            min_lr=learning_rate / 10,
            warmup_steps=2_000,
            eval_every=1_000,
            eval_batches=100,
            log_every=10,
            checkpoint_every=1_000,
            precision="auto",
            loss_rows=256,
            fused=True,
        ),
    )


PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "gpt2-small": _gpt2(12, 12, 768, 6e-4),
        "gpt2-medium": _gpt2(24, 16, 1024, 3e-4),
        "gpt2-large": _gpt2(36, 20, 1280, 2.5e-4),
        "gpt2-xl": _gpt2(48, 25, 1600, 2e-4),
        # What a run looks like, seen in ten seconds of one CPU core: the curve doctor's patient.
        "story-tiny": Preset(
            model=GPTConfig(
                vocab_size=512,
                context_length=64,
                d_model=64,
                num_heads=4,
                num_layers=2,
                dropout=0.0,
            ),
            training=TrainingConfig(
                max_steps=300,
                batch_size=16,
                learning_rate=5e-3,
                min_lr=2.5e-4,
                warmup_steps=30,
                eval_every=25,
                eval_batches=8,
                log_every=25,
                checkpoint_every=100,
            ),
        ),
        "story-1m": Preset(
            model=GPTConfig(
                vocab_size=2048,
                context_length=256,
                d_model=128,
                num_heads=4,
                num_layers=4,
                dropout=0.0,
            ),
            training=TrainingConfig(
                max_steps=1_500,
                batch_size=4,
                learning_rate=3e-3,
                min_lr=6e-5,
                warmup_steps=100,
                eval_every=250,
                eval_batches=16,
                log_every=50,
                checkpoint_every=250,
            ),
        ),
        # What comes furthest in three minutes of two CPU cores: benchmarks/recipe.py.
        "story-3min": Preset(
            model=GPTConfig(
                vocab_size=2048,
                context_length=128,
                d_model=128,
                num_heads=4,
                num_layers=4,
                dropout=0.0,
                exact_gelu=True,
            ),
            training=TrainingConfig(
                max_steps=1_400,
                batch_size=16,
                learning_rate=1.2e-2,
                min_lr=0.0,
                warmup_steps=93,
                optimizer="muon",
                eval_every=200,
                eval_batches=8,
                log_every=50,
                checkpoint_every=200,
            ),
        ),
    }
)
