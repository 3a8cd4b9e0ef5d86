"""A GPT out of a learner's own pieces: the same model, and every piece in its place."""

import dataclasses
import functools
import inspect
import json
import random

import pytest
import torch
from click.testing import CliRunner
from torch import nn

from course_pkg import GPT, GPTConfig, TrainingConfig
from course_pkg.checks import all_exercises, mine
from course_pkg.checks.mine import PIECES, Mine, PieceFailed
from course_pkg.cli import course
from course_pkg.data import encode_documents
from course_pkg.generation import generate, next_token_probabilities
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer
from course_pkg.training import Trainer, load_model
from course_pkg.weights import load_pretrained

EXERCISES = {exercise.id: exercise for exercise in all_exercises()}
REFERENCES = {piece.exercise_id: EXERCISES[piece.exercise_id].reference for piece in PIECES}
LAYER = "03.multi_head_attention"
CONFIG = GPTConfig(
    vocab_size=270, context_length=12, d_model=24, num_heads=3, num_layers=2, dropout=0.0
)
TRAINING = TrainingConfig(
    max_steps=3,
    batch_size=2,
    accumulation_steps=2,
    learning_rate=1e-2,
    min_lr=1e-3,
    warmup_steps=1,
    grad_clip=0.5,
    eval_every=3,
    eval_batches=2,
    log_every=3,
    checkpoint_every=3,
)
WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", "Tom", "Lily", "big", "ball", "and", "then"]


@functools.cache
def documents():
    draw = random.Random(0)
    return tuple(" ".join(draw.choices(WORDS, k=40)) + "." for _ in range(20))


@functools.cache
def everything():
    return Mine(REFERENCES)


def without(*names):
    """All pieces but these; what passed once is not judged again."""
    fewer = Mine({})
    fewer._theirs = {k: v for k, v in everything()._theirs.items() if k not in names}
    fewer._ours = dict.fromkeys(names, "not started")
    return fewer


def pair(pieces, config):
    """The reference's model and one out of these pieces, from the same seed."""
    models = []
    for make in (GPT, pieces.model):
        with torch.random.fork_rng():
            torch.manual_seed(5)
            models.append(make(config))
    return models


SELECTIONS = {
    "all": (),
    "without the layer": (LAYER,),
    "each head projected apart": (LAYER, "03.one_projection"),
    "the mask's weights": (LAYER, "02.causal_weights"),
    "scores of ours": (LAYER, "02.causal_weights", "02.mask"),
    "only the softmax": (LAYER, "02.causal_weights", "02.mask", "02.attention_dropout"),
    "weights, and our dropout": (LAYER, "02.attention_dropout"),
    "our attention": (LAYER, "02.causal_weights", "02.mask", "02.softmax", "02.attention_dropout"),
    "our blocks and networks": ("04.transformer_block", "04.feed_forward"),
    "our first weights": ("05.initialise", "05.tie_weights"),
    "nothing": tuple(REFERENCES),
}


def test_every_piece_is_an_exercise_in_code():
    for piece in PIECES:
        exercise = EXERCISES[piece.exercise_id]
        assert exercise.kind == "implement" and not exercise.answer_is_value
        assert set(piece.within) <= REFERENCES.keys() - {piece.exercise_id}


def test_right_answers_are_all_used():
    assert all(whose.startswith("yours") for whose in everything().whose().values())


@pytest.mark.parametrize("names", SELECTIONS.values(), ids=SELECTIONS)
@pytest.mark.parametrize("tied", [True, False])
def test_the_learners_model_is_the_reference(names, tied):
    config = GPTConfig.from_dict(CONFIG.to_dict() | {"tie_weights": tied, "qkv_bias": tied})
    ours, theirs = pair(without(*names), config)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[name]), name
    assert (theirs.output_head.weight is theirs.token_embedding.weight) == tied
    with torch.no_grad():  # parameters that a fresh model has at 0 or 1 tell nothing
        for name, parameter in ours.named_parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
            theirs.get_parameter(name).copy_(parameter)
    ids = torch.randint(config.vocab_size, (2, 11))
    logits = [model.double()(ids) for model in (ours, theirs)]
    assert torch.allclose(*logits, rtol=0, atol=1e-9)
    weights = torch.randn_like(logits[0])
    for some in logits:
        (some * weights).sum().backward()
    for name, parameter in ours.named_parameters():
        gradient = theirs.get_parameter(name).grad
        assert torch.allclose(parameter.grad, gradient, rtol=1e-7, atol=1e-8), name


def test_gelu_has_the_form_that_the_exercises_ask_for():
    config = dataclasses.replace(CONFIG, exact_gelu=True)
    ours, theirs = pair(everything(), config)
    assert not theirs.config.exact_gelu
    ids = torch.randint(config.vocab_size, (2, 11))
    same = GPT(theirs.config)
    same.load_state_dict(ours.state_dict())
    assert torch.allclose(theirs.double()(ids), same.double()(ids), rtol=0, atol=1e-9)


@pytest.mark.parametrize("names", [(), (LAYER,), (LAYER, "02.causal_weights", "02.mask")])
def test_dropout_is_for_training_only(names):
    config = GPTConfig.from_dict(CONFIG.to_dict() | {"dropout": 0.4})
    ours, theirs = pair(without(*names), config)
    ids = torch.randint(config.vocab_size, (2, 12))
    assert torch.allclose(ours.eval()(ids), theirs.eval()(ids), atol=1e-5)
    theirs.train()
    assert not torch.allclose(theirs(ids), theirs(ids), atol=1e-5)


def run_through(pieces, trainer=None):
    """A tokenizer, a few steps, and text at two temperatures; what came of it."""
    torch.manual_seed(0)
    tokenizer = pieces.train_tokenizer(documents(), CONFIG.vocab_size, [END_OF_TEXT])
    ids = encode_documents(documents(), tokenizer)
    model = pieces.model(CONFIG)
    make = pieces.trainer if trainer is None else trainer
    history = make(model, ids[:300], ids[300:], TRAINING, on_log=lambda record: None).train()
    texts = []
    for temperature in (0.0, 0.8):
        generator = torch.Generator().manual_seed(3)
        new = pieces.stream(model, ids[None, :5], 14, temperature, 50, 0.9, generator=generator)
        texts.append(tokenizer.decode([int(token) for token in new]))
    return ids, history, texts, model


def test_a_run_of_right_pieces_starts_as_one_of_ours():
    # Later they differ: some exercises ask for something else than the package's, on purpose.
    ids, history, _, _ = run_through(without("01.split_pattern"))
    same_ids, same_history, _, _ = run_through(Mine({}))
    assert torch.equal(ids, same_ids)
    for row, same in zip(history.rows, same_history.rows, strict=True):
        assert 0 < row["learning_rate"] <= TRAINING.learning_rate * 1.001
        assert row["tokens"] == same["tokens"]
    assert history.rows[0]["train_loss"] == pytest.approx(same_history.rows[0]["train_loss"])
    assert history.rows[0]["grad_norm"] == pytest.approx(same_history.rows[0]["grad_norm"])
    start, same = history.evaluations[0], same_history.evaluations[0]
    assert start == pytest.approx(same, rel=1e-5)


def spy(answer, calls):
    if inspect.isclass(answer):

        class Spy(answer):
            def forward(self, *args):
                calls.append(args)
                return super().forward(*args)

        return Spy

    @functools.wraps(answer)
    def wrapped(*args, **kwargs):
        calls.append(args)
        return answer(*args, **kwargs)

    return wrapped


@pytest.mark.parametrize("name", REFERENCES)
def test_each_piece_alone_is_called(name):
    calls = []
    pieces = Mine({name: spy(REFERENCES[name], calls)})
    assert pieces.whose()[name] == "yours"
    assert sum(told.startswith("yours") for told in pieces.whose().values()) == 1
    calls.clear()
    run_through(pieces)
    assert calls
    assert pieces.whose()[name] == "yours"


def test_what_fails_or_is_not_there_stays_ours():
    def stub(x):
        raise NotImplementedError("04.gelu")

    answers = {"04.gelu": stub, "03.merge_heads": lambda x: x.flatten(2), "05.embed": None}
    pieces = Mine({**answers, "03.split_heads": REFERENCES["03.split_heads"]}, {"06.clip"})
    whose = pieces.whose()
    assert whose["03.split_heads"] == "yours"
    assert whose["03.merge_heads"] == whose["05.embed"] == "ours (failing)"
    assert whose["06.clip"] == "ours (failing)"
    assert whose["04.layer_norm"] == "ours (not started)"
    assert mine.show(whose)[-1] == f"1 of {len(PIECES)} pieces are yours"
    ours, theirs = pair(pieces, CONFIG)
    ids = torch.arange(8)[None]
    assert torch.allclose(ours(ids), theirs(ids), atol=1e-6)


def test_a_mask_in_the_learners_layer_is_in_no_checkpoint():
    class WithMask(REFERENCES[LAYER]):
        def __init__(self, d_in, d_out, context_length, *args, **kwargs):
            super().__init__(d_in, d_out, context_length, *args, **kwargs)
            self.register_buffer("another", torch.ones(context_length, context_length))

    pieces = without(LAYER)
    pieces._theirs[LAYER] = WithMask
    model = pieces.model(CONFIG)
    assert model.blocks[0].attention.another.shape == (12, 12)
    GPT(CONFIG).load_state_dict(model.state_dict())


def test_a_module_with_other_parameters_is_given_back():
    class Narrow(nn.Module):
        def __init__(self, d_model, eps=1e-5):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(d_model))

    pieces = without("04.layer_norm")
    pieces._theirs["04.layer_norm"] = Narrow
    model = pieces.model(CONFIG)
    assert pieces.whose()["04.layer_norm"] == "ours (yours has other parameters)"
    model(torch.arange(5)[None])


def test_slow_merges_are_left_to_us(monkeypatch):
    monkeypatch.setattr(mine, "MERGES_LIMIT", 0.0)
    pieces = without("01.split_pattern")
    tokenizer = pieces.train_tokenizer(documents(), 270, [END_OF_TEXT])
    assert pieces.whose()["01.train_merges"].startswith("ours (yours would take")
    assert tokenizer.merges == BPETokenizer.train(documents(), 270, [END_OF_TEXT]).merges


@pytest.mark.parametrize("name", ["01.train_merges", "01.encode_by_rank"])
def test_the_learners_tokenizer_gives_our_tokens(name):
    ours = BPETokenizer.train(documents(), 290, [END_OF_TEXT])
    theirs = Mine({name: REFERENCES[name]}).train_tokenizer(documents(), 290, [END_OF_TEXT])
    assert theirs.merges == ours.merges and theirs.special_tokens == ours.special_tokens
    text = "Tom, the bäll 🙂 and then\n\n" + END_OF_TEXT
    assert theirs.encode(text, "all") == ours.encode(text, "all")


@pytest.mark.parametrize("options", [(0.7, None, None), (1.0, 3, None), (1.3, None, 0.6)])
def test_one_rule_for_the_tail_gives_our_probabilities(options):
    logits = torch.randn(4, 30)
    expected = next_token_probabilities(logits, *options)
    assert torch.allclose(everything().probabilities(logits, *options), expected, atol=1e-6)


def test_text_at_temperature_0_is_ours():
    _, model = pair(everything(), CONFIG)
    ids = torch.tensor([[5, 2, 8]])
    new = [int(column) for column in everything().stream(model, ids, 20, temperature=0.0)]
    assert generate(model, ids, 20, temperature=0.0)[0, 3:].tolist() == new


# A piece that raises in a run


class Moody(nn.Module):
    """Right as long as it is asked for little."""

    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d_model))
        self.shift = nn.Parameter(torch.zeros(d_model))
        self.eps = eps
        self.seen = 0

    def forward(self, x):
        self.seen += x.requires_grad
        if self.seen > 4:
            return x.no_such_method()
        y = (x - x.mean(-1, keepdim=True)) / (
            x.var(-1, correction=0, keepdim=True) + self.eps
        ).sqrt()
        return self.scale * y + self.shift


def test_a_piece_that_raises_is_named_and_the_run_is_saved(tmp_path):
    pieces = Mine({"04.layer_norm": Moody})
    assert pieces.whose()["04.layer_norm"] == "yours"
    torch.manual_seed(0)
    ids = torch.randint(CONFIG.vocab_size, (200,))
    model = pieces.model(CONFIG)
    trainer = pieces.trainer(model, ids, ids, TRAINING, tmp_path, on_log=lambda record: None)
    with pytest.raises(PieceFailed) as raised:
        trainer.train()
    message = str(raised.value)
    assert "04.layer_norm" in message and "AttributeError" in message
    assert "return x.no_such_method()" in message and "after step 2" in message
    assert trainer.step_number == 2
    saved = load_model(tmp_path / "checkpoint.pt")
    for name, tensor in saved.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    mended = Trainer(GPT(CONFIG), ids, ids, TRAINING, tmp_path, on_log=lambda record: None)
    mended.load(tmp_path / "checkpoint.pt")
    assert len(mended.train().rows) == TRAINING.max_steps


def test_other_groups_of_parameters_cannot_go_on_with_a_run(tmp_path):
    ids = torch.randint(CONFIG.vocab_size, (200,))
    first = Trainer(GPT(CONFIG), ids, ids, TRAINING, on_log=lambda record: None)
    first.save(tmp_path / "checkpoint.pt")
    pieces = without(*REFERENCES.keys() - {"06.decay_groups"})
    other = pieces.trainer(pieces.model(CONFIG), ids, ids, TRAINING, on_log=lambda record: None)
    with pytest.raises(ValueError, match=r"06\.decay_groups"):
        other.load(tmp_path / "checkpoint.pt")


# The command line, on a half-finished folder

NOTEBOOKS = {
    "03_multi_head_attention.md": {
        "03.split_heads": """
def split_heads(x, num_heads):
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).permute(0, 2, 1, 3)
""",
        "03.merge_heads": """
def merge_heads(x):
    B, H, T, Dh = x.shape
    return x.reshape(B, T, H * Dh)
""",
        "03.one_projection": """
def project_heads(x, weight, num_heads):
    raise NotImplementedError("03.one_projection")
""",
    },
    "04_transformer.md": {
        "04.gelu": """
def gelu(x):
    return x * torch.sigmoid(2 * math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
""",
        "04.layer_norm": """
class MyLayerNorm(nn.Module:
    pass
""",
        "04.feed_forward": """
print(undefined)
""",
    },
    "06_training.md": {
        "06.clip": """
def clip(gradients, max_norm):
    norm = sum(g.double().pow(2).sum() for g in gradients if g is not None).sqrt()
    factor = torch.clamp(max_norm / norm, max=1.0)
    return [g if g is None else (g * factor).to(g.dtype) for g in gradients], norm
""",
    },
}
NAMES = {"04.layer_norm": "MyLayerNorm", "03.one_projection": "project_heads"}
TINY = [
    *("--set", "model.num_layers=1", "--set", "model.num_heads=2", "--set", "model.d_model=16"),
    *("--set", "model.context_length=32", "--set", "model.vocab_size=280"),
    *("--set", "training.eval_batches=1", "--set", "training.log_every=1"),
    *("--batch-size", "2", "--max-steps", "3", "--corpus", "tales.txt"),
]


@pytest.fixture
def half_finished(tmp_path, monkeypatch):
    """A folder of notebooks: right, wrong, started, broken and not started."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exercises").mkdir()
    for file, cells in NOTEBOOKS.items():
        parts = ["```{code-cell} python\nimport math\nimport torch\nfrom torch import nn\n```\n"]
        for name, source in cells.items():
            answer = NAMES.get(name, name.partition(".")[2])
            header = f"---\nexercise: {{id: {name}, points: 1, kind: implement}}\n---"
            parts.append(f"```{{code-cell}} python\n{header}{source}```\n")
            parts.append(f'```{{code-cell}} python\ncheck("{name}", {answer})\n```\n')
        (tmp_path / "exercises" / file).write_text("\n".join(parts), encoding="utf-8")
    text = f"\n{END_OF_TEXT}\n".join(documents())
    (tmp_path / "tales.txt").write_text(text, encoding="utf-8")
    return tmp_path


def invoke(*arguments, code=0):
    result = CliRunner().invoke(course, [str(argument) for argument in arguments])
    assert result.exit_code == code, result.output
    return result.output


def test_train_and_generate_with_a_half_finished_folder(half_finished):
    printed = invoke("train", "--out", "runs/x", "--mine", "exercises", *TINY)
    expected = {
        "03.split_heads": "yours",
        "03.merge_heads": "ours (failing)",
        "03.one_projection": "ours (not started)",
        "04.gelu": "yours",
        "04.layer_norm": "ours (failing)",
        "04.feed_forward": "ours (failing)",
        "06.clip": "yours",
        "05.embed": "ours (not started)",
    }
    table = {line.split()[-2]: line for line in printed.splitlines() if "yours" in line}
    for name, whose in expected.items():
        (line,) = (line for line in printed.splitlines() if f" {name} " in line)
        assert line.endswith(f"  {whose}"), table
    assert f"3 of {len(PIECES)} pieces are yours" in printed
    assert "step 3/3" in printed
    run = json.loads((half_finished / "runs/x/run.json").read_text("utf-8"))
    assert run["pieces"][0]["from_step"] == 0
    assert {name: run["pieces"][0][name] for name in expected} == expected
    assert load_pretrained("runs/x").config.d_model == 16

    plain = invoke("generate", "runs/x", "the cat", "--seed", "1", "--max-new-tokens", "9")
    own = invoke(
        *("generate", "runs/x", "the cat", "--seed", "1", "--max-new-tokens", "9"),
        *("--mine", "exercises"),
    )
    assert own.endswith(plain) and "3 of" in own
    assert "pieces, from step 0" in invoke("info", "runs/x")

    refused = invoke("train", "--out", "runs/x", "--resume", "--max-steps", "4", code=2)
    assert "--mine" in refused
    again = ("train", "--out", "runs/x", "--resume", "--mine", "exercises")
    assert "is finished" in invoke(*again)


def test_another_optimizer_than_the_chapters_is_refused(half_finished):
    refused = invoke(
        *("train", "--out", "runs/x", "--mine", "exercises", *TINY),
        *("--set", "training.optimizer=muon"),
        code=2,
    )
    assert "must be 'adamw'" in refused and not (half_finished / "runs/x").exists()


def test_a_folder_without_notebooks_is_refused(half_finished):
    (half_finished / "empty").mkdir()
    for folder, word in (("empty", "no notebook"), ("nowhere", "no such")):
        refused = invoke("train", "--out", "runs/y", "--mine", folder, *TINY, code=2)
        assert word in refused
        assert not (half_finished / "runs/y").exists()
