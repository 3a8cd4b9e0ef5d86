"""A ribbon of the shapes that a tensor has on its way through a module, taken from a run.

Nothing of it is typed: the module runs on an example whose axes all have different sizes, each
function and each part that it calls is observed, and sizes are turned back into letters.
"""

import contextlib
import inspect
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from html import escape
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

Made = TypeVar("Made")

# Functions that are written as signs, under the names that PyTorch gives them.
_SIGNS = {
    "add": "+",
    "radd": "+",
    "iadd": "+",
    "sub": "−",
    "rsub": "−",
    "isub": "−",
    "mul": "×",
    "rmul": "×",
    "imul": "×",
    "div": "/",
    "truediv": "/",
    "rdiv": "/",
    "rtruediv": "/",
    "itruediv": "/",
    "matmul": "@",
    "rmatmul": "@",
    "getitem": "[ ]",
}
# Their children are shown, and not they themselves.
_TRANSPARENT = (nn.Sequential,)

_STYLE = (
    ".shape-ribbon ol{display:flex;flex-wrap:wrap;gap:.6em 0;list-style:none;margin:0;padding:0}"
    ".shape-ribbon li{display:flex;flex-direction:column;justify-content:flex-end;margin:0;"
    "padding-left:1.7em;position:relative}"
    ".shape-ribbon li:first-child{padding-left:0}"
    # The second value has no words for a screen reader; a browser that cannot read it keeps the
    # first.
    ".shape-ribbon li+li::before{bottom:0;content:'→';content:'→'/'';left:.4em;position:absolute}"
    ".shape-ribbon .step{font-size:.8em;max-width:16em}"
    ".shape-ribbon .shape,.shape-ribbon .step span{white-space:nowrap}"
    ".shape-ribbon .shape{font-family:monospace;font-weight:bold}"
    ".shape-ribbon p{font-size:.8em;margin:.5em 0 0}"
)


class Ribbon:
    """Shapes in their order, each with what gave it.

    ``steps`` is a tuple of (labels, shape): for the first the name of the input, for the others
    what was called, in its order. A shape is a tuple of letters. A notebook shows the ribbon as
    HTML, a terminal as text.
    """

    def __init__(
        self,
        title: str,
        steps: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...],
        sizes: Mapping[str, int],
    ) -> None:
        self.title, self.steps, self.sizes = title, steps, dict(sizes)

    @property
    def shapes(self) -> tuple[tuple[str, ...], ...]:
        return tuple(shape for _, shape in self.steps)

    def _note(self) -> str:
        sizes = ", ".join(f"{letter} = {size}" for letter, size in self.sizes.items())
        return f"in a run with {sizes}"

    def __repr__(self) -> str:
        width = max(len(_written(shape)) for shape in self.shapes)
        lines = [f"Shapes in {self.title}, {self._note()}"]
        lines += [
            f"{'→' if i else ' '} {_written(shape):<{width}}  {' · '.join(labels)}"
            for i, (labels, shape) in enumerate(self.steps)
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        items = "".join(
            '<li><span class="step">'
            # A dot begins a line rather than end one.
            + " ".join(f"<span>{'· ' * (i > 0)}{escape(x)}</span>" for i, x in enumerate(labels))
            + f'</span> <span class="shape">{escape(_written(shape))}</span></li>'
            for labels, shape in self.steps
        )
        title = escape(self.title)
        return (
            f'<div class="shape-ribbon"><style>{_STYLE}</style>'
            f'<ol role="list" aria-label="Shapes in {title}">{items}</ol>'
            f"<p>Shapes in {title}, {escape(self._note())}</p></div>"
        )


def _written(shape: tuple[str, ...]) -> str:
    return f"({', '.join(shape)})"


def example(make: Callable[..., Made], *args: Any, **kwargs: Any) -> Made:
    """``make(*args, **kwargs)`` without a draw from the page's own random numbers."""
    with torch.random.fork_rng(devices=[]):
        return make(*args, **kwargs)


def ribbon(
    module: Callable[..., Any],
    inputs: Tensor | tuple[Tensor, ...],
    names: Mapping[str, int],
    title: str | None = None,
) -> Ribbon:
    """Run ``module`` on ``inputs`` and show the shapes between the input and the output.

    Seen are the functions that the module calls itself, and its parts as one step each; what a part
    does inside is not shown. Of several ways to the output the ribbon takes the one through the
    first operand, but never a shortcut around others, such as a residual connection. Operands of
    another shape are named beside the function, and parts that turn the same input into the same
    shape (queries, keys, values) share a step. Functions that keep the shape are added to the step
    before them. The global random numbers and the module's mode stay as they are.

    Args:
        module: a module, or a function of tensors.
        inputs: what it is called with.
        names: letter -> size; all sizes above 1 and different. A letter may be a product such as
            ``"4D"`` or ``"B * T"``. Axes of size 1 are written as 1.
        title: what the ribbon is called; the module's class unless given.

    Raises:
        ValueError: a size is no whole number above 1; two letters have the same size; a product has
            not the size of its factors; a shape has a size without a letter; a letter occurs in no
            shape; the output does not come from an input.
    """
    letters = _letters(names)
    given = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    label = type(module).__name__ if isinstance(module, nn.Module) else _name_of(module)
    title = label if title is None else title
    recorder = _Recorder(module, given)
    with torch.no_grad(), torch.random.fork_rng(devices=[]), recorder:
        output = module(*given)
    path = _path(recorder.node_of(output), title)
    steps = list(_steps(path, letters, recorder))
    _require_all_used(names, [*recorder.shown, *(node.shape for node in path)], letters)
    return Ribbon(title, tuple((tuple(labels), shape) for labels, shape in steps), names)


def _name_of(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)


def _letters(names: Mapping[str, int]) -> dict[int, str]:
    """Size -> letter. Raises ValueError when ``names`` is not one-to-one or contradicts itself."""
    letters: dict[int, str] = {}
    for letter, size in names.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 2:
            raise ValueError(f"names: {letter} is {size!r}: it must be a whole number above 1.")
        if size in letters:
            raise ValueError(
                f"names: {letters[size]} and {letter} are both {size}, so an axis of {size} could "
                "be either. Choose an example in which all sizes differ."
            )
        letters[size] = letter
    for product, size in names.items():
        factors = re.fullmatch(r"(\d+)?\s*(\w+(?:\s*[*·]\s*\w+)*)", product)
        if factors is None or (factors[1] is None and not re.search(r"[*·]", product)):
            continue
        parts = [part.strip() for part in re.split(r"[*·]", factors[2])]
        if all(part in names for part in parts):
            right = int(factors[1] or 1) * math.prod(names[part] for part in parts)
            if right != size:
                known = " and ".join(f"{part} is {names[part]}" for part in dict.fromkeys(parts))
                raise ValueError(f"names: {product} is {size}, but {known}: it must be {right}.")
    return letters


def _named(shape: tuple[int, ...], letters: Mapping[int, str], where: str) -> tuple[str, ...]:
    for size in shape:
        if size != 1 and size not in letters:
            known = ", ".join(f"{letter} = {size}" for size, letter in letters.items())
            raise ValueError(
                f"names has no letter for the size {size} of {where}, a tensor of shape {shape}. "
                f"It has {known}."
            )
    return tuple("1" if size == 1 else letters[size] for size in shape)


def _require_all_used(
    names: Mapping[str, int], shapes: list[tuple[int, ...]], letters: Mapping[int, str]
) -> None:
    seen = {size for shape in shapes for size in shape}
    for size, letter in letters.items():
        factor = any(
            letter in re.findall(r"[A-Za-z_]\w*", other) for other in names if other != letter
        )
        if size not in seen and not factor:
            raise ValueError(f"names: {letter} = {size} occurs in no shape of this run.")


# What happens in a run


class _Node:
    """A tensor, with what gave it and from what."""

    def __init__(self, kind: str, label: str, tensor: Tensor, parents: "list[_Node]") -> None:
        self.kind, self.label, self.parents = kind, label, parents
        self.shape = tuple(tensor.shape)
        self.from_input: bool = kind == "input" or any(node.from_input for node in parents)

    def ancestors(self) -> "set[_Node]":
        found: set[_Node] = set()
        waiting = list(self.parents)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += node.parents
        return found


class _Recorder(TorchFunctionMode):
    """Notes each function and each part that a module calls, but not what happens in a part."""

    def __init__(self, module: Callable[..., Any], inputs: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.root = module
        self.names = (
            {part: name for name, part in module.named_modules()}
            if isinstance(module, nn.Module)
            else {}
        )
        self.inside: list[bool] = []  # for each module that runs: whether it hides what it calls
        self.nodes: list[_Node] = []
        self.by_tensor: dict[int, _Node] = {}
        self.kept: list[Tensor] = []  # an id is a tensor's own only while the tensor lives
        self.shown: list[tuple[int, ...]] = []
        for name, tensor in zip(_parameters(module), inputs, strict=False):
            self._add(_Node("input", name, tensor, []), tensor)

    def __enter__(self) -> "_Recorder":
        self.hooks = [
            register_module_forward_pre_hook(self._before),
            register_module_forward_hook(self._after, with_kwargs=True),
        ]
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        for hook in self.hooks:
            hook.remove()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if any(self.inside):
            return func(*args, **kwargs)
        parents = self._parents((args, kwargs))
        out = func(*args, **kwargs)
        name = func.__name__
        if name == "__get__":  # an attribute, such as x.T
            name = func.__self__.__name__
        name = name.strip("_")
        self._note("function", _SIGNS.get(name, name), parents, out)
        return out

    def _before(self, module: nn.Module, args: Any) -> None:
        is_root = module is self.root and not self.inside
        self.inside.append(not is_root and not isinstance(module, _TRANSPARENT))

    def _after(self, module: nn.Module, args: Any, kwargs: Any, out: Any) -> None:
        if self.inside.pop() and not any(self.inside):
            last = self.names.get(module, "").rpartition(".")[2]
            label = type(module).__name__ if not last or last.isdigit() else last
            kind = "dropout" if isinstance(module, nn.Dropout) else "module"
            self._note(kind, label, self._parents((args, kwargs)), out)

    def _parents(self, given: Any) -> list[_Node]:
        return [self.node_of(leaf) for leaf in tree_leaves(given) if isinstance(leaf, Tensor)]

    def _note(self, kind: str, label: str, parents: list[_Node], out: Any) -> None:
        for leaf in tree_leaves(out):
            if isinstance(leaf, Tensor):
                self._add(_Node(kind, label, leaf, parents), leaf)

    def _add(self, node: _Node, tensor: Tensor) -> None:
        self.nodes.append(node)
        self.by_tensor[id(tensor)] = node
        self.kept.append(tensor)

    def node_of(self, value: Any) -> _Node:
        """The node of a tensor, or of the first tensor in a structure."""
        for leaf in tree_leaves(value):
            if isinstance(leaf, Tensor):
                return self.by_tensor.get(id(leaf)) or _Node("other", "", leaf, [])
        raise ValueError(f"module returned {type(value).__name__}, which holds no tensor.")


def _parameters(module: Callable[..., Any]) -> Iterator[str]:
    """Names for the inputs: those of the function's parameters where it tells them."""
    function = module.forward if isinstance(module, nn.Module) else module
    with contextlib.suppress(TypeError, ValueError):
        yield from inspect.signature(function).parameters
    yield from itertools.repeat("input")


def _path(end: _Node, title: str) -> list[_Node]:
    """From an input to ``end``; around no step by a shortcut."""
    path = [end]
    while path[-1].kind != "input":
        ways = [parent for parent in path[-1].parents if parent.from_input]
        if not ways:
            raise ValueError(f"the output of {title} does not come from an input that was given.")
        passed = set().union(*(way.ancestors() for way in ways))
        path.append(next(way for way in ways if way not in passed))
    return path[::-1]


def _steps(
    path: list[_Node], letters: Mapping[int, str], recorder: _Recorder
) -> Iterator[tuple[list[str], tuple[str, ...]]]:
    """(labels, letters) of each step that the ribbon shows."""
    start = path[0]
    labels, shape = [start.label], start.shape
    times, part = 1, ""
    for before, node in itertools.pairwise(path):
        words = [_label(node, before, letters, recorder)]
        if node.kind != "module" and node.shape == shape and before is not start:
            labels += words
            part = ""
            continue
        if node.kind == "module" and part == node.label and node.shape == shape:
            times += 1
            labels = [_times(part, times)]
            continue
        yield labels, _named(shape, letters, labels[-1])
        labels, shape = words, node.shape
        times, part = 1, node.label if node.kind == "module" else ""
    yield labels, _named(shape, letters, labels[-1])


def _times(name: str, times: int) -> str:
    return name if times == 1 else f"{name} ({times} times)"


def _label(node: _Node, before: _Node, letters: Mapping[int, str], recorder: _Recorder) -> str:
    if node.kind == "module":
        twins = Counter(
            other.label
            for other in recorder.nodes
            if other.kind == "module"
            and other.parents == node.parents
            and other.shape == node.shape
        )
        return ", ".join(_times(name, times) for name, times in twins.items())
    others = [p.shape for p in node.parents if p.shape not in ((), before.shape)]
    recorder.shown += others
    shown = [_written(_named(shape, letters, f"an operand of {node.label}")) for shape in others]
    if not shown:
        return node.label
    return f"{node.label} {'with ' * node.label.isidentifier()}{', '.join(shown)}"
