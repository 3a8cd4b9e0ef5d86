"""The cached GPT beside the plain one, in float64, where rounding cannot hide a difference."""

import copy
import dataclasses
import inspect
import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import course_pkg.cache
from course_pkg.cache import CachedGPT, can_cache
from course_pkg.config import GPTConfig
from course_pkg.generation import generate, stream
from course_pkg.gpt import GPT
from course_pkg.weights import load_pretrained, load_tokenizer

CONTEXT = 8
VOCAB = 13
CONFIG = GPTConfig(
    vocab_size=VOCAB, context_length=CONTEXT, d_model=16, num_heads=4, num_layers=3, dropout=0.5
)


def make(dtype=torch.float64, **changes):
    """A model whose parameters are all far from zero; in training mode, with dropout."""
    torch.manual_seed(3)
    model = GPT(dataclasses.replace(CONFIG, **changes)).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model


MODELS = {
    "tied": make(),
    "with biases, untied": make(qkv_bias=True, tie_weights=False),
    "one layer, one head": make(num_layers=1, num_heads=1),
    "exact GELU": make(exact_gelu=True),
}
models = st.sampled_from(sorted(MODELS))


def random_ids(batch, tokens, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(VOCAB, (batch, tokens), generator=generator)


# Reading


@settings(max_examples=60)
@given(
    models,
    st.integers(1, 3),
    st.lists(st.integers(1, CONTEXT), min_size=1, max_size=CONTEXT),
    st.integers(1, CONTEXT + 1),
)
def test_reading_in_any_parts_gives_the_logits_of_the_whole(name, batch, parts, max_chunk):
    ends = [end for end in itertools.accumulate(parts) if end <= CONTEXT]
    model, ids = MODELS[name], random_ids(batch, ends[-1], seed=sum(parts))
    expected = copy.deepcopy(model).eval()(ids)  # (B, T, V)
    reader = CachedGPT(model, batch, max_chunk=max_chunk)
    for start, end in itertools.pairwise([0, *ends]):
        logits = reader.read(ids[:, start:end], every=True)
        torch.testing.assert_close(logits, expected[:, start:end], rtol=0, atol=1e-12)
        assert reader.length == end
    reader.forget()
    torch.testing.assert_close(reader.read(ids), expected[:, -1], rtol=0, atol=1e-12)


def test_the_model_is_left_as_it_was():
    model = make()
    before = {name: (t.clone(), t.stride()) for name, t in model.state_dict().items()}
    reader = CachedGPT(model)
    reader.read(random_ids(1, 5))
    assert model.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name][0]) and tensor.stride() == before[name][1]
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


def test_what_is_read_can_be_used_in_a_training():
    logits = CachedGPT(MODELS["tied"]).read(random_ids(1, 5))
    weight = torch.ones(VOCAB, dtype=logits.dtype, requires_grad=True)
    (logits * weight).sum().backward()
    assert torch.equal(weight.grad, logits[0])


def test_the_cache_is_allocated_once():
    reader = CachedGPT(MODELS["tied"])
    place = reader._kept.data_ptr()
    for token in random_ids(1, CONTEXT).split(1, dim=1):
        assert not reader.read(token).requires_grad
    reader.forget()
    reader.read(random_ids(1, 3))
    assert reader._kept.data_ptr() == place


def test_the_weights_of_a_large_model_are_not_copied(monkeypatch):
    model, ids = MODELS["tied"], random_ids(1, 5)
    copied = CachedGPT(model)._head.keywords["weight"]
    monkeypatch.setattr(course_pkg.cache, "_MAX_COPIED_BYTES", 1000)
    reader = CachedGPT(model)
    assert reader._head.keywords["weight"].data_ptr() == model.output_head.weight.data_ptr()
    assert copied.data_ptr() != model.output_head.weight.data_ptr()
    torch.testing.assert_close(reader.read(ids), CachedGPT(model).read(ids))


# Writing


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("prompt", range(1, CONTEXT + 4))
def test_cached_equals_uncached_around_the_edge_of_the_context(name, batch, prompt):
    model, ids = MODELS[name], random_ids(batch, prompt, seed=prompt)
    options = {"max_new_tokens": CONTEXT + 3, "temperature": 0.0}
    expected = generate(model, ids, **options, cache=False)
    assert torch.equal(generate(model, ids, **options), expected)
    reader = CachedGPT(model, batch, max_chunk=3)
    assert torch.equal(generate(reader, ids, **options), expected)


@settings(max_examples=30)
@given(
    models,
    st.integers(1, CONTEXT + 2),
    st.integers(0, 2 * CONTEXT),
    st.sampled_from([{}, {"top_k": 4}, {"top_p": 0.7}, {"temperature": 2.0}]),
    st.integers(0, 1000),
)
def test_the_same_seed_draws_the_same_tokens(name, prompt, new, options, seed):
    ids = random_ids(2, prompt, seed)
    drawn = [
        generate(
            MODELS[name],
            ids,
            new,
            **options,
            stop_ids=[0],
            generator=torch.Generator().manual_seed(seed),
            cache=cache,
        )
        for cache in (True, False)
    ]
    assert torch.equal(*drawn)


def test_each_token_is_read_once(monkeypatch):
    read = []
    features = CachedGPT._features

    def counted(self, ids):
        read.append(ids.shape[1])
        return features(self, ids)

    monkeypatch.setattr(CachedGPT, "_features", counted)
    generate(MODELS["tied"], random_ids(2, 3), max_new_tokens=5)
    assert read == [3, 1, 1, 1, 1]  # the last token is written and not read
    read.clear()
    # From the token that does not fit any more the whole context is read for each.
    generate(MODELS["tied"], random_ids(2, CONTEXT - 1), max_new_tokens=4)
    assert read == [CONTEXT - 1, 1, CONTEXT, CONTEXT]


def test_two_streams_of_one_reader_do_not_meet():
    reader, ids = CachedGPT(MODELS["tied"]), [random_ids(1, 3, seed) for seed in (1, 2)]
    alone = [list(stream(reader, prompt, 7, temperature=0.0)) for prompt in ids]
    reader.read(ids[0])
    together = list(
        zip(*(stream(reader, prompt, 7, temperature=0.0) for prompt in ids), strict=True)
    )
    assert [list(column) for column in zip(*together, strict=True)] == alone
    assert reader.length == 3


# Which models


class Louder(GPT):
    def forward(self, ids):
        return 2 * super().forward(ids)


def louder():
    return Louder(MODELS["tied"].config)


def hooked():
    model = make()
    model.blocks[1].attention.register_forward_hook(lambda module, inputs, output: 0 * output)
    return model


def hooked_before():
    model = make()
    model.blocks[0].norm1.register_forward_pre_hook(lambda module, inputs: (0 * inputs[0],))
    return model


def patched():
    model = make()
    model.final_norm.forward = lambda x: -x
    return model


def of_another_part():
    model = make()
    model.blocks[0].feed_forward.layers[1] = torch.nn.ReLU()
    return model


def without_features():
    model = make()
    model.features = lambda ids: torch.zeros(*ids.shape, 16, dtype=torch.float64)
    return model


@pytest.mark.parametrize(
    "build", [louder, hooked, hooked_before, patched, of_another_part, without_features]
)
def test_a_model_that_does_something_else_runs_as_a_whole(build):
    model = build()
    assert not can_cache(model)
    ids = random_ids(1, 3)
    written = generate(model, ids, 4, temperature=0.0)
    assert torch.equal(written, generate(model, ids, 4, temperature=0.0, cache=False))
    with pytest.raises(ValueError, match="model is not allowed: it must be a GPT"):
        inspect.unwrap(CachedGPT.__init__)(object.__new__(CachedGPT), model)


# 8 bits


@pytest.fixture(scope="module")
def story_model():
    return load_pretrained("story-1m"), load_tokenizer("story-1m")


def test_int8_weights_hardly_change_what_a_trained_model_says(story_model):
    model, tokenizer = story_model
    text = "Once upon a time there was a little dog. He wanted to play with the ball."
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        expected = model(ids).log_softmax(dim=-1)
    found = CachedGPT(model, int8=True).read(ids, every=True).log_softmax(dim=-1)
    divergence = (expected.exp() * (expected - found)).sum(dim=-1).mean()
    # 0.0002 nats; six bits would give ten times as much.
    assert 0 < divergence < 1e-3
    reader = CachedGPT(model, batch_size=3, int8=True)
    rows = reader.read(ids.expand(3, -1), every=True).log_softmax(dim=-1)
    torch.testing.assert_close(rows, found.expand_as(rows), rtol=0, atol=1e-2)


def test_int8_weights_take_a_quarter(story_model):
    model, _ = story_model
    layer = CachedGPT(model, int8=True)._blocks[0].up
    assert layer.weight.dtype == torch.int8
    assert layer.weight.shape == model.blocks[0].feed_forward.layers[0].weight.shape


def test_int8_of_a_row_of_zeros_is_zero():
    model = make(torch.float32, tie_weights=False)
    with torch.no_grad():
        model.output_head.weight[4] = 0
    logits = CachedGPT(model, int8=True).read(random_ids(1, 3))
    assert logits.isfinite().all() and logits[0, 4] == 0


# Bad input


@pytest.mark.parametrize(
    "options, message",
    [
        ({"batch_size": 0}, "batch_size=0 is not allowed: it must be a whole number above 0"),
        ({"batch_size": True}, "batch_size=True is not allowed"),
        ({"max_chunk": 1.5}, r"max_chunk=1\.5 is not allowed"),
        ({"int8": True}, r"int8=True is not allowed for a model in torch\.float64 on cpu"),
    ],
)
def test_bad_arguments_are_named(options, message):
    with pytest.raises(Exception, match=message) as caught:
        inspect.unwrap(CachedGPT.__init__)(object.__new__(CachedGPT), MODELS["tied"], **options)
    assert caught.type is ValueError


def test_bad_ids_are_named():
    reader = CachedGPT(MODELS["tied"], 2)
    reader.read(random_ids(2, 5))
    with pytest.raises(ValueError, match="ids has 3 sequences: it must have batch_size=2"):
        reader.read(random_ids(3, 1))
    with pytest.raises(ValueError, match="4 tokens after the 5 that are read: at most"):
        reader.read(random_ids(2, 4))
    with pytest.raises(ValueError, match=r"ids holds 13: ids must be in \[0, vocab_size=13\)"):
        reader.read(torch.full((2, 1), VOCAB))
    assert reader.length == 5  # nothing was read by halves
    with pytest.raises(ValueError, match="ids has 1 sequences: it must have batch_size=2"):
        stream(reader, random_ids(1, 2), 3)
