"""What two other courses check of the functions that this one checks too.

CS336 (Stanford; assignment 1 of 2024, github.com/stanford-cs336/spring2024-assignment1-basics, and
of 2025, which compares with stored arrays) and LLMs-from-scratch (the tests of the package
llms-from-scratch 1.0.19, and those beside the notebooks of github.com/rasbt/LLMs-from-scratch) test
interfaces of their own, so their tests do not run on our exercises. Each is stated here again in
our words: the same number and sizes of inputs, the same comparison, the same tolerance.

Where a choice had to be made it is in the other course's favour:

- Their stored arrays are replaced by what our reference gives on the same inputs: what the arrays
  hold, without the error of storing them.
- Where our exercise has something that theirs lacks (the mask of the loss, heads that share keys,
  a second cosine), one fixed input shows it too.
- Where they test a function only as a part of a model, so do we: in a model of their own shape,
  only narrower, with the part put into every layer.
- Where the two years of CS336 differ, the stricter of the two tests is taken.

A function that a course does not test is not in ``PEERS`` and is not compared.
"""

import copy
import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import regex
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from course_pkg import GPT, BPETokenizer, GPTConfig, load_corpus, load_tokenizer
from course_pkg.checks.engine import fill_parameters, find_exercise
from course_pkg.tokenizer import GPT2_SPLIT_PATTERN

END = "<|endoftext|>"


@dataclasses.dataclass(frozen=True)
class Peer:
    """A check of another course: ``check(answer)`` raises ``AssertionError`` if it notices.

    ``source`` is the test that it states again.
    """

    source: str
    check: Callable[[Any], None]


def judge(peer: Peer) -> Callable[[Any], Any]:
    """The peer's check in the form that ``mutation.fate`` takes."""

    def verdict(answer: Any) -> str:
        try:
            peer.check(answer)
        except AssertionError:
            return "value"
        return "survived"

    return verdict


def _reference(identifier: str) -> Any:
    return find_exercise(identifier).reference


def _randn(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _close(got: Any, expected: Any, atol: float = 0.0, rtol: float = 1e-7) -> None:
    """NumPy's comparison with its own default for ``rtol``, as those tests make it."""
    arrays = [
        x.detach().numpy() if isinstance(x, Tensor) else np.asarray(x) for x in (got, expected)
    ]
    np.testing.assert_allclose(*arrays, atol=atol, rtol=rtol)


@functools.cache
def _stories(number: int) -> str:
    return END.join(load_corpus("stories").documents[:number])


@functools.cache
def _words() -> dict[str, int]:
    text = _stories(20).replace(END, "")
    return dict(Counter(regex.findall(GPT2_SPLIT_PATTERN, text)))


@functools.cache
def _tokenizer() -> BPETokenizer:
    return load_tokenizer("story-1m")


# CS336, tests/test_train_bpe.py and tests/test_tokenizer.py

_TEXTS = ("", "s", "🙃", "Hello, how are you?", "Héllò hôw are ü? 🙃")


def cs336_train_merges(train_merges: Any) -> None:
    """All merges that 500 ids leave room for are those of the reference, in order."""
    number = 500 - 256 - 1
    assert train_merges(_words(), number, 1) == _trained(number)


@functools.cache
def _trained(number: int) -> list[tuple[bytes, bytes]]:
    return _reference("01.train_merges")(_words(), number, 1)


def _encoded(encode_by_rank: Any, text: str) -> list[bytes]:
    merges = _tokenizer().merges
    pieces = regex.findall(GPT2_SPLIT_PATTERN, text)
    return [token for piece in pieces for token in encode_by_rank(piece.encode(), merges)]


def _agrees_with_tiktoken(encode_by_rank: Any, texts: tuple[str, ...]) -> None:
    encoding = _tokenizer().to_tiktoken()
    for text in texts:
        expected = [encoding.decode_single_token_bytes(i) for i in encoding.encode_ordinary(text)]
        tokens = _encoded(encode_by_rank, text)
        assert tokens == expected and b"".join(tokens).decode() == text


def cs336_encode(encode_by_rank: Any) -> None:
    """Five short strings and a text give tiktoken's tokens, and come back when decoded."""
    _agrees_with_tiktoken(encode_by_rank, (*_TEXTS, _stories(3).replace(END, "")))


def cs336_split_on_special(split_on_special: Any) -> None:
    """Three special tokens among words, and one special token that is two of another."""
    text = f"Héllò hôw {END}{END} are ü? 🙃{END}"
    parts = split_on_special(text, [END])
    assert parts.count(END) == 3 and "".join(parts) == text
    assert parts == _reference("01.split_on_special")(text, [END])
    for plain in _TEXTS:
        assert "".join(split_on_special(plain, [])) == plain
    text = f"Hello, how {END}{END} are you?{END}"
    parts = split_on_special(text, [END, END + END])
    assert parts.count(END) == 1 and parts.count(END + END) == 1 and "".join(parts) == text


def cs336_decode(decode: Any) -> None:
    """Encoded texts come back."""
    for text in (*_TEXTS, _stories(3).replace(END, "")):
        assert decode(_tokenizer().encode(text), _tokenizer().vocab) == text


# CS336, tests/test_nn_utils.py


def cs336_softmax(softmax: Any) -> None:
    """A (3, 5) tensor of numbers between 0 and 1, and the same plus 100."""
    x = torch.rand(3, 5, generator=torch.Generator().manual_seed(0))
    expected = F.softmax(x, dim=-1)
    _close(softmax(x), expected, atol=1e-6)
    _close(softmax(x + 100), expected, atol=1e-6)


def cs336_cross_entropy(shifted_cross_entropy: Any) -> None:
    """Logits (2, 4, 5) between 0 and 1, and the same times 1000; our shift and a mask beside."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.rand(2, 5, 5, generator=generator)
    ids = torch.randint(5, (2, 5), generator=generator)
    mask = torch.tensor([[True] * 5, [True] * 3 + [False] * 2])
    for scaled in (logits, 1000 * logits):
        expected = F.cross_entropy(scaled[:, :-1][mask[:, 1:]], ids[:, 1:][mask[:, 1:]])
        _close(shifted_cross_entropy(scaled, ids, mask), expected, atol=1e-6)


def cs336_clip(clip: Any) -> None:
    """Gradients of a sum for six (5, 5) tensors, the last one frozen, clipped to 0.01."""
    gradients = [torch.ones(5, 5) for _ in range(5)] + [None]
    expected, _ = _reference("06.clip")(gradients, 1e-2)
    clipped, _ = clip(list(gradients), 1e-2)
    kept = [g for g in clipped if g is not None]
    assert len(kept) == 5
    for got, wanted in zip(kept, expected[:5], strict=True):
        _close(got, wanted, atol=1e-6)


# CS336, tests/test_optimizer.py


def cs336_cosine(warmup_cosine: Any) -> None:
    """Steps 1 to 24, seven of them warm-up, with the cosine at its end at step 21."""
    peak, low, warmup, cycle = 1.0, 0.1, 7, 14
    steps = range(1, 25)
    expected = [_reference("06.warmup_cosine")(s, peak, low, warmup, cycle) for s in steps]
    _close([warmup_cosine(s, peak, low, warmup, cycle) for s in steps], expected)


# CS336, tests/test_model.py: 4 texts of 12 tokens, width 64, 4 heads

_B, _T, _D, _H = 4, 12, 64, 4


def _snapshot(
    answer: Any, identifier: str, build: Any, inputs: list[Tensor], atol: float, rtol: float
) -> None:
    """The outputs of two modules with the same weights agree on fixed inputs."""
    modules = [
        fill_parameters(build(a), scale=0.2).eval() for a in (answer, _reference(identifier))
    ]
    for x in inputs:
        _close(modules[0](x), modules[1](x), atol=atol, rtol=rtol)


def cs336_scaled_dot_product(scaled_dot_product: Any) -> None:
    """12 queries and 16 keys with three axes, and with four."""
    q, k, v = _randn(1, _B, _T, _D), _randn(2, _B, 16, _D), _randn(3, _B, 16, _D)
    _close(scaled_dot_product(q, k, v), F.scaled_dot_product_attention(q, k, v), 1e-6, 1e-4)
    q, k, v = (x.unflatten(0, (2, 2)) for x in (q, k, v))
    _close(scaled_dot_product(q, k, v), F.scaled_dot_product_attention(q, k, v), 1e-6, 1e-4)


def cs336_multi_head_attention(layer: Any) -> None:
    x = [_randn(4, _B, _T, _D)]
    for kv_heads, bias in ((None, False), (2, True)):

        def build(cls: Any, kv: int | None = kv_heads, bias: bool = bias) -> nn.Module:
            return cls(_D, _D, _T, 0.0, _H, qkv_bias=bias, num_kv_heads=kv)

        _snapshot(layer, "03.multi_head_attention", build, x, 1e-6, 1e-4)


def cs336_norm(layer: Any) -> None:
    """Theirs is RMSNorm; the same test for the norm that we have."""
    _snapshot(
        layer, "04.layer_norm", lambda cls: cls(_D, 1e-5), [_randn(4, _B, _T, _D)], 1e-6, 1e-4
    )


def cs336_gelu(gelu: Any) -> None:
    """A (2, 5) tensor of numbers between 0 and 1; ours is the tanh form."""
    x = torch.rand(2, 5, generator=torch.Generator().manual_seed(0))
    _close(gelu(x), F.gelu(x, approximate="tanh"), atol=1e-6)


def cs336_feed_forward(layer: Any) -> None:
    x = [_randn(4, _B, _T, _D)]
    for sizes in ((_D, 128), (_D,)):
        _snapshot(layer, "04.feed_forward", lambda cls, s=sizes: cls(*s), x, 1e-6, 1e-7)


def _config(**kw: Any) -> GPTConfig:
    sizes = {"vocab_size": 10_000, "context_length": 16, "d_model": _D, "num_heads": _H}
    return GPTConfig(**{**sizes, "num_layers": 3, "dropout": 0.0, **kw})


def cs336_block(layer: Any) -> None:
    x = [_randn(4, _B, _T, _D)]
    _snapshot(layer, "04.transformer_block", lambda cls: cls(_config()), x, 1e-6, 1e-4)


@functools.cache
def _gpt() -> GPT:
    return fill_parameters(GPT(_config()), scale=0.2).eval()


def cs336_forward(forward: Any) -> None:
    """A model of three layers on 4 rows of 12 ids, and on the first 6 of them."""
    ids = torch.randint(10_000, (_B, _T), generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        _close(forward(_gpt(), ids), _gpt()(ids), atol=1e-4, rtol=1e-2)
        _close(forward(_gpt(), ids[:, :6]), _gpt()(ids[:, :6]), atol=1e-4, rtol=1e-4)


# LLMs-from-scratch, tests/test_ch04.py: the ids that a fresh model of 12 layers writes, greedily.

_PROMPT = torch.tensor([[15496, 11, 314, 716]])
_NEW = 10


@functools.cache
def _their_model() -> nn.Module:
    from llms_from_scratch.ch04 import GPTModel

    torch.manual_seed(123)
    sizes = {"vocab_size": 50257, "context_length": 1024, "emb_dim": 96, "n_heads": 12}
    model = GPTModel({**sizes, "n_layers": 12, "drop_rate": 0.1, "qkv_bias": False})
    return model.eval()


def _written(model: nn.Module) -> Tensor:
    from llms_from_scratch.ch04 import generate_text_simple

    return generate_text_simple(model=model, idx=_PROMPT, max_new_tokens=_NEW, context_size=1024)


@functools.cache
def _expected_ids() -> Tensor:
    return _written(_their_model())


def _writes_the_same(replace: Callable[[nn.Module], nn.Module | None]) -> None:
    """Their model, with parts replaced, writes what it wrote."""
    model = copy.deepcopy(_their_model())
    for parent, name, child in list(_children(model)):
        new = replace(child)
        if new is not None:
            setattr(parent, name, new.eval())
    assert torch.equal(_written(model), _expected_ids())


def _children(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    for parent in model.modules():
        for name, child in parent.named_children():
            yield parent, name, child


def _loaded(new: nn.Module, old: nn.Module) -> nn.Module:
    new.load_state_dict(old.state_dict())
    return new


def lfs_norm(layer: Any) -> None:
    from llms_from_scratch.ch04 import LayerNorm

    _writes_the_same(
        lambda old: _loaded(layer(len(old.scale)), old) if isinstance(old, LayerNorm) else None
    )


class _Calls(nn.Module):
    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Any:
        return self.function(x)


def lfs_gelu(gelu: Any) -> None:
    from llms_from_scratch.ch04 import GELU

    _writes_the_same(lambda old: _Calls(gelu) if isinstance(old, GELU) else None)


def lfs_feed_forward(layer: Any) -> None:
    from llms_from_scratch.ch04 import FeedForward

    _writes_the_same(lambda old: _loaded(layer(96), old) if isinstance(old, FeedForward) else None)
    # Theirs has no width to choose.
    _snapshot(layer, "04.feed_forward", lambda cls: cls(8, 12), [_randn(0, 2, 4, 8)], 1e-5, 1e-5)


def lfs_block(layer: Any) -> None:
    from llms_from_scratch.ch04 import TransformerBlock

    config = _config(d_model=96, num_heads=12, context_length=1024, dropout=0.1, qkv_bias=False)

    def replaced(old: nn.Module) -> nn.Module | None:
        if not isinstance(old, TransformerBlock):
            return None
        names = {"att": "attention", "ff": "feed_forward"}
        state = {
            ".".join([names.get(head, head), rest]): value
            for key, value in old.state_dict().items()
            for head, _, rest in [key.partition(".")]
        }
        new = layer(config)
        new.load_state_dict(state)
        return new

    _writes_the_same(replaced)


def lfs_forward(forward: Any) -> None:
    """The same test of our model, which has the parts that the exercise calls."""
    model = _gpt_for_writing()
    ids = torch.arange(4)[None]
    with torch.no_grad():
        for _ in range(_NEW):
            ids = torch.cat([ids, forward(model, ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    assert torch.equal(ids, _ids_of_our_model())


@functools.cache
def _gpt_for_writing() -> GPT:
    torch.manual_seed(123)
    config = _config(d_model=96, num_heads=12, num_layers=12, vocab_size=50257)
    return GPT(config).eval()


@functools.cache
def _ids_of_our_model() -> Tensor:
    model, ids = _gpt_for_writing(), torch.arange(4)[None]
    with torch.no_grad():
        for _ in range(_NEW):
            ids = torch.cat([ids, model(ids)[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return ids


def lfs_generate(continue_greedily: Any) -> None:
    with torch.no_grad():
        written = continue_greedily(_their_model(), _PROMPT, _NEW, 1024)
    assert torch.equal(written, _expected_ids())


# LLMs-from-scratch, tests/test_ch03.py and
# ch03/02_bonus_efficient-multihead-attention/tests/test_mha_implementations.py


def lfs_multi_head_attention(layer: Any) -> None:
    """It runs; it agrees with their layer at three sizes; and no later token gets in."""
    from llms_from_scratch.ch03 import MultiHeadAttention

    layer(256, 16, 100, 0.0, num_heads=2)(_randn(0, 8, 6, 256))
    for d_in, d_out, heads, seed in ((768, 768, 12, 1), (768, 1536, 12, 4), (1024, 512, 8, 7)):
        torch.manual_seed(seed)
        theirs = MultiHeadAttention(d_in, d_out, 4, 0.0, heads).eval()
        state = {name: value for name, value in theirs.state_dict().items() if name != "mask"}
        ours = layer(d_in, d_out, 4, 0.0, heads).eval()
        ours.load_state_dict(state, strict=False)  # a buffer of ours may be in it or not
        x = _randn(seed, 2, 4, d_in)
        out = ours(x)
        assert out.shape == (2, 4, d_out)
        assert torch.allclose(out, theirs(x), atol=1e-5)
    for kv_heads in (None, 1):
        torch.manual_seed(123)
        model = layer(12, 12, 4, 0.0, 3, num_kv_heads=kv_heads).eval()
        x = _randn(123, 1, 4, 12)
        changed = x.clone()
        changed[:, 2:] += 10
        assert torch.allclose(model(x)[:, :2], model(changed)[:, :2], atol=1e-5)
    # Our heads that share keys and values, which their layer has not, as the einsum form is tested.
    shared = functools.partial(_shared, d=24)
    _snapshot(layer, "03.multi_head_attention", shared, [_randn(5, 2, 4, 24)], 1e-5, 1e-5)


def _shared(cls: Any, d: int) -> nn.Module:
    return cls(d, d, 4, 0.0, 4, num_kv_heads=2)


# LLMs-from-scratch, ch02/05_bpe-from-scratch/tests.py

_SENTENCE = "Jack embraced beauty through art and life."
_THEIR_TEXTS = (
    "This is some text",
    "Hello,",
    "Implementations",
    "asdf asdfasdf a!!, @aba 9asdf90asdfk",
    "Hello, world. Is this-- a test?",
)


def lfs_train_merges(train_merges: Any) -> None:
    """The number of merges, and how a sentence is encoded with them."""
    number = 500 - 256 - 1
    merges = train_merges(_words(), number, 1)
    assert len(merges) == number
    encode = _reference("01.encode_by_rank")
    for piece in regex.findall(GPT2_SPLIT_PATTERN, _SENTENCE):
        assert encode(piece.encode(), merges) == encode(piece.encode(), _trained(number))


def lfs_encode(encode_by_rank: Any) -> None:
    _agrees_with_tiktoken(encode_by_rank, (_SENTENCE, *_THEIR_TEXTS))


def lfs_decode(decode: Any) -> None:
    assert decode(_tokenizer().encode(_SENTENCE), _tokenizer().vocab) == _SENTENCE


_2024 = "CS336 2024, tests/"
_LATER = "CS336 2025, tests/"
_PACKAGE = "llms-from-scratch 1.0.19, tests/"
_BPE = "LLMs-from-scratch, ch02/05_bpe-from-scratch/tests.py::"
_WRITES = _PACKAGE + "test_ch04.py::test_gpt_model_variants"

PEERS: dict[str, dict[str, Peer]] = {
    "CS336": {
        "01.train_merges": Peer(_2024 + "test_train_bpe.py::test_train_bpe", cs336_train_merges),
        "01.encode_by_rank": Peer(_2024 + "test_tokenizer.py::*_matches_tiktoken", cs336_encode),
        "01.split_on_special": Peer(
            _2024 + "test_tokenizer.py::test_overlapping_special_tokens, *_with_special_tokens*",
            cs336_split_on_special,
        ),
        "01.decode_bytes": Peer(_2024 + "test_tokenizer.py::test_*roundtrip*", cs336_decode),
        "02.softmax": Peer(_2024 + "test_nn_utils.py::test_softmax_matches_pytorch", cs336_softmax),
        "02.scaled_dot_product": Peer(
            _LATER + "test_model.py::test_*scaled_dot_product_attention", cs336_scaled_dot_product
        ),
        "03.multi_head_attention": Peer(
            _LATER + "test_model.py::test_multihead_self_attention", cs336_multi_head_attention
        ),
        "04.layer_norm": Peer(_LATER + "test_model.py::test_rmsnorm", cs336_norm),
        "04.gelu": Peer(_2024 + "test_model.py::test_gelu*", cs336_gelu),
        "04.feed_forward": Peer(
            _2024 + "test_model.py::test_positionwise_feedforward", cs336_feed_forward
        ),
        "04.transformer_block": Peer(_LATER + "test_model.py::test_transformer_block", cs336_block),
        "05.repair_forward": Peer(_LATER + "test_model.py::test_transformer_lm*", cs336_forward),
        "06.shifted_cross_entropy": Peer(
            _2024 + "test_nn_utils.py::test_cross_entropy", cs336_cross_entropy
        ),
        "06.warmup_cosine": Peer(
            _2024 + "test_optimizer.py::test_get_lr_cosine_schedule", cs336_cosine
        ),
        "06.clip": Peer(_LATER + "test_nn_utils.py::test_gradient_clipping", cs336_clip),
    },
    "LLMs-from-scratch": {
        "01.train_merges": Peer(_BPE + "test_tokenizer_training", lfs_train_merges),
        "01.encode_by_rank": Peer(_BPE + "test_gpt2_tokenizer_openai_*", lfs_encode),
        "01.decode_bytes": Peer(_BPE + "test_tokenizer_training", lfs_decode),
        "03.multi_head_attention": Peer(
            _PACKAGE + "test_ch03.py::test_mha, and LLMs-from-scratch, ch03/02_bonus_efficient-"
            "multihead-attention/tests/test_mha_implementations.py",
            lfs_multi_head_attention,
        ),
        "04.layer_norm": Peer(_WRITES, lfs_norm),
        "04.gelu": Peer(_WRITES, lfs_gelu),
        "04.feed_forward": Peer(_WRITES, lfs_feed_forward),
        "04.transformer_block": Peer(_WRITES, lfs_block),
        "05.repair_forward": Peer(_WRITES, lfs_forward),
        "05.continue_greedily": Peer(_WRITES, lfs_generate),
    },
}
