import contextlib
import copy
import dataclasses
import functools
import hashlib
import http.server
import json
import os
import threading
import warnings

import pytest
import safetensors.torch
import torch
import torch.nn.functional as F
from llms_from_scratch.ch04 import GPTModel

from course_pkg import files, weights
from course_pkg.config import GPTConfig
from course_pkg.gpt import GPT
from course_pkg.tokenizer import BPETokenizer
from course_pkg.weights import (
    from_huggingface,
    from_llms_from_scratch,
    from_nanogpt,
    load_pretrained,
    load_tokenizer,
    save_pretrained,
    to_huggingface,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import transformers

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SMALL = GPTConfig(
    vocab_size=19, context_length=8, d_model=12, num_heads=3, num_layers=2, dropout=0.0
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def moved(model, by=0.2):
    """The model with every parameter, biases included, away from its initial value."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
    return model.eval()


def small(**changes):
    return moved(GPT(dataclasses.replace(SMALL, **changes)))


def huggingface(config=SMALL, **options):
    options = {
        "vocab_size": config.vocab_size,
        "n_positions": config.context_length,
        "n_embd": config.d_model,
        "n_head": config.num_heads,
        "n_layer": config.num_layers,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "resid_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_weights,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "attn_implementation": "eager",  # the formula written out, and not the kernel we use
        **options,
    }
    return moved(transformers.GPT2LMHeadModel(transformers.GPT2Config(**options)))


def random_ids(config=SMALL, batch=2, tokens=None):
    return torch.randint(config.vocab_size, (batch, tokens or config.context_length))


def assert_same_state(actual, expected):
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(actual[name], tensor), name


# HuggingFace


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"num_heads": 1, "num_layers": 1, "d_model": 4},
        {"num_heads": 12, "num_layers": 3, "vocab_size": 101},
        {"d_model": 64, "num_heads": 2, "context_length": 33, "num_layers": 11},
        {"tie_weights": False},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_logits_and_gradients_equal_huggingfaces(sizes, dtype):
    config = dataclasses.replace(SMALL, **sizes)
    theirs = huggingface(config).to(dtype)
    ours = GPT(config).to(dtype)
    ours.load_state_dict(from_huggingface(theirs.state_dict()))
    exact = dtype == torch.float64
    tolerance = {"rtol": 0, "atol": 1e-10 if exact else 1e-4}
    ids = random_ids(config)
    logits, expected = ours(ids), theirs(ids).logits
    assert expected.std() > 0.1  # there is something to compare
    torch.testing.assert_close(logits, expected, **tolerance)

    for output in (logits, expected):
        F.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
    gradients = from_huggingface({name: p.grad for name, p in theirs.named_parameters()})
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=0, atol=1e-10 if exact else 1e-3, msg=name
        )
    assert ours.blocks[0].attention.W_key.weight.grad.abs().max() > 1e-4


def test_training_side_by_side_with_huggingface_stays_together():
    theirs = huggingface().double().train()
    ours = GPT(SMALL).double()
    ours.load_state_dict(from_huggingface(theirs.state_dict()))
    ids = random_ids(batch=4)
    optimizers = [torch.optim.SGD(model.parameters(), lr=0.1) for model in (ours, theirs)]
    for _ in range(5):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            output = model(ids) if model is ours else model(ids).logits
            optimizer.zero_grad()
            F.cross_entropy(output[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
            optimizer.step()
    expected = from_huggingface(theirs.state_dict())
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, expected[name], rtol=0, atol=1e-10)


@pytest.mark.parametrize("tie_weights", [True, False])
def test_to_huggingface_is_the_inverse_and_loads_strictly_there(tie_weights):
    config = dataclasses.replace(SMALL, tie_weights=tie_weights)
    ours, theirs = small(tie_weights=tie_weights), huggingface(config)
    converted = to_huggingface(ours.state_dict())
    assert theirs.load_state_dict(converted, strict=True) == ([], [])
    ids = random_ids()
    torch.testing.assert_close(theirs(ids).logits, ours(ids), rtol=0, atol=1e-5)
    assert_same_state(from_huggingface(converted), ours.state_dict())
    original = huggingface(config).state_dict()
    back = to_huggingface(from_huggingface(original))
    assert_same_state(back, original)


def test_to_huggingface_gives_zeros_for_missing_biases():
    ours, theirs = small(qkv_bias=False), huggingface()
    theirs.load_state_dict(to_huggingface(ours.state_dict()))
    assert (theirs.transformer.h[0].attn.c_attn.bias == 0).all()
    ids = random_ids()
    torch.testing.assert_close(theirs(ids).logits, ours(ids), rtol=0, atol=1e-5)


def test_the_model_without_a_head_and_old_buffers():
    # As the published files are: names without a prefix, mask buffers, no head.
    theirs = huggingface()
    state_dict = theirs.transformer.state_dict()
    for layer in range(2):
        state_dict[f"h.{layer}.attn.bias"] = torch.ones(8, 8, dtype=torch.bool).tril()[None, None]
        state_dict[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    assert_same_state(from_huggingface(state_dict), from_huggingface(theirs.state_dict()))


@pytest.mark.parametrize("tie_weights", [True, False])
def test_a_folder_of_huggingface_loads(tmp_path, tie_weights):
    theirs = huggingface(dataclasses.replace(SMALL, tie_weights=tie_weights))
    theirs.save_pretrained(tmp_path)
    ours = GPT.from_pretrained(tmp_path)
    assert ours.config == dataclasses.replace(SMALL, tie_weights=tie_weights)
    assert (ours.output_head.weight is ours.token_embedding.weight) is tie_weights
    ids = random_ids()
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"activation_function": "relu"}, "activation_function='relu' is not GPT-2's"),
        ({"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon=1e-06 is not GPT-2's"),
        ({"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx=True"),
        ({"scale_attn_weights": False}, "scale_attn_weights=False"),
        ({"n_inner": 24}, r"n_inner=24 is not GPT-2's: it must be 4 \* n_embd=48"),
        ({"attn_pdrop": 0.3}, "embd_pdrop, attn_pdrop and resid_pdrop differ"),
        ({"n_head": 5}, "d_model=12 is not divisible by num_heads=5"),
        ({"model_type": "llama"}, "model_type='llama' is not GPT-2's"),
        ({"n_layer": None}, "n_layer is missing"),
        ({"n_layer": 3}, r"missing in the state dict: blocks\.2\."),
        ({"n_layer": 1}, r"unexpected in the state dict: blocks\.1\."),
        ({"n_positions": 9}, r"position_embedding.weight has shape \(8, 12\): .* \(9, 12\)"),
        ({"tie_word_embeddings": False}, "lm_head.weight is missing"),
    ],
)
def test_a_huggingface_folder_that_is_another_model_is_refused(tmp_path, changes, message):
    huggingface().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config = {name: v for name, v in {**config, **changes}.items() if name != "n_layer" or v}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


@pytest.mark.parametrize(
    "name, exact", [("gelu_new", False), ("gelu_pytorch_tanh", False), ("gelu", True)]
)
def test_both_forms_of_gelu_are_known_by_their_names(tmp_path, name, exact):
    theirs = huggingface(activation_function=name, n_inner=48)
    theirs.save_pretrained(tmp_path)
    ids = random_ids()
    ours = load_pretrained(tmp_path)
    assert ours.config.exact_gelu is exact
    torch.testing.assert_close(ours(ids), theirs(ids).logits, rtol=0, atol=1e-5)


# LLMs-from-scratch


def textbook(config):
    return moved(
        GPTModel(
            {
                "vocab_size": config.vocab_size,
                "context_length": config.context_length,
                "emb_dim": config.d_model,
                "n_heads": config.num_heads,
                "n_layers": config.num_layers,
                "drop_rate": 0.0,
                "qkv_bias": config.qkv_bias,
            }
        )
    )


@pytest.mark.parametrize("qkv_bias", [True, False])
@pytest.mark.parametrize("sizes", [{}, {"num_layers": 11, "num_heads": 4}])
def test_the_textbooks_model_loads_and_agrees(qkv_bias, sizes):
    config = dataclasses.replace(SMALL, qkv_bias=qkv_bias, tie_weights=False, **sizes)
    theirs = textbook(config)
    state_dict = theirs.state_dict()
    assert any(name.endswith("mask") for name in state_dict)
    ours = GPT(config)
    ours.load_state_dict(from_llms_from_scratch(state_dict))
    ids = random_ids()
    torch.testing.assert_close(ours(ids), theirs(ids), rtol=0, atol=1e-5)


# nanoGPT: its layout as its documentation and checkpoints have it, made from a model of ours.


def nanogpt_layout(model, bias=True, head=True, compiled=False, buffers=False):
    state = {}
    for kind, module in [("wte", model.token_embedding), ("wpe", model.position_embedding)]:
        state[f"transformer.{kind}.weight"] = module.weight
    for i, block in enumerate(model.blocks):
        attention, (first, _, last) = block.attention, block.feed_forward.layers
        projections = [attention.W_query, attention.W_key, attention.W_value]
        linears = {
            "attn.c_attn": (
                torch.cat([p.weight for p in projections]),
                torch.cat([p.bias for p in projections]),
            ),
            "attn.c_proj": (attention.out_proj.weight, attention.out_proj.bias),
            "mlp.c_fc": (first.weight, first.bias),
            "mlp.c_proj": (last.weight, last.bias),
            "ln_1": (block.norm1.scale, block.norm1.shift),
            "ln_2": (block.norm2.scale, block.norm2.shift),
        }
        for name, (weight, b) in linears.items():
            state[f"transformer.h.{i}.{name}.weight"] = weight
            if bias:
                state[f"transformer.h.{i}.{name}.bias"] = b
        if buffers:
            state[f"transformer.h.{i}.attn.bias"] = torch.ones(1, 1, 8, 8).tril()
    state["transformer.ln_f.weight"] = model.final_norm.scale
    if bias:
        state["transformer.ln_f.bias"] = model.final_norm.shift
    if head:
        state["lm_head.weight"] = model.output_head.weight
    prefix = "_orig_mod." if compiled else ""
    return {prefix + name: tensor.detach() for name, tensor in state.items()}


@pytest.mark.parametrize("option", [None, "head", "compiled", "buffers"])
def test_nanogpts_layout_loads(option):
    model, other = small(), GPT(SMALL).eval()
    options = {} if option is None else {option: option != "head"}
    other.load_state_dict(from_nanogpt(nanogpt_layout(model, **options)))
    ids = random_ids()
    assert torch.equal(other(ids), model(ids))


@pytest.mark.parametrize("buffers", [True, False])
def test_nanogpts_models_without_biases_get_zeros(buffers):
    model, other = small(), GPT(SMALL).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(("bias", "shift")):
                parameter.zero_()
    state_dict = nanogpt_layout(model, bias=False, buffers=buffers)
    other.load_state_dict(from_nanogpt(state_dict))
    ids = random_ids()
    torch.testing.assert_close(other(ids), model(ids), rtol=0, atol=1e-6)


def test_one_missing_bias_is_missing():
    state_dict = nanogpt_layout(small())
    del state_dict["transformer.h.1.mlp.c_fc.bias"]
    with pytest.raises(ValueError, match=r"missing .*: h\.1\.mlp\.c_fc\.bias\.$"):
        from_nanogpt(state_dict)


# State dicts that are wrong

SOURCES = {
    "huggingface": (from_huggingface, lambda: huggingface().state_dict(), "c_attn.weight"),
    "nanogpt": (from_nanogpt, lambda: nanogpt_layout(small()), "c_attn.weight"),
    "textbook": (
        from_llms_from_scratch,
        lambda: textbook(dataclasses.replace(SMALL, tie_weights=False)).state_dict(),
        "W_key.weight",
    ),
    "ours": (to_huggingface, lambda: small().state_dict(), "W_key.weight"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_a_wrong_tensor_is_named(source):
    convert, make, part = SOURCES[source]
    state_dict = dict(make())
    convert(state_dict)
    victim = next(name for name in state_dict if name.endswith(part) and ".1." in name)
    short = victim.removeprefix("transformer.")

    def changed(**changes):
        return {name: t for name, t in {**state_dict, **changes}.items() if t is not None}

    for wrong in (state_dict[victim][:-1], state_dict[victim][None]):
        with pytest.raises(ValueError, match=f"{short} has shape .* it must be "):
            convert(changed(**{victim: wrong}))
    with pytest.raises(ValueError, match=f"missing in the state dict: {short}"):
        convert(changed(**{victim: None}))
    with pytest.raises(ValueError, match=r"unexpected in the state dict: rotary\.weight"):
        convert(changed(**{"rotary.weight": torch.ones(2)}))
    with pytest.raises(ValueError, match=f"{short} has dtype torch.int64"):
        convert(changed(**{victim: state_dict[victim].long()}))
    table = next(iter(state_dict))  # the token embedding
    with pytest.raises(ValueError, match=f"{table.removeprefix('transformer.')} is missing"):
        convert(changed(**{table: None}))
    with pytest.raises(ValueError, match="must have two axes"):
        convert(changed(**{table: torch.ones(3)}))
    with pytest.raises(ValueError, match="is missing"):
        convert({})
    with pytest.raises(ValueError, match=r"missing in the state dict: .*0\..* and \d+ more"):
        convert({name: tensor for name, tensor in state_dict.items() if ".0." not in name})


def test_a_transposed_matrix_is_caught_where_its_shape_tells():
    # HuggingFace's Conv1D holds (in, out), nanoGPT's Linear (out, in).
    with pytest.raises(ValueError, match=r"c_attn.weight has shape \(36, 12\): .* \(12, 36\)"):
        from_huggingface(nanogpt_layout(small()))


def test_converting_leaves_the_source_as_it_is():
    state_dict = huggingface().state_dict()
    names, copies = list(state_dict), copy.deepcopy(state_dict)
    for tensor in from_huggingface(state_dict).values():
        assert tensor.is_contiguous() and not tensor.requires_grad
    assert list(state_dict) == names
    assert_same_state(state_dict, copies)


# Our own folders


@pytest.mark.parametrize("changes", [{}, {"tie_weights": False}, {"qkv_bias": False}])
def test_a_saved_model_comes_back_bit_for_bit(tmp_path, changes):
    model = small(**changes)
    save_pretrained(model, tmp_path / "new" / "folder")
    loaded = load_pretrained(tmp_path / "new" / "folder")
    assert loaded.config == model.config
    assert_same_state(loaded.state_dict(), model.state_dict())
    assert (loaded.output_head.weight is loaded.token_embedding.weight) is model.config.tie_weights
    assert not loaded.training and all(p.requires_grad for p in loaded.parameters())
    loaded(random_ids()).sum().backward()  # it can be trained
    assert sorted(p.name for p in (tmp_path / "new" / "folder").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_weights_may_be_short_on_disk_and_are_float32_when_loaded(tmp_path, dtype):
    model = small()
    save_pretrained(model, tmp_path, dtype=dtype)
    stored = safetensors.torch.load_file(tmp_path / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype}
    assert "output_head.weight" not in stored  # tied: stored once
    loaded = load_pretrained(tmp_path)
    for name, tensor in model.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.equal(loaded.state_dict()[name], tensor.to(dtype).float())
    assert next(model.parameters()).dtype == torch.float32  # the saved model is as it was


def test_a_tokenizer_is_saved_beside_the_model(tmp_path):
    tokenizer = BPETokenizer.train("low lower lowest", 260)
    save_pretrained(small(vocab_size=260), tmp_path, tokenizer)
    assert load_tokenizer(tmp_path).merges == tokenizer.merges
    assert load_tokenizer(str(tmp_path)).encode("slow") == tokenizer.encode("slow")
    with pytest.raises(ValueError, match=r"tokenizer has 260 ids: at most .*vocab_size=19"):
        save_pretrained(small(), tmp_path / "other", tokenizer)
    assert not (tmp_path / "other").exists()


def test_a_type_that_cannot_hold_a_weight_is_refused(tmp_path):
    model = small()
    with torch.no_grad():
        model.blocks[1].norm2.scale[3] = 1e6
    with pytest.raises(ValueError, match=r"blocks.1.norm2.scale has a value .*dtype=torch.float16"):
        save_pretrained(model, tmp_path, dtype=torch.float16)
    with pytest.raises(ValueError, match=r"dtype=torch.int8 is not allowed"):
        save_pretrained(model, tmp_path, dtype=torch.int8)
    assert list(tmp_path.iterdir()) == []
    save_pretrained(model, tmp_path, dtype=torch.bfloat16)


def test_a_full_disk_leaves_the_old_model(tmp_path, monkeypatch):
    model = small()
    save_pretrained(model, tmp_path)

    def full(_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space left"):
        patch.setattr(os, "fsync", full)
        save_pretrained(small(), tmp_path)
    assert_same_state(load_pretrained(tmp_path).state_dict(), model.state_dict())
    assert len(list(tmp_path.iterdir())) == 2


def test_a_loaded_model_does_not_depend_on_its_file(tmp_path):
    model = small()
    save_pretrained(model, tmp_path)
    loaded = load_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(bytes(file.stat().st_size))
    assert_same_state(loaded.state_dict(), model.state_dict())


def test_loading_draws_no_random_number(tmp_path):
    save_pretrained(small(), tmp_path)
    before = torch.get_rng_state()
    load_pretrained(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)


def test_from_pretrained_of_a_subclass_builds_that_class(tmp_path):
    class Mine(GPT):
        pass

    save_pretrained(small(), tmp_path)
    assert type(Mine.from_pretrained(tmp_path)) is Mine
    assert type(GPT.from_pretrained(str(tmp_path))) is GPT


def truncate(folder):
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])


def replace_tensor(name, change, folder):
    file = folder / "model.safetensors"
    tensors = safetensors.torch.load_file(file)
    tensors[name] = change(tensors.get(name))
    safetensors.torch.save_file({n: t for n, t in tensors.items() if t is not None}, file)


def write_config(text, folder):
    (folder / "config.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "damage, message",
    [
        (truncate, r"model\.safetensors: the file is damaged"),
        (functools.partial(write_config, "{"), r"config\.json: the file is not JSON"),
        (functools.partial(write_config, "[1]"), r"config\.json: the file holds no JSON object"),
        (
            functools.partial(write_config, json.dumps({**SMALL.to_dict(), "n_layers": 2})),
            r"config\.json: key='n_layers' is unknown.*num_layers",
        ),
        (
            functools.partial(write_config, json.dumps({**SMALL.to_dict(), "d_model": 24})),
            r"model\.safetensors: token_embedding\.weight has shape \(19, 12\).*\(19, 24\)",
        ),
        (
            functools.partial(replace_tensor, "final_norm.scale", lambda _: None),
            r"missing in the state dict: final_norm\.scale\.",
        ),
        (
            functools.partial(replace_tensor, "blocks.7.extra", lambda _: torch.ones(1)),
            r"unexpected in the state dict: blocks\.7\.extra\.",
        ),
        (
            functools.partial(replace_tensor, "output_head.weight", lambda _: torch.ones(19, 12)),
            "output_head.weight differs from token_embedding.weight",
        ),
        (
            functools.partial(replace_tensor, "token_embedding.weight", lambda t: t.long()),
            "token_embedding.weight has dtype torch.int64",
        ),
    ],
)
def test_a_damaged_folder_is_named(tmp_path, damage, message):
    save_pretrained(small(), tmp_path)
    damage(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        load_pretrained(tmp_path)
    assert str(tmp_path) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_missing_file_is_named(tmp_path, name):
    save_pretrained(small(), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"there is no {name} in this folder"):
        load_pretrained(tmp_path)


def test_a_missing_folder_and_an_unknown_name_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path / "nothing", "./runs/nothing", tmp_path.joinpath("x") / "gpt2"):
        with pytest.raises(FileNotFoundError, match="there is no such folder"):
            load_pretrained(folder)
    with pytest.raises(ValueError, match=r"name_or_dir='gtp2' is unknown\. Did you mean.*'gpt2'"):
        load_pretrained("gtp2")


def test_a_folder_by_its_bare_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_pretrained(small(), "mine")
    assert load_pretrained("mine").config == SMALL


def test_a_model_of_the_package_loads_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MODELS", tmp_path)
    model = small()
    save_pretrained(model, tmp_path / "tiny-1k", dtype=torch.float16)
    loaded = GPT.from_pretrained("tiny-1k")
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor.half().float())
    with pytest.raises(ValueError, match="Allowed: gpt2, gpt2-xl, tiny-1k"):
        load_pretrained("tiny")


def test_a_tokenizer_loads_by_name_or_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MODELS", tmp_path)
    monkeypatch.chdir(tmp_path)
    tokenizer = BPETokenizer.train("low lower lowest", 260)
    save_pretrained(small(vocab_size=260), tmp_path / "tiny-1k", tokenizer)
    assert load_tokenizer("tiny-1k").merges == tokenizer.merges
    save_pretrained(small(), tmp_path / "bare")
    for folder in (tmp_path / "bare", "bare", tmp_path / "nothing", "./nothing"):
        with pytest.raises(FileNotFoundError, match=r"there is no tokenizer\.json"):
            load_tokenizer(folder)
    with pytest.raises(ValueError, match=r"name_or_dir='tiny-2k' is unknown.*'tiny-1k'"):
        load_tokenizer("tiny-2k")


# Downloads, from a server on this machine


class Server:
    """Serves ``files`` (a path without its first slash: bytes) and keeps the paths asked for."""

    def __init__(self):
        self.files, self.asked = {}, []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                outer.asked.append(self.path)
                content = outer.files.get(self.path.removeprefix("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"


@pytest.fixture
def server(monkeypatch, tmp_path):
    server = Server()
    thread = threading.Thread(target=server.http.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("COURSE_WEIGHTS_URL", server.url + "/")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "127.0.0.1")
    monkeypatch.setattr("pooch.os_cache", lambda project: tmp_path / "cache" / project)
    yield server
    with contextlib.suppress(OSError):
        server.http.shutdown()
        server.http.server_close()


@pytest.fixture
def published(server, monkeypatch):
    """A model published as "tiny-gpt2" in HuggingFace's format, and where its file lies."""
    model = moved(GPT(GPTConfig.preset("story-1m")), by=0.01)
    tensors = to_huggingface(model.state_dict())
    del tensors["lm_head.weight"]
    content = safetensors.torch.save(tensors)
    path = "openai-community/tiny-gpt2/resolve/abc/model.safetensors"
    server.files[path] = content
    download = weights._Download("story-1m", "abc", hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(weights._DOWNLOADS, "tiny-gpt2", download)
    return model, path


def test_a_download_is_checked_kept_and_not_repeated(server, published, tmp_path):
    model, path = published
    for _ in range(2):
        loaded = GPT.from_pretrained("tiny-gpt2")
        assert_same_state(loaded.state_dict(), model.state_dict())
        assert loaded.output_head.weight is loaded.token_embedding.weight
    assert server.asked == [f"/{path}"]
    cached = tmp_path / "cache" / "course_pkg" / "tiny-gpt2.safetensors"
    cached.write_bytes(b"damaged")  # by another program; it is fetched again
    assert_same_state(GPT.from_pretrained("tiny-gpt2").state_dict(), model.state_dict())
    assert len(server.asked) == 2


ADVICE = r"Without a network, copy a folder .* or set COURSE_WEIGHTS_URL to a server"


def test_a_file_that_is_another_one_is_refused_and_not_kept(server, published, tmp_path):
    _, path = published
    server.files[path] = server.files[path][:-1] + b"?"
    with pytest.raises(FileNotFoundError, match=rf"is another one, by its SHA-256.*{ADVICE}"):
        load_pretrained("tiny-gpt2")
    assert list((tmp_path / "cache").rglob("*.safetensors")) == []


@pytest.mark.parametrize("name", ["gpt2", "gpt2-xl"])
def test_a_file_that_is_not_there_is_said(server, name):
    with pytest.raises(FileNotFoundError, match=rf"the server answered 404.*{ADVICE}"):
        load_pretrained(name)
    revision = weights._DOWNLOADS[name].revision
    assert server.asked == [f"/openai-community/{name}/resolve/{revision}/model.safetensors"]


def test_a_server_that_is_gone_is_said(server):
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(FileNotFoundError, match=rf"ConnectionError: no connection.*{ADVICE}") as e:
        load_pretrained("gpt2")
    assert server.url in str(e.value) and "\n" not in str(e.value)


def test_an_address_that_is_none_is_said(server, monkeypatch):
    monkeypatch.setenv("COURSE_WEIGHTS_URL", "the mirror")
    with pytest.raises(
        FileNotFoundError, match=rf"could not be downloaded from the mirror/.*{ADVICE}"
    ):
        load_pretrained("gpt2")


def test_pins_are_full_hashes_of_known_shapes():
    for download in weights._DOWNLOADS.values():
        assert len(bytes.fromhex(download.sha256)) == 32
        assert len(bytes.fromhex(download.revision)) == 20
        assert GPTConfig.preset(download.preset).vocab_size == 50257
