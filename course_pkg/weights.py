"""Trained weights: to and from folders, from the network, and from other implementations."""

import dataclasses
import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from course_pkg import files
from course_pkg.config import GPTConfig
from course_pkg.errors import unknown_name
from course_pkg.files import atomic_write, packaged_models
from course_pkg.gpt import GPT
from course_pkg.tokenizer import BPETokenizer

_CONFIG, _WEIGHTS, _TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"

AnyGPT = TypeVar("AnyGPT", bound=GPT)


# Folders and names


def save_pretrained(
    model: GPT,
    folder: str | os.PathLike[str],
    tokenizer: BPETokenizer | None = None,
    dtype: torch.dtype = torch.float32,
) -> None:
    """Write what ``load_pretrained`` reads: config.json, model.safetensors, tokenizer.json.

    Each file is replaced in one step. A tied output head is stored once.

    Args:
        model: from which the weights and ``config`` are taken.
        folder: made if it is not there.
        tokenizer: written beside the model if given.
        dtype: of the weights on disk; ``torch.float16`` halves the file.

    Raises:
        ValueError: ``dtype`` is no floating type or too small for a weight, or the tokenizer has
            ids that the model does not.
        OSError: the folder cannot be written, or the disk is full.
    """
    if not dtype.is_floating_point:
        raise ValueError(f"dtype={dtype} is not allowed: it must be a floating type.")
    if tokenizer is not None and tokenizer.vocab_size > model.config.vocab_size:
        raise ValueError(
            f"tokenizer has {tokenizer.vocab_size} ids: at most the model's vocab_size="
            f"{model.config.vocab_size} are allowed."
        )
    tensors = {}
    for name, tensor in model.state_dict().items():
        if name == "output_head.weight" and model.config.tie_weights:
            continue
        tensors[name] = tensor.detach().cpu().to(dtype).contiguous()
        if not torch.equal(tensors[name].isfinite(), tensor.detach().cpu().isfinite()):
            raise ValueError(f"{name} has a value that is too large for dtype={dtype}.")
    folder = Path(folder)
    with atomic_write(folder / _WEIGHTS, "wb") as file:
        file.write(safetensors.torch.save(tensors, metadata={"format": "pt"}))
    if tokenizer is not None:
        tokenizer.save(folder / _TOKENIZER)
    with atomic_write(folder / _CONFIG) as file:
        json.dump(model.config.to_dict(), file, indent=2)
        file.write("\n")


def load_pretrained(
    name_or_dir: str | os.PathLike[str],
    model_class: type[AnyGPT] = GPT,  # type: ignore[assignment]
) -> AnyGPT:
    """A trained model in float32 on the CPU, in eval mode.

    ``name_or_dir`` is one of

    - a model that comes with this package: ``"story-1m"``;
    - ``"gpt2"`` or ``"gpt2-xl"`` (Radford et al. 2019), downloaded once from a pinned revision,
      checked by its SHA-256 hash and kept in the user's cache; another server with the same
      paths can be set in the environment as ``COURSE_WEIGHTS_URL``;
    - a folder written by ``save_pretrained``;
    - a folder of a GPT-2 in HuggingFace's layout, with config.json and model.safetensors.

    A name wins over a folder of the same name; ``./gpt2`` is always the folder.

    Args:
        name_or_dir: a name or a folder.
        model_class: what is built, from a ``GPTConfig``.

    Raises:
        FileNotFoundError: a folder or file is not there, or a download failed; the message says
            what to do without a network.
        ValueError: the name is unknown, a file is damaged, the model is not a GPT-2, or a tensor
            is missing, unexpected or of another shape; the message names it.
    """
    given = os.fspath(name_or_dir)
    if isinstance(name_or_dir, str):
        if given in _DOWNLOADS:
            config = GPTConfig.preset(_DOWNLOADS[given].preset)
            return _load_huggingface(model_class, config, _download(given))
        if given in packaged_models():
            return _load_folder(model_class, files.MODELS / given)
    folder = Path(given)
    if folder.is_dir():
        return _load_folder(model_class, folder)
    if isinstance(name_or_dir, str) and folder.name == given:
        raise unknown_name("name_or_dir", given, [*_DOWNLOADS, *packaged_models()])
    raise FileNotFoundError(f"{folder}: there is no such folder.")


def load_tokenizer(name_or_dir: str | os.PathLike[str]) -> BPETokenizer:
    """The tokenizer beside a model: of one that comes with this package, or of a folder.

    Raises:
        FileNotFoundError: the folder, or the tokenizer in it, is not there.
        ValueError: the name is unknown, or the file is damaged.
    """
    given = os.fspath(name_or_dir)
    embedded = isinstance(name_or_dir, str) and given in packaged_models()
    folder = files.MODELS / given if embedded else Path(given)
    if (folder / _TOKENIZER).is_file():
        return BPETokenizer.load(folder / _TOKENIZER)
    if isinstance(name_or_dir, str) and folder.name == given and not folder.is_dir():
        raise unknown_name("name_or_dir", given, packaged_models())
    raise FileNotFoundError(f"{folder}: there is no {_TOKENIZER} in this folder.")


def _load_folder(model_class: type[AnyGPT], folder: Path) -> AnyGPT:
    config_file, weights_file = folder / _CONFIG, folder / _WEIGHTS
    for file in (config_file, weights_file):
        if not file.is_file():
            raise FileNotFoundError(f"{folder}: there is no {file.name} in this folder.")
    try:
        values = json.loads(config_file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{config_file}: the file is not JSON ({error}).") from error
    if not isinstance(values, dict):
        raise ValueError(f"{config_file}: the file holds no JSON object.")
    try:
        huggingface = "n_embd" in values
        config = _config_from_huggingface(values) if huggingface else GPTConfig.from_dict(values)
    except ValueError as error:
        raise ValueError(f"{config_file}: {error}") from error
    if huggingface:
        return _load_huggingface(model_class, config, weights_file)
    return _build(model_class, config, _read(weights_file), weights_file)


def _load_huggingface(model_class: type[AnyGPT], config: GPTConfig, file: Path) -> AnyGPT:
    tensors = _read(file)
    try:
        if not config.tie_weights and "lm_head.weight" not in tensors:
            raise ValueError("lm_head.weight is missing, although tie_word_embeddings is false.")
        state_dict = from_huggingface(tensors)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    return _build(model_class, config, state_dict, file)


def _read(file: Path) -> dict[str, Tensor]:
    """All tensors of a safetensors file, copied: the file can be replaced afterwards."""
    try:
        with safetensors.safe_open(file, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    except safetensors.SafetensorError as error:
        raise ValueError(f"{file}: the file is damaged or not safetensors ({error}).") from error
    return {
        name: tensor.to(torch.float32, copy=True) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }


def _build(
    model_class: type[AnyGPT], config: GPTConfig, state_dict: dict[str, Tensor], file: Path
) -> AnyGPT:
    with torch.device("meta"):  # shapes only: nothing is initialised that is overwritten below
        model = model_class(config)
    table = state_dict.get("token_embedding.weight")
    if config.tie_weights and table is not None:
        state_dict.setdefault("output_head.weight", table)
    try:
        shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        _require_tensors(state_dict, shapes)
        head = state_dict["output_head.weight"]
        if config.tie_weights and not torch.equal(head, state_dict["token_embedding.weight"]):
            raise ValueError(
                "output_head.weight differs from token_embedding.weight, although tie_weights=True."
            )
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    model.load_state_dict(state_dict, assign=True)
    if config.tie_weights:
        model.output_head.weight = model.token_embedding.weight
    return model.eval()


# HuggingFace's names for what GPTConfig has, and its settings that GPTConfig has not, with the
# values that GPT-2 and this package have. A setting that is not in the file has its default there,
# which is the first.
_HUGGINGFACE_SIZES = {
    "vocab_size": "vocab_size",
    "context_length": "n_positions",
    "d_model": "n_embd",
    "num_heads": "n_head",
    "num_layers": "n_layer",
}
_HUGGINGFACE_FIXED: Mapping[str, tuple[Any, ...]] = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh", "gelu"),
    "layer_norm_epsilon": (1e-5,),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
}


def _config_from_huggingface(values: Mapping[str, Any]) -> GPTConfig:
    missing = [theirs for theirs in _HUGGINGFACE_SIZES.values() if theirs not in values]
    if missing:
        raise ValueError(f"{', '.join(missing)} is missing.")
    for name, allowed in _HUGGINGFACE_FIXED.items():
        if values.get(name, allowed[0]) not in allowed:
            choice = " or ".join(repr(value) for value in allowed)
            raise ValueError(f"{name}={values[name]!r} is not GPT-2's: it must be {choice}.")
    if values.get("n_inner") not in (None, 4 * values["n_embd"]):
        raise ValueError(
            f"n_inner={values['n_inner']!r} is not GPT-2's: it must be 4 * n_embd="
            f"{4 * values['n_embd']}."
        )
    dropouts = {values.get(name, 0.1) for name in ("embd_pdrop", "attn_pdrop", "resid_pdrop")}
    if len(dropouts) > 1:
        raise ValueError("embd_pdrop, attn_pdrop and resid_pdrop differ: they must be one value.")
    return GPTConfig(
        **{ours: values[theirs] for ours, theirs in _HUGGINGFACE_SIZES.items()},
        dropout=dropouts.pop(),
        qkv_bias=True,
        tie_weights=values.get("tie_word_embeddings", True),
        exact_gelu=values.get("activation_function") == "gelu",
    )


# Downloads


@dataclasses.dataclass(frozen=True)
class _Download:
    """A file of huggingface.co/openai-community, pinned."""

    preset: str
    revision: str
    sha256: str


# A size is here only if its hash was found published by several independent parties.
_DOWNLOADS: Mapping[str, _Download] = {
    "gpt2": _Download(
        preset="gpt2-small",
        revision="607a30d783dfa663caf39e06633721c8d4cfcd7e",
        sha256="248dfc3911869ec493c76e65bf2fcf7f615828b0254c12b473182f0f81d3a707",
    ),
    "gpt2-xl": _Download(
        preset="gpt2-xl",
        revision="15ea56dee5df4983c59b2538573817e1667135e2",
        sha256="0f8b28eb05a8075f48b61b6f35332978c74fc7763fa9fb4051a1c30511736a6a",
    ),
}


def _download(name: str) -> Path:
    import pooch  # its import takes longer than most readers of this module will need it

    download = _DOWNLOADS[name]
    server = os.environ.get("COURSE_WEIGHTS_URL", "https://huggingface.co").rstrip("/")
    url = f"{server}/openai-community/{name}/resolve/{download.revision}/{_WEIGHTS}"
    folder = Path(pooch.os_cache("course_pkg"))
    try:
        file = pooch.retrieve(
            url, f"sha256:{download.sha256}", fname=f"{name}.safetensors", path=folder
        )
    except (ValueError, OSError) as error:  # requests' errors are OSErrors
        response = getattr(error, "response", None)
        if response is not None:
            reason = f"the server answered {response.status_code}"
        elif isinstance(error, OSError):
            reason = f"{type(error).__name__}: no connection, or no room in {folder}"
        else:
            reason = "the file there is another one, by its SHA-256 hash or address"
        raise FileNotFoundError(
            f"{name!r} could not be downloaded from {url} ({reason}). Without a network, copy a "
            f"folder with its config.json and {_WEIGHTS} to this machine and give that folder "
            "instead of the name, or set COURSE_WEIGHTS_URL to a server that has the same paths."
        ) from error
    return Path(file)


# Other implementations' layouts


def from_huggingface(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of ``transformers.GPT2LMHeadModel``, or of its ``GPT2Model``, in our layout.

    Names may begin with ``transformer.`` or not. Weights of its ``Conv1D`` are transposed, the
    fused query, key and value projection is split in three, the mask buffers are dropped, and a
    head that is not there is the token embedding (weight tying). The result fits a ``GPT`` of
    the same sizes with ``qkv_bias=True``; the number of heads is not in a state dict.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names it.
    """
    return _convert(state_dict, _HUGGINGFACE)


def to_huggingface(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``from_huggingface``: a ``GPT``'s state dict for ``GPT2LMHeadModel``.

    Missing biases of the query, key and value projections become zeros, for HuggingFace's model
    always has them.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names it.
    """
    ours = _complete(state_dict, _OURS)
    result = {}
    for name, names in _HUGGINGFACE.groups(_our_tensors(ours, _OURS)).items():
        tensor = torch.cat([ours[part].detach() for part in names])  # 3 x (D, D) -> (3D, D)
        if _HUGGINGFACE.stored_transposed(names[0], tensor):
            tensor = tensor.t()  # (out, in) -> (in, out)
        prefix = "" if name == "lm_head.weight" else "transformer."
        result[prefix + name] = tensor.contiguous()
    return result


def from_llms_from_scratch(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of the ``GPTModel`` of Raschka 2024 (LLMs-from-scratch) in our layout.

    Its mask buffers are dropped. Its output head is a parameter of its own, so the result is for
    a ``GPT`` with ``tie_weights=False`` unless the head equals the token embedding.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names it.
    """
    return _convert(state_dict, _LLMS_FROM_SCRATCH)


def from_nanogpt(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict of nanoGPT's ``GPT`` (Karpathy 2022): ``checkpoint["model"]``, in our layout.

    The ``_orig_mod.`` of a compiled model is taken off the names. A model trained with
    ``bias=False`` gets zeros for the biases and shifts it has not. The result fits a ``GPT`` of
    the same sizes with ``qkv_bias=True`` and ``exact_gelu=True``.

    Raises:
        ValueError: a tensor is missing, unexpected or of another shape; the message names it.
    """
    return _convert(state_dict, _NANOGPT)


@dataclasses.dataclass(frozen=True)
class _Layout:
    """How an implementation names a GPT-2's tensors, and how it stores them.

    Attributes:
        renames: parts of our names and what stands for them there, replaced in this order. Our
            tensors that get the same name are one there, stacked along the output axis.
        transposed: whether the linear layers inside the blocks are stored (in, out).
        buffers: pattern of their names that are no parameters.
        tied_head: whether a missing output head is the token embedding.
        optional: pattern of those of our names that may be missing, all of them or none.
        fill: whether zeros stand for missing optional tensors; else they are left out.
    """

    renames: tuple[tuple[str, str], ...] = ()
    transposed: bool = False
    buffers: str = "(?!)"
    tied_head: bool = True
    optional: str = "(?!)"
    fill: bool = True

    def rename(self, name: str) -> str:
        for ours, theirs in self.renames:
            name = name.replace(ours, theirs)
        return name

    def groups(self, names: Iterable[str]) -> dict[str, list[str]]:
        """Their names, each with the one or more of ours that it stands for, in our order."""
        groups: dict[str, list[str]] = {}
        for name in names:
            groups.setdefault(self.rename(name), []).append(name)
        return groups

    def stored_transposed(self, name: str, tensor: Tensor) -> bool:
        return self.transposed and name.startswith("blocks.") and tensor.ndim == 2


_QKV_BIAS = r"attention\.W_(query|key|value)\.bias$"

_OURS = _Layout(optional=_QKV_BIAS)

_LLMS_FROM_SCRATCH = _Layout(
    renames=(
        ("token_embedding", "tok_emb"),
        ("position_embedding", "pos_emb"),
        ("blocks.", "trf_blocks."),
        ("attention.", "att."),
        ("feed_forward.", "ff."),
        ("output_head", "out_head"),
    ),
    buffers=r"\.att\.mask$",
    tied_head=False,
    optional=_QKV_BIAS,
    fill=False,
)

_HUGGINGFACE = _Layout(
    renames=(
        ("token_embedding", "wte"),
        ("position_embedding", "wpe"),
        ("blocks.", "h."),
        ("norm1.scale", "ln_1.weight"),
        ("norm1.shift", "ln_1.bias"),
        ("attention.W_query", "attn.c_attn"),
        ("attention.W_key", "attn.c_attn"),
        ("attention.W_value", "attn.c_attn"),
        ("attention.out_proj", "attn.c_proj"),
        ("norm2.scale", "ln_2.weight"),
        ("norm2.shift", "ln_2.bias"),
        ("feed_forward.layers.0", "mlp.c_fc"),
        ("feed_forward.layers.2", "mlp.c_proj"),
        ("final_norm.scale", "ln_f.weight"),
        ("final_norm.shift", "ln_f.bias"),
        ("output_head", "lm_head"),
    ),
    transposed=True,
    buffers=r"\.attn\.(masked_)?bias$",
)

_NANOGPT = dataclasses.replace(_HUGGINGFACE, transposed=False, optional=r"\.(bias|shift)$")


def _convert(state_dict: Mapping[str, Tensor], layout: _Layout) -> dict[str, Tensor]:
    given = _complete(state_dict, layout)
    result = {}
    for name, names in layout.groups(_our_tensors(given, layout)).items():
        if name not in given:
            continue  # optional and left out
        tensor = given[name].detach()
        if layout.stored_transposed(names[0], tensor):
            tensor = tensor.t()  # (in, out) -> (out, in)
        for ours, part in zip(names, tensor.chunk(len(names)), strict=True):
            result[ours] = part.contiguous()
    return result


def _complete(state_dict: Mapping[str, Tensor], layout: _Layout) -> dict[str, Tensor]:
    """The parameters among ``state_dict``, with what may be missing, each of the right shape."""
    given = {}
    for name, tensor in state_dict.items():
        if not re.search(layout.buffers, name):
            given[name.removeprefix("_orig_mod.").removeprefix("transformer.")] = tensor
    ours = _our_tensors(given, layout)
    table = given[layout.rename("token_embedding.weight")]
    if layout.tied_head:
        given.setdefault(layout.rename("output_head.weight"), table)
    expected, optional = {}, set()
    for name, names in layout.groups(ours).items():
        first = ours[names[0]]
        shape = (len(names) * first.shape[0], *first.shape[1:])
        expected[name] = shape[::-1] if layout.stored_transposed(names[0], first) else shape
        if re.search(layout.optional, names[0]):
            optional.add(name)
    if not optional & given.keys():
        for name in optional:
            shape = expected.pop(name)
            if layout.fill:
                expected[name] = shape
                given[name] = table.new_zeros(shape)
    _require_tensors(given, expected)
    return given


def _our_tensors(given: Mapping[str, Tensor], layout: _Layout) -> dict[str, Tensor]:
    """Our state dict of the same sizes, without values (on the meta device)."""
    sizes = []
    for name in ("token_embedding.weight", "position_embedding.weight"):
        table = given.get(layout.rename(name))
        if table is None:
            raise ValueError(f"{layout.rename(name)} is missing.")
        if table.ndim != 2:
            raise ValueError(
                f"{layout.rename(name)} has shape {tuple(table.shape)}: it must have two axes."
            )
        sizes.append(table.shape)
    (vocab_size, d_model), (context_length, _) = sizes
    block = re.compile(re.escape(layout.rename("blocks.")) + r"(\d+)\.")
    layers = {match[1] for name in given if (match := block.match(name))}
    config = GPTConfig(
        vocab_size=vocab_size,
        context_length=context_length,
        d_model=d_model,
        num_heads=1,  # has no influence on any shape
        num_layers=max(1, len(layers)),
        qkv_bias=True,
        tie_weights=False,
    )
    with torch.device("meta"):
        return GPT(config).state_dict()


def _require_tensors(given: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]) -> None:
    missing = [name for name in expected if name not in given]
    unexpected = [name for name in given if name not in expected]
    for names, problem in ((missing, "missing"), (unexpected, "unexpected")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(f"{problem} in the state dict: {', '.join(names[:3])}{more}.")
    for name, shape in expected.items():
        if tuple(given[name].shape) != shape:
            raise ValueError(f"{name} has shape {tuple(given[name].shape)}: it must be {shape}.")
        if not given[name].is_floating_point():
            raise ValueError(f"{name} has dtype {given[name].dtype}: it must be a floating type.")
