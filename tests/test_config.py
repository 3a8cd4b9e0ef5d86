import dataclasses
import json

import pytest
from jaxtyping import TypeCheckError

from course_pkg.config import PRESETS, GPTConfig, TrainingConfig
from course_pkg.errors import unknown_name

TRAINING = {
    "max_steps": 10,
    "batch_size": 2,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_steps": 2,
}
NAN, INF = float("nan"), float("inf")


def validate(kind, **values):
    """The class's own validation, without the type checks that the test run puts before it."""
    config = object.__new__(kind)
    for field in dataclasses.fields(kind):
        object.__setattr__(config, field.name, values.get(field.name, field.default))
    config.__post_init__()


@pytest.mark.parametrize(
    "name", ["vocab_size", "context_length", "d_model", "num_heads", "num_layers"]
)
@pytest.mark.parametrize("value", [0, -1, 1.5, "12", True, None])
def test_sizes_are_whole_numbers_above_zero(name, value):
    with pytest.raises(ValueError, match=rf"{name}={value!r}.*whole number of at least 1"):
        validate(GPTConfig, **{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.0, 2, NAN, INF, "0.1", None, False])
def test_dropout_is_below_one(value):
    with pytest.raises(ValueError, match=r"dropout=.*\[0, 1\)"):
        validate(GPTConfig, dropout=value)


@pytest.mark.parametrize("name", ["qkv_bias", "tie_weights", "exact_gelu"])
@pytest.mark.parametrize("value", [1, 0, "yes", None])
def test_switches_are_true_or_false(name, value):
    with pytest.raises(ValueError, match=f"{name}=.*True or False"):
        validate(GPTConfig, **{name: value})


def test_heads_divide_the_width():
    with pytest.raises(ValueError, match="d_model=10 is not divisible by num_heads=4"):
        GPTConfig(d_model=10, num_heads=4)
    assert GPTConfig(d_model=12, num_heads=4).head_dim == 3


@pytest.mark.parametrize(
    "name",
    [
        "max_steps",
        "batch_size",
        "accumulation_steps",
        "eval_every",
        "eval_batches",
        "log_every",
        "checkpoint_every",
    ],
)
@pytest.mark.parametrize("value", [0, -3, 2.0, "3", True])
def test_training_counts_are_whole_numbers_above_zero(name, value):
    with pytest.raises(ValueError, match=f"{name}=.*at least 1"):
        validate(TrainingConfig, **{**TRAINING, name: value})


@pytest.mark.parametrize("name", ["warmup_steps", "seed"])
def test_warmup_and_seed_may_be_zero_and_not_less(name):
    assert getattr(TrainingConfig(**{**TRAINING, name: 0}), name) == 0
    for value in (-1, 0.5):
        with pytest.raises(ValueError, match=f"{name}=.*at least 0"):
            validate(TrainingConfig, **{**TRAINING, name: value})


@pytest.mark.parametrize("name", ["learning_rate", "min_lr", "weight_decay"])
@pytest.mark.parametrize("value", [-1e-9, NAN, INF, "0.1", True])
def test_rates_are_finite_and_not_negative(name, value):
    with pytest.raises(ValueError, match=f"{name}=.*finite number of at least 0"):
        validate(TrainingConfig, **{**TRAINING, name: value})


@pytest.mark.parametrize("name", ["beta1", "beta2"])
@pytest.mark.parametrize("value", [-0.1, 1.0, NAN])
def test_betas_are_below_one(name, value):
    with pytest.raises(ValueError, match=rf"{name}=.*\[0, 1\)"):
        validate(TrainingConfig, **{**TRAINING, name: value})


@pytest.mark.parametrize("value", [0.0, -1.0, NAN, INF])
def test_clipping_is_none_or_above_zero(value):
    assert TrainingConfig(**TRAINING, grad_clip=None).grad_clip is None
    with pytest.raises(ValueError, match=r"grad_clip=.*None or a finite number above 0"):
        TrainingConfig(**TRAINING, grad_clip=value)


def test_options_of_the_step():
    defaults = TrainingConfig(**TRAINING)
    assert (defaults.precision, defaults.compile, defaults.fused) == ("float32", False, False)
    assert (defaults.loss_rows, defaults.parallel, defaults.optimizer) == (None, "ddp", "adamw")
    for name, value, allowed in (
        ("precision", "float16", "one of float32, bfloat16, auto"),
        ("parallel", "tensor", "one of ddp, fsdp"),
        ("optimizer", "sgd", "one of adamw, muon"),
        ("compile", 1, "True or False"),
        ("fused", None, "True or False"),
        ("loss_rows", 0, "a whole number of at least 1"),
        ("loss_rows", 2.5, "a whole number of at least 1"),
    ):
        with pytest.raises(ValueError, match=f"^{name}={value!r} is not allowed.*{allowed}"):
            validate(TrainingConfig, **{**TRAINING, name: value})


def test_muon_needs_whole_matrices():
    with pytest.raises(ValueError, match=r"parallel='fsdp' is not allowed.*'ddp' with optimizer"):
        TrainingConfig(**TRAINING, optimizer="muon", parallel="fsdp")


def test_the_schedule_fits_into_the_run():
    with pytest.raises(ValueError, match=r"min_lr=0.01 .*at most learning_rate=0.001"):
        TrainingConfig(**{**TRAINING, "min_lr": 1e-2})
    with pytest.raises(ValueError, match=r"warmup_steps=11 .*at most max_steps=10"):
        TrainingConfig(**{**TRAINING, "warmup_steps": 11})
    TrainingConfig(**{**TRAINING, "min_lr": 1e-3, "warmup_steps": 10})


@pytest.mark.parametrize("config", [GPTConfig(qkv_bias=False), TrainingConfig(**TRAINING)])
def test_a_configuration_survives_json(config):
    assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("config", [GPTConfig(), TrainingConfig(**TRAINING)])
def test_a_configuration_cannot_be_changed_and_a_copy_is_checked(config):
    name = next(iter(config.to_dict()))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, name, 3)
    assert getattr(dataclasses.replace(config, **{name: 60}), name) == 60
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(config, **{name: 0})


def test_an_unknown_key_is_named_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"key='n_layers' is unknown.*'num_layers'"):
        GPTConfig.from_dict({"n_layers": 3})
    with pytest.raises(ValueError, match=r"key='learning_rat' is unknown.*'learning_rate'"):
        TrainingConfig.from_dict({**TRAINING, "learning_rat": 1.0})


def test_missing_keys_are_named():
    with pytest.raises(ValueError, match="TrainingConfig is missing batch_size, min_lr"):
        TrainingConfig.from_dict({"max_steps": 1, "learning_rate": 1.0, "warmup_steps": 0})
    assert GPTConfig.from_dict({}) == GPTConfig()


@pytest.mark.parametrize("kind, field", [(GPTConfig, "model"), (TrainingConfig, "training")])
def test_a_preset_is_what_the_table_says_with_overrides(kind, field):
    for name, preset in PRESETS.items():
        expected = getattr(preset, field)
        assert kind.preset(name) == expected
    override = {GPTConfig: {"dropout": 0.25}, TrainingConfig: {"seed": 7}}[kind]
    assert kind.preset(name, **override) == dataclasses.replace(expected, **override)
    with pytest.raises(ValueError, match="key='sed'"):
        kind.preset(name, sed=3)


@pytest.mark.parametrize("kind", [GPTConfig, TrainingConfig])
def test_an_unknown_preset_is_named_with_the_nearest_one(kind):
    with pytest.raises(ValueError, match=r"preset='stroy-1m' is unknown.*'story-1m'"):
        kind.preset("stroy-1m")


def test_the_presets_cannot_be_changed():
    with pytest.raises(TypeError):
        PRESETS["mine"] = PRESETS["story-1m"]


def test_gpt2_shapes():
    # Radford et al. 2019, table 2; vocabulary and context from section 2.3.
    for name, layers, width in [
        ("gpt2-small", 12, 768),
        ("gpt2-medium", 24, 1024),
        ("gpt2-large", 36, 1280),
        ("gpt2-xl", 48, 1600),
    ]:
        model = PRESETS[name].model
        assert (model.num_layers, model.d_model) == (layers, width)
        assert (model.vocab_size, model.context_length, model.head_dim) == (50257, 1024, 64)
        assert model.qkv_bias and model.tie_weights
    assert GPTConfig() == PRESETS["gpt2-small"].model


def test_positional_arguments_are_refused():
    with pytest.raises((TypeError, TypeCheckError)):
        GPTConfig(50257, 1024)


def test_unknown_name_says_what_is_allowed():
    error = unknown_name("corpus", "storys", ["stories", "shakespeare"])
    assert isinstance(error, ValueError)
    assert str(error) == (
        "corpus='storys' is unknown. Did you mean 'stories'? Allowed: shakespeare, stories."
    )
    assert str(unknown_name("corpus", "xyzzy", ["stories"])) == (
        "corpus='xyzzy' is unknown. Allowed: stories."
    )
    assert "Allowed: nothing" in str(unknown_name("corpus", "x", []))


def test_the_small_story_preset_takes_a_fraction_of_the_large_ones_work():
    # It is there to be trained a hundred times over: the curve doctor's bands and its tests.
    work = {}
    for name in ("story-1m", "story-tiny"):
        model, recipe = PRESETS[name].model, PRESETS[name].training
        tokens = recipe.max_steps * recipe.batch_size * model.context_length
        work[name] = tokens * model.num_layers * model.d_model**2
    assert work["story-tiny"] < work["story-1m"] / 20
