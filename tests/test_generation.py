import dataclasses
import inspect
import itertools
import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from course_pkg.config import GPTConfig
from course_pkg.generation import generate, next_token_probabilities, stream
from course_pkg.gpt import GPT

CONFIG = GPTConfig(
    vocab_size=13,
    context_length=6,
    d_model=16,
    num_heads=2,
    num_layers=2,
    dropout=0.5,
    tie_weights=False,
)
probabilities_unchecked = inspect.unwrap(next_token_probabilities)
stream_unchecked = inspect.unwrap(stream)


@pytest.fixture
def model():
    """Random weights, large enough that the most probable token changes along a text."""
    torch.manual_seed(1)
    model = GPT(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:  # biases would favour the same token everywhere
                parameter.normal_(std=0.6)
    return model


class Counter(GPT):
    """After token i comes token i + 1; it counts its calls and keeps what it was shown."""

    def __init__(self, config=CONFIG):
        super().__init__(config)
        self.seen = []

    def forward(self, ids):
        self.seen.append(ids)
        following = (ids + 1) % self.config.vocab_size
        return 50 * torch.nn.functional.one_hot(following, self.config.vocab_size).float()


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# The distribution


def expected_row(logits, temperature, top_k, top_p):
    """One row's distribution by its definition, in plain Python."""
    order = sorted(range(len(logits)), key=lambda i: (-logits[i], i))
    if temperature == 0:
        return [float(i == order[0]) for i in range(len(logits))]
    powers = [math.exp((x - max(logits)) / temperature) for x in logits]
    if top_k is not None:
        order = order[:top_k]
    if top_p is not None:
        whole, held, kept = sum(powers[i] for i in order), 0.0, []
        for i in order:
            if kept and held >= top_p * whole:
                break
            # Closer than rounding can tell: the definition's own answer is a matter of luck.
            assume(not kept or abs(held - top_p * whole) > 1e-9 * whole)
            kept.append(i)
            held += powers[i]
        order = kept
    total = sum(powers[i] for i in order)
    return [powers[i] / total if i in order else 0.0 for i in range(len(logits))]


rows = st.integers(1, 9).flatmap(
    lambda size: st.lists(
        st.lists(st.integers(-4, 4).map(float), min_size=size, max_size=size),
        min_size=1,
        max_size=3,
    )
)  # few different values, so that ties are common


@settings(deadline=None, max_examples=200)
@given(
    rows,
    st.sampled_from([0.0, 0.3, 1.0, 2.5]),
    st.none() | st.integers(1, 12),
    st.none() | st.floats(0.01, 1.0),
)
def test_the_distribution_is_its_definition(logits, temperature, top_k, top_p):
    expected = [expected_row(row, temperature, top_k, top_p) for row in logits]
    actual = next_token_probabilities(
        torch.tensor(logits, dtype=torch.float64), temperature, top_k, top_p
    )
    expected = torch.tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual, expected)
    assert torch.equal(actual > 0, expected > 0)


# Probabilities 1/2, 1/4, 1/8, 1/8 in another order: sums of them are exact.
HALVES = torch.tensor([[-3.0, -1.0, -3.0, -2.0]]) * math.log(2)


@pytest.mark.parametrize(
    "top_p, kept",
    [
        (0.4, [1]),
        (0.5, [1]),
        (0.51, [1, 3]),  # the token that crosses the threshold is kept
        (0.75, [1, 3]),
        (0.8, [0, 1, 3]),  # of the equal ones the lower id
        (0.875, [0, 1, 3]),
        (0.9, [0, 1, 2, 3]),
        (1.0, [0, 1, 2, 3]),
        (1e-300, [1]),  # at least one
    ],
)
def test_the_nucleus_keeps_the_token_that_crosses_the_threshold(top_p, kept):
    row = next_token_probabilities(HALVES.double(), top_p=top_p)[0]
    assert row.nonzero().flatten().tolist() == kept
    plain = torch.tensor([1 / 8, 1 / 2, 1 / 8, 1 / 4], dtype=torch.float64)
    torch.testing.assert_close(row[kept], plain[kept] / plain[kept].sum())


@pytest.mark.parametrize("top_p, kept", [(0.25, 1), (0.26, 2), (0.5, 2), (0.75, 3), (0.76, 4)])
def test_a_nucleus_that_is_reached_exactly_grows_no_further(top_p, kept):
    row = next_token_probabilities(torch.zeros(1, 4), top_p=top_p)[0]  # 1/4 each, without error
    assert row.nonzero().flatten().tolist() == list(range(kept))


def test_a_tiny_nucleus_in_single_precision_keeps_one_token():
    assert next_token_probabilities(HALVES, top_p=1e-300)[0].tolist() == [0, 1, 0, 0]


def test_the_nucleus_is_taken_of_what_top_k_left():
    # Of 1/2 and 1/4 the first holds two thirds, and not half, of the probability.
    row = next_token_probabilities(HALVES.double(), top_k=2, top_p=0.6)[0]
    assert row.nonzero().flatten().tolist() == [1]


@pytest.mark.parametrize("top_k", [1, 2, 3])
def test_among_equals_the_lowest_ids_are_kept(top_k):
    row = next_token_probabilities(torch.zeros(1, 50_257), top_k=top_k)[0]
    assert row.nonzero().flatten().tolist() == list(range(top_k))
    assert row[0] == pytest.approx(1 / top_k)


def test_greedy_takes_the_lowest_id_among_equals():
    logits = torch.tensor([[0.0, 2.0, 1.0, 2.0], [5.0, 5.0, 5.0, 5.0], [0.0, 0.0, 0.0, 1e-30]])
    expected = [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]]
    assert next_token_probabilities(logits, 0.0).tolist() == expected
    assert next_token_probabilities(torch.zeros(1, 50_257), 0.0)[0].nonzero().item() == 0


def test_top_k_of_the_vocabulary_or_more_and_top_p_of_one_are_everything():
    logits = torch.randn(4, 13, generator=seeded())
    plain = next_token_probabilities(logits)
    torch.testing.assert_close(plain, torch.softmax(logits, -1))
    for options in ({"top_k": 13}, {"top_k": 10**9}, {"top_p": 1.0}, {"top_k": 99, "top_p": 1.0}):
        torch.testing.assert_close(next_token_probabilities(logits, **options), plain)


def test_temperature_divides_the_logits_and_its_ends_are_finite():
    logits = torch.randn(3, 13, generator=seeded())
    half = next_token_probabilities(logits, 0.5)
    torch.testing.assert_close(half, torch.softmax(2 * logits, -1))
    cold = next_token_probabilities(logits, 1e-300)
    assert torch.equal(cold, next_token_probabilities(logits, 0.0))
    hot = next_token_probabilities(logits, 1e30)
    torch.testing.assert_close(hot, torch.full_like(hot, 1 / 13))
    tie = next_token_probabilities(torch.tensor([[1.0, 1.0, 0.0]]), 1e-300)
    assert tie.tolist() == [[0.5, 0.5, 0.0]]


def test_large_and_excluded_logits():
    logits = torch.tensor([[1e38, -1e38, -math.inf, 1e38]])
    assert next_token_probabilities(logits).tolist() == [[0.5, 0, 0, 0.5]]
    assert next_token_probabilities(logits, top_p=0.6).tolist() == [[0.5, 0, 0, 0.5]]
    assert next_token_probabilities(logits, 0.0).tolist() == [[1, 0, 0, 0]]


def test_half_precision_logits_are_treated_in_single_precision():
    logits = torch.randn(2, 5000, generator=seeded()).bfloat16()
    row = next_token_probabilities(logits, top_p=0.9)
    assert row.dtype == torch.float32
    torch.testing.assert_close(row, next_token_probabilities(logits.float(), top_p=0.9))


def test_the_logits_are_left_as_they_are():
    logits = torch.randn(2, 13, generator=seeded())
    before = logits.clone()
    next_token_probabilities(logits, 0.7, top_k=3, top_p=0.5)
    assert torch.equal(logits, before)


@pytest.mark.parametrize(
    "name, values, allowed",
    [
        ("temperature", [-0.1, math.nan, math.inf, "1", None, True], "finite number of at least 0"),
        ("top_k", [0, -1, 1.5, "3", True], "None or a whole number of at least 1"),
        ("top_p", [0, 0.0, -0.5, 1.1, math.nan, "1", True], r"None or a number in \(0, 1\]"),
    ],
)
def test_bad_sampling_options_are_named(model, name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=f"{name}=.* is not allowed: it must be .*{allowed}"):
            probabilities_unchecked(HALVES, **{name: value})
        with pytest.raises(ValueError, match=f"{name}="):
            stream_unchecked(model, torch.tensor([[1]]), 3, **{name: value})


@pytest.mark.parametrize("row", [[0.0, math.nan], [math.inf, 0.0], [-math.inf, -math.inf]])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_without_a_finite_maximum_are_refused(row, temperature):
    with pytest.raises(ValueError, match="logits holds NaN or"):
        next_token_probabilities(torch.tensor([[0.0, 1.0], row]), temperature)


def test_logits_of_another_shape_are_refused():
    for shape in [(3,), (1, 2, 3), (2, 0)]:
        with pytest.raises(ValueError, match="logits has shape"):
            probabilities_unchecked(torch.zeros(shape))


# Greedy texts


def greedy(model, row, max_new_tokens):
    """One sequence continued by argmax, the model called on the last tokens that fit."""
    row = list(row)
    with torch.no_grad():
        for _ in range(max_new_tokens):
            context = torch.tensor([row[-model.config.context_length :]])
            row.append(int(model.eval()(context)[0, -1].argmax()))
    return row


def test_a_greedy_text_is_the_argmax_again_and_again_beyond_the_context(model):
    for start in ([3], [1, 2, 3], list(range(11))):
        actual = generate(model, torch.tensor([start]), 15, temperature=0.0)
        assert actual[0].tolist() == greedy(model, start, 15)
    assert len(set(actual[0, 11:].tolist())) > 2  # a text that stands still would show little


def test_a_batch_is_each_row_alone(model):
    ids = torch.randint(13, (7, 4), generator=seeded())
    together = generate(model, ids, 12, temperature=0.0)
    alone = torch.cat([generate(model, row[None], 12, temperature=0.0) for row in ids])
    assert torch.equal(together, alone)
    assert len({tuple(row) for row in together[:, 4:].tolist()}) > 1


def test_a_batch_with_stop_ids_is_each_row_alone_padded_with_its_stop_id(model):
    ids = torch.randint(13, (7, 4), generator=seeded())
    stop_ids = generate(model, ids, 12, temperature=0.0)[:3, 6].tolist()
    together = generate(model, ids, 12, temperature=0.0, stop_ids=stop_ids)
    lengths = set()
    for row, batched in zip(ids, together, strict=True):
        alone = generate(model, row[None], 12, temperature=0.0, stop_ids=stop_ids)[0]
        lengths.add(len(alone))
        assert torch.equal(batched[: len(alone)], alone)
        assert (batched[len(alone) :] == alone[-1]).all()
    assert len(lengths) > 1


def test_the_model_sees_the_last_tokens_that_fit():
    model = Counter()
    generate(model, torch.tensor([[0, 1, 2, 3, 4]]), 3, temperature=0.0)
    assert [ids.tolist() for ids in model.seen] == [
        [[0, 1, 2, 3, 4]],
        [[0, 1, 2, 3, 4, 5]],
        [[1, 2, 3, 4, 5, 6]],
    ]


def test_a_context_of_one_token():
    config = dataclasses.replace(CONFIG, context_length=1)
    ids = generate(GPT(config), torch.tensor([[1, 2]]), 4, temperature=0.0)
    assert ids.shape == (1, 6)


# Stopping


def test_each_sequence_stops_alone_and_repeats_its_stop_id():
    ids = generate(Counter(), torch.tensor([[3], [0], [7]]), 8, stop_ids=(5, 9))
    assert ids.tolist() == [
        [3, 4, 5, 5, 5, 5],
        [0, 1, 2, 3, 4, 5],
        [7, 8, 9, 9, 9, 9],
    ]  # and it ends as soon as all have stopped


def test_without_stop_ids_every_token_is_generated():
    assert generate(Counter(), torch.tensor([[10]]), 5).tolist() == [[10, 11, 12, 0, 1, 2]]


def test_a_stop_id_in_the_prompt_does_not_stop():
    assert generate(Counter(), torch.tensor([[5, 5]]), 2, stop_ids=[5]).tolist() == [[5, 5, 6, 7]]


def test_no_new_tokens_is_the_prompt():
    model = Counter()
    assert generate(model, torch.tensor([[4, 2]]), 0).tolist() == [[4, 2]]
    assert list(stream(model, torch.tensor([[4, 2]]), 0)) == []
    assert model.seen == []


# Sampling


def test_tokens_are_drawn_with_their_probabilities():
    class Fixed(GPT):
        def forward(self, ids):
            row = torch.log(torch.tensor([0.1, 0.2, 0.3, 0.4]))
            return row.expand(*ids.shape, 4)

    fixed = Fixed(GPTConfig(vocab_size=4, context_length=4, d_model=4, num_heads=1, num_layers=1))
    ids = torch.zeros(5000, 1, dtype=torch.long)
    new = generate(fixed, ids, 4, generator=seeded())[:, 1:]
    for token, probability in enumerate([0.1, 0.2, 0.3, 0.4]):
        share = (new == token).double().mean().item()
        assert abs(share - probability) < 5 * math.sqrt(probability * (1 - probability) / 20_000)
    assert generate(fixed, ids, 4, top_k=2, generator=seeded())[:, 1:].unique().tolist() == [2, 3]
    assert generate(fixed, ids, 4, top_p=0.35, generator=seeded())[:, 1:].unique().tolist() == [3]


def test_a_generator_decides_everything_and_nothing_global_is_touched(model):
    ids = torch.randint(13, (3, 2), generator=seeded())
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = generate(model, ids, 10, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert torch.equal(generate(model, ids, 10, generator=seeded(1)), first)
    assert not torch.equal(generate(model, ids, 10, generator=seeded(2)), first)


def test_without_a_generator_the_global_one_decides(model):
    texts = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        texts.append(generate(model, torch.tensor([[1, 2]]), 12))
    assert torch.equal(texts[0], texts[1])
    assert not torch.equal(texts[0], texts[2])


def test_greedy_uses_no_random_number(model):
    generator, before = seeded(), torch.get_rng_state()
    state = generator.get_state()
    generate(model, torch.tensor([[1, 2]]), 5, temperature=0.0, generator=generator)
    generate(model, torch.tensor([[1, 2]]), 5, temperature=0.0)
    assert torch.equal(generator.get_state(), state)
    assert torch.equal(torch.get_rng_state(), before)


# What is left behind


@pytest.mark.parametrize("training", [True, False])
def test_the_model_runs_in_eval_mode_and_keeps_its_own(model, training):
    model.train(training)
    model.blocks[0].train(not training)  # a part may be in another mode than the whole
    modes = [module.training for module in model.modules()]
    during = []
    model.blocks[0].register_forward_hook(
        lambda *_: during.append([module.training for module in model.modules()])
    )
    for _ in stream(model, torch.tensor([[1]]), 3):
        assert [module.training for module in model.modules()] == modes
        assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled()
    assert [module.training for module in model.modules()] == modes
    assert during == [[False] * len(modes)] * 3  # dropout would make a greedy text random


def test_the_mode_comes_back_after_an_error(model):
    def fail(*_):
        raise RuntimeError("out of memory")

    model.train().blocks[1].register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        generate(model, torch.tensor([[1]]), 3)
    assert all(module.training for module in model.modules())


def test_no_graph_and_no_gradient_is_kept(model):
    needed = []
    model.register_forward_hook(lambda _, __, logits: needed.append(logits.requires_grad))
    ids = generate(model, torch.tensor([[1]]), 3)
    assert needed == [False] * 3 and not ids.is_inference()
    assert all(parameter.grad is None for parameter in model.parameters())
    model(ids).sum().backward()  # what was generated can be trained on


def test_the_prompt_is_left_as_it_is_and_its_type_is_kept(model):
    for dtype in (torch.int64, torch.int32):
        ids = torch.tensor([[1, 2], [3, 4]], dtype=dtype)
        result = generate(model, ids, 3, temperature=0.0)
        assert result.dtype == dtype and torch.equal(result[:, :2], ids)
        assert ids.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_types(model, dtype):
    ids = generate(model.to(dtype), torch.tensor([[1], [2]]), 4, top_p=0.9, generator=seeded())
    assert ids.shape == (2, 5)


# Streaming


@pytest.mark.parametrize(
    "options",
    [{"temperature": 0.0}, {"temperature": 0.8, "top_k": 5, "top_p": 0.9}, {"stop_ids": {3, 7}}],
)
def test_a_stream_is_the_text_column_by_column(model, options):
    ids = torch.randint(13, (3, 2), generator=seeded())
    columns = list(stream(model, ids, 9, **options, generator=seeded(4)))
    whole = generate(model, ids, 9, **options, generator=seeded(4))
    assert all(column.shape == (3,) for column in columns)
    assert torch.equal(torch.stack(columns, dim=1), whole[:, 2:])


def test_a_stream_computes_only_what_is_asked_for():
    model = Counter()
    tokens = list(itertools.islice(stream(model, torch.tensor([[0]]), 10**9), 4))
    assert [int(token) for token in tokens] == [1, 2, 3, 4]
    assert len(model.seen) == 4


# Bad input, at the call and not at the first token


@pytest.mark.parametrize(
    "ids, message",
    [
        (torch.zeros(1, 0, dtype=torch.long), r"ids has shape \(1, 0\).*at least one token"),
        (torch.zeros(0, 2, dtype=torch.long), r"ids has shape \(0, 2\)"),
        (torch.zeros(3, dtype=torch.long), r"ids has shape \(3,\)"),
        (torch.zeros(1, 2), "dtype torch.float32"),
        (torch.tensor([[13]]), r"ids holds 13: ids must be in \[0, vocab_size=13\)"),
        # Outside the vocabulary where the model would not look any more.
        (torch.tensor([[-2, *range(10)]]), "ids holds -2"),
    ],
)
def test_a_bad_prompt_is_named(model, ids, message):
    with pytest.raises(ValueError, match=message):
        stream_unchecked(model, ids, 1)


@pytest.mark.parametrize("value", [-1, 1.5, "3", True, None])
def test_a_bad_number_of_tokens_is_named(model, value):
    with pytest.raises(ValueError, match=r"max_new_tokens=.*whole number of at least 0"):
        stream_unchecked(model, torch.tensor([[1]]), value)


@pytest.mark.parametrize("value", [13, -1, None, 2.0])
def test_a_bad_stop_id_is_named(model, value):
    with pytest.raises(ValueError, match=r"stop_ids holds .*\[0, vocab_size=13\)"):
        stream_unchecked(model, torch.tensor([[1]]), 1, stop_ids=[3, value])


def test_generate_checks_what_stream_checks(model):
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        generate(model, torch.tensor([[1]]), -1)
    with pytest.raises(ValueError, match="ids holds 99"):
        generate(model, torch.tensor([[99]]), 1)
    with pytest.raises(ValueError, match="top_k=0"):
        generate(model, torch.tensor([[1]]), 1, top_k=0)
