"""The ribbon of shapes: what it says is what a run without it gives, for any sizes."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from course_pkg import GPT, CausalAttention, GPTConfig, MultiHeadAttention, TransformerBlock
from course_pkg.attention import MultiHeadAttentionWrapper, SelfAttention
from course_pkg.authoring import formats, shapes
from course_pkg.training import cross_entropy
from course_pkg.transformer import FeedForward, LayerNorm

SIZES = {"B": 2, "T": 5, "H": 3, "Dh": 4, "D": 12, "V": 17, "4D": 48, "d_in": 6, "d_out": 8}
sizes = st.integers(2, 9)


def of(*letters, given=SIZES):
    return {letter: given[letter] for letter in letters}


def in_numbers(ribbon):
    """Its shapes, letters turned back into sizes."""
    return [tuple(1 if a == "1" else ribbon.sizes[a] for a in shape) for shape in ribbon.shapes]


def a_config(sizes, **options):
    return GPTConfig(
        vocab_size=sizes["V"],
        context_length=sizes["T"] + 1,
        d_model=sizes["D"],
        num_heads=sizes["H"],
        **{"num_layers": 2, "dropout": 0.1, **options},
    )


def distinct(batch, tokens, heads, head_dim, vocabulary):
    """Sizes of a model, or no example where two of them are equal."""
    width = heads * head_dim
    found = {"B": batch, "T": tokens, "H": heads, "Dh": head_dim, "D": width, "V": vocabulary}
    found["4D"] = 4 * width
    assume(len(set(found.values())) == len(found))
    return found


# Each class, beside its steps taken one by one without the ribbon


def test_an_embedding():
    table = nn.Embedding(17, 12)
    ids = torch.zeros(2, 5, dtype=torch.long)
    ribbon = shapes.ribbon(table, ids, of("B", "T", "V", "D"))
    assert ribbon.steps == (
        (("input",), ("B", "T")),
        (("embedding with (V, D)",), ("B", "T", "D")),
    )
    assert in_numbers(ribbon) == [tuple(ids.shape), tuple(table.weight[ids].shape)]


def test_token_and_position_embeddings():
    tokens, positions = nn.Embedding(17, 12), nn.Embedding(9, 12)

    def both(ids):
        return tokens(ids) + positions(torch.arange(ids.shape[1]))

    ids = torch.zeros(2, 5, dtype=torch.long)
    ribbon = shapes.ribbon(both, ids, of("B", "T", "D"), title="both")
    assert ribbon.steps == (
        (("ids",), ("B", "T")),
        (("Embedding", "+ (T, D)"), ("B", "T", "D")),
    )


@pytest.mark.parametrize("causal", [False, True])
def test_one_head(causal):
    layer = CausalAttention(6, 8, 9, 0.1) if causal else SelfAttention(6, 8)
    x = torch.randn(2, 5, 6)
    ribbon = shapes.ribbon(layer, x, of("B", "T", "d_in", "d_out"))
    queries = x @ layer.W_query.weight.T
    scores = torch.einsum("btd,bsd->bts", queries, x @ layer.W_key.weight.T)
    mixed = torch.einsum("bts,bsd->btd", scores.softmax(-1), x @ layer.W_value.weight.T)
    assert in_numbers(ribbon) == [tuple(t.shape) for t in (x, queries, scores, mixed)]
    masked = ("masked_fill with (T, T)",) if causal else ()
    dropped = ("dropout",) if causal else ()
    assert [labels for labels, _ in ribbon.steps] == [
        ("x",),
        ("W_query, W_key, W_value",),
        ("@ (B, d_out, T)", *masked, "/", "softmax", *dropped),
        ("@ (B, T, d_out)",),
    ]


@given(sizes, sizes, sizes, sizes, st.integers(2, 40))
@settings(max_examples=25, deadline=None)
def test_many_heads_of_any_size(batch, tokens, heads, head_dim, vocabulary):
    size = distinct(batch, tokens, heads, head_dim, vocabulary)
    layer = MultiHeadAttention(size["D"], size["D"], tokens, 0.0, heads)
    x = torch.randn(batch, tokens, size["D"])
    ribbon = shapes.ribbon(layer, x, of("B", "T", "H", "Dh", "D", given=size))
    flat = layer.W_query(x)
    cut = flat.reshape(batch, tokens, heads, head_dim)
    split = torch.stack(list(cut.unbind(2)), dim=1)
    back = torch.stack(list(split.unbind(1)), dim=2)
    expected = [x, flat, cut, split, back, flat, layer(x)]
    assert in_numbers(ribbon) == [tuple(t.shape) for t in expected]
    assert ribbon.steps[3][0] == ("transpose", "scaled_dot_product_attention")


def test_heads_side_by_side_are_counted():
    wrapper = MultiHeadAttentionWrapper(6, 12, 9, 0.1, 3)
    ribbon = shapes.ribbon(wrapper, torch.zeros(2, 5, 6), of("B", "T", "d_in", "Dh", "D"))
    assert ribbon.steps[1:] == (
        (("CausalAttention (3 times)",), ("B", "T", "Dh")),
        (("cat",), ("B", "T", "D")),
    )


def test_the_parts_of_a_block():
    x = torch.zeros(2, 5, 12)
    norm = shapes.ribbon(LayerNorm(12), x, of("B", "T", "D"))
    assert norm.steps[1:] == ((("layer_norm with (D), (D)",), ("B", "T", "D")),)
    network = shapes.ribbon(FeedForward(12), x, of("B", "T", "D", "4D"))
    assert network.steps[1:] == (
        (("Linear",), ("B", "T", "4D")),
        (("GELU",), ("B", "T", "4D")),
        (("Linear",), ("B", "T", "D")),
    )


def test_a_block_is_not_passed_by_on_its_residual_connections():
    block = TransformerBlock(a_config(SIZES))
    ribbon = shapes.ribbon(block, torch.zeros(2, 5, 12), of("B", "T", "D"))
    assert [labels for labels, _ in ribbon.steps] == [
        ("x",),
        ("norm1",),
        ("attention", "dropout", "+"),
        ("norm2",),
        ("feed_forward", "dropout", "+"),
    ]
    assert set(ribbon.shapes) == {("B", "T", "D")}


@given(sizes, sizes, sizes, sizes, st.integers(2, 40), st.integers(1, 3))
@settings(max_examples=15, deadline=None)
def test_a_gpt_of_any_size(batch, tokens, heads, head_dim, vocabulary, layers):
    size = distinct(batch, tokens, heads, head_dim, vocabulary)
    model = GPT(a_config(size, num_layers=layers)).eval()
    ids = torch.randint(vocabulary, (batch, tokens))
    ribbon = shapes.ribbon(model, ids, of("B", "T", "D", "V", given=size))
    seen = {}
    for name, part in model.named_modules():
        part.register_forward_hook(lambda _, __, out, name=name: seen.update({name: out.shape}))
    logits = model(ids)
    names = ["embedding_dropout", f"blocks.{layers - 1}", "final_norm", "output_head"]
    assert in_numbers(ribbon) == [tuple(ids.shape), *(tuple(seen[name]) for name in names)]
    assert in_numbers(ribbon)[-1] == tuple(logits.shape)
    many = f" ({layers} times)" if layers > 1 else ""
    assert [labels for labels, _ in ribbon.steps][1:] == [
        ("token_embedding", "+ (T, D)", "embedding_dropout"),
        (f"TransformerBlock{many}",),
        ("final_norm",),
        ("output_head",),
    ]


def test_the_loss():
    logits, targets = torch.zeros(2, 5, 17), torch.zeros(2, 5, dtype=torch.long)
    ribbon = shapes.ribbon(cross_entropy, (logits, targets), {"B": 2, "T": 5, "V": 17, "B * T": 10})
    assert ribbon.steps == (
        (("logits",), ("B", "T", "V")),
        (("flatten",), ("B * T", "V")),
        (("cross_entropy with (B * T)",), ()),
    )


# Which way it takes, and what it leaves alone


def test_an_axis_of_one_is_written_as_one():
    def centred(x):
        return x - x.mean(dim=-1, keepdim=True)

    ribbon = shapes.ribbon(centred, torch.zeros(2, 5), of("B", "T"))
    assert ribbon.shapes == (("B", "T"), ("B", "1"), ("B", "T"))


def test_attributes_lists_and_changes_in_place_are_seen():
    def function(x):
        y = x.T.clone()
        y += 1
        return torch.cat([y, y], dim=-1)

    ribbon = shapes.ribbon(function, torch.zeros(2, 5), {"B": 2, "T": 5, "2B": 4})
    assert ribbon.steps[1:] == ((("T", "clone", "+"), ("T", "B")), (("cat",), ("T", "2B")))


def test_a_part_shows_nothing_of_its_inside():
    class Inner(nn.Module):
        def forward(self, x):
            return x.unsqueeze(-1).expand(-1, -1, 31).sum(-1)

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Inner()

        def forward(self, x):
            return self.inner(x=x).T

    ribbon = shapes.ribbon(Outer(), torch.zeros(2, 5), of("B", "T"))
    assert ribbon.steps[1:] == ((("inner",), ("B", "T")), (("T",), ("T", "B")))


def test_the_run_leaves_the_random_numbers_the_module_and_the_gradients_as_they_are():
    layer = CausalAttention(6, 8, 9, 0.5)
    state = torch.get_rng_state()
    shapes.ribbon(layer, torch.zeros(2, 5, 6), of("B", "T", "d_in", "d_out"))
    made = shapes.example(CausalAttention, 6, 8, 9, dropout=0.5)
    assert made.dropout.p == 0.5
    assert torch.equal(torch.get_rng_state(), state)
    assert layer.training
    assert all(p.grad is None for p in layer.parameters())


def test_no_hook_is_left_behind_even_by_a_module_that_fails():
    from torch.nn.modules import module

    before = len(module._global_forward_hooks), len(module._global_forward_pre_hooks)
    with pytest.raises(ValueError, match="x has shape"):
        shapes.ribbon(CausalAttention(6, 8, 9, 0.0), torch.zeros(2, 5, 7), of("B", "T"))
    assert (len(module._global_forward_hooks), len(module._global_forward_pre_hooks)) == before
    assert torch.zeros(2).add(1).tolist() == [1, 1]


# What is refused


@given(sizes, sizes, sizes)
@settings(max_examples=30, deadline=None)
def test_two_letters_of_one_size_are_refused_with_both_names(batch, tokens, width):
    names = {"B": batch, "T": tokens, "D": width}
    layer = nn.LayerNorm(width)
    x = torch.zeros(batch, tokens, width)
    if len(set(names.values())) == 3:
        assert shapes.ribbon(layer, x, names).shapes[0] == ("B", "T", "D")
        return
    pairs = [("B", "T"), ("B", "D"), ("T", "D")]
    twins = [pair for pair in pairs if names[pair[0]] == names[pair[1]]]
    with pytest.raises(ValueError, match="are both") as error:
        shapes.ribbon(layer, x, names)
    assert any(
        f"{one} and {other} are both {names[one]}" in str(error.value) for one, other in twins
    )


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"B": 2, "T": 5}, r"no letter for the size 12 of x, a tensor of shape \(2, 5, 12\)"),
        ({"B": 2, "T": 5, "D": 12}, "no letter for the size 48 of Linear"),
        ({"B": 2, "T": 5, "D": 12, "4D": 48, "H": 3}, "H = 3 occurs in no shape"),
        ({"B": 2, "T": 5, "D": 12, "4D": 47}, "4D is 47, but D is 12: it must be 48"),
        ({"B": 2, "T": 5, "D": 12, "4D": 48, "B * T": 11}, "B is 2 and T is 5: it must be 10"),
        ({"B": 2, "T": 5, "D": 12, "4D": 48, "H": 1}, "H is 1: it must be a whole number above 1"),
        ({"B": 2, "T": 5, "D": 12, "4D": 48.0}, "4D is 48.0: it must be a whole number"),
    ],
)
def test_a_wrong_map_of_names_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        shapes.ribbon(FeedForward(12), torch.zeros(2, 5, 12), names)


def test_an_operand_without_a_letter_is_refused():
    table = nn.Embedding(17, 12)
    with pytest.raises(ValueError, match="size 17 of an operand of embedding"):
        shapes.ribbon(table, torch.zeros(2, 5, dtype=torch.long), of("B", "T", "D"))


@pytest.mark.parametrize("function", [lambda x: torch.zeros(2, 5), lambda x: 3.0])
def test_an_output_that_is_not_made_from_the_input_is_refused(function):
    with pytest.raises(ValueError, match=r"does not come from an input|holds no tensor"):
        shapes.ribbon(function, torch.zeros(2, 5), of("B", "T"))


# How it is shown


class Text(HTMLParser):
    """The words of a page, with what is no text left out, and whether every tag is closed."""

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.found = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.open.append(tag)
        self.found.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)


def test_html_and_text_say_the_same():
    ribbon = shapes.ribbon(
        MultiHeadAttention(12, 12, 9, 0.0, 3),
        torch.zeros(2, 5, 12),
        of("B", "T", "H", "Dh", "D"),
        title="<b>",
    )
    page = Text(ribbon._repr_html_())
    assert page.open == []
    assert ("ol", {"role": "list", "aria-label": "Shapes in <b>"}) in page.found
    lines = repr(ribbon).splitlines()
    said = re.sub(r"\s+", " ", "".join(page.words))
    assert lines[0] in said
    for line, (labels, shape) in zip(lines[1:], ribbon.steps, strict=True):
        assert line.endswith(" · ".join(labels))
        written = f"({', '.join(shape)})"
        assert written in line
        assert f"{' · '.join(labels)} {written}" in said
    assert sum(tag == "li" for tag, _ in page.found) == len(ribbon.steps)


def test_another_run_shows_the_same():
    def shown():
        return shapes.ribbon(
            GPT(a_config(SIZES)), torch.zeros(2, 5, dtype=torch.long), of("B", "T", "D", "V")
        )

    assert shown()._repr_html_() == shown()._repr_html_()
    assert repr(shown()) == repr(shown())
    assert "0x" not in repr(shown())


def test_a_function_that_pytorch_writes_in_python_is_one_step():
    def loss(x, y):
        return F.mse_loss(F.softmax(x, dim=-1), y)

    ribbon = shapes.ribbon(loss, (torch.zeros(2, 5), torch.zeros(2, 5)), of("B", "T"))
    assert ribbon.steps == (
        (("x",), ("B", "T")),
        (("softmax",), ("B", "T")),
        (("mse_loss",), ()),
    )


@pytest.mark.parametrize(
    ("page", "name"),
    [
        ("02_causal_attention", "CausalAttention"),
        ("03_multi_head_attention", "MultiHeadAttention"),
        ("04_transformer", "LayerNorm"),
        ("04_transformer", "FeedForward"),
        ("04_transformer", "TransformerBlock"),
        ("05_gpt", "GPT"),
        ("06_training", "cross_entropy"),
    ],
)
def test_a_chapter_shows_the_ribbon_below_the_finished_definition(page, name):
    path = Path(__file__).parent.parent / "book" / f"{page}.md"
    cells = formats.read(path).cells
    (defined,) = (
        i
        for i, cell in enumerate(cells)
        if formats.has_tag(cell, "reference")
        and re.search(rf"^(class|def) {name}\b", cell.source, flags=re.MULTILINE)
    )
    below = [cell for cell in cells[defined + 1 : defined + 3] if "shapes.ribbon(" in cell.source]
    assert below
    assert re.search(rf"\b{name}\b", below[0].source)
    assert formats.has_tag(below[0], "remove-input")
    # A module that is made in the cell must not move the page's random numbers; a norm draws none.
    assert name == "LayerNorm" or f"{name}(" not in below[0].source
