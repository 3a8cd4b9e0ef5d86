"""What a much larger storyteller thinks of the stories that ``recipe.py compare`` let models tell.

The judge is stories15M (see ``scripts/make_stories.py``), a model with fifteen times as many
parameters and far more reading behind it, whose own stories are the corpus. It gives each story a
loss: low where it would have gone on in the same way. Beside it two things are counted that a
story for children has: a name that comes back, and an end. The same is done for the stories of the
test split, which the judge wrote itself, and for the model that comes with the package.

Needs npm, or the package's file by ``--package``. What it finds is kept in recipe.py's file.
"""

import itertools
import json
import math
import re
import statistics
import struct
import sys
from pathlib import Path
from typing import Any

import click
import common
import recipe
import torch

from course_pkg import END_OF_TEXT, load_corpus, load_pretrained, load_tokenizer

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "scripts"))
import make_stories

Merges = dict[bytes, tuple[float, int]]  # a token's bytes -> its score and its id


def read_merges(data: bytes, pieces: list[bytes]) -> Merges:
    """The tokenizer's scores, which say what is merged first."""
    merges, offset = {}, 4
    for number, piece in enumerate(pieces):
        score, length = struct.unpack_from("<fi", data, offset)
        offset += 8 + length
        # The tokens that stand for single bytes come first, and are for what has no other.
        if number > 258:
            merges.setdefault(piece, (score, number))
    return merges


def encode(text: str, merges: Merges) -> list[int]:
    """Ids as the judge was trained on: of all neighbours the pair with the highest score merges."""
    parts = [character.encode() for character in f" {text}"]
    while True:
        pairs = [
            (merges[a + b][0], -place)
            for place, (a, b) in enumerate(itertools.pairwise(parts))
            if a + b in merges
        ]
        if not pairs:
            break
        place = -max(pairs)[1]
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
    ids = []
    for part in parts:  # 3 + b is the token of the single byte b
        ids += [merges[part][1]] if part in merges else [3 + byte for byte in part]
    return ids


@torch.inference_mode()
def bits_of(judge: make_stories.Llama, stories: list[str], merges: Merges) -> list[float]:
    """Bits per byte of each story, up to the judge's context; its end counts where there is one."""
    bos = make_stories.BOS
    rows = []
    for story in stories:
        ids = encode(story.removesuffix(END_OF_TEXT), merges)
        rows.append([bos, *ids, *([bos] if story.endswith(END_OF_TEXT) else [])])
    length = min(judge.context_length, max(map(len, rows)) - 1)
    padded = torch.tensor([(row + [-1] * length)[: length + 1] for row in rows])  # (B, T + 1)
    cache = judge.new_cache(len(rows))
    nats = torch.zeros(len(rows))
    for place in range(length):
        inputs, targets = padded[:, place].clamp_min(0), padded[:, place + 1]
        log_p = judge.step(inputs, place, cache).log_softmax(-1)  # (B,) -> (B, V)
        log_p = log_p.gather(1, targets.clamp_min(0)[:, None]).squeeze(1)  # (B, V) -> (B,)
        nats -= torch.where(targets >= 0, log_p, 0.0)
    # A story that is longer than the context: as many bytes as its part of the tokens.
    sizes = [
        len(story.removesuffix(END_OF_TEXT).encode()) * min(1.0, length / (len(row) - 1))
        for story, row in zip(stories, rows, strict=True)
    ]
    return (nats / torch.tensor(sizes) / math.log(2)).tolist()


def has_name(story: str) -> bool:
    """Whether a capitalised word that begins no sentence stands there twice or more."""
    names = re.findall(r"(?<=[a-z,] )[A-Z][a-z]+", story)
    return any(names.count(name) > 1 for name in names)


def report(stories: list[str], bits: list[float]) -> dict[str, Any]:
    return {
        "stories": len(stories),
        "judged_bits_per_byte": round(statistics.mean(bits), 3),
        "quartiles": [round(q, 3) for q in statistics.quantiles(bits, n=4)],
        "with_an_end": sum(story.endswith(END_OF_TEXT) for story in stories) / len(stories),
        "with_a_name_twice": sum(map(has_name, stories)) / len(stories),
        "example": stories[0].removesuffix(END_OF_TEXT).strip(),
    }


@click.command()
@click.option("--package", type=click.Path(exists=True, path_type=Path), help="npm's .tgz file.")
@click.option("--file", type=click.Path(path_type=Path), default=recipe.FILE, show_default=True)
def main(package: Path | None, file: Path) -> None:
    """Let stories15M read what the trained models told."""
    model_bytes, tokenizer_bytes = make_stories.read_package(package)
    judge = make_stories.read_model(model_bytes)
    pieces = make_stories.read_tokenizer(tokenizer_bytes, len(judge.embedding))
    merges = read_merges(tokenizer_bytes, pieces)
    packaged = load_pretrained("story-1m")
    test = load_corpus("stories").split(0.1)[1].documents
    told = {
        "the test split": [story + END_OF_TEXT for story in test[: recipe.STORIES]],
        "story-1m, 5,000 steps": recipe.tell(
            packaged, packaged.config.context_length, load_tokenizer("story-1m")
        ),
    }
    for path in sorted(recipe.TOLD.glob("*.json")):
        told[f"{path.stem}, three minutes"] = json.loads(path.read_text(encoding="utf-8"))
    found = {
        name: report(stories, bits_of(judge, stories, merges)) for name, stories in told.items()
    }
    results = recipe.read(file)
    results["judge"] = found
    recipe.write(file, results)
    rows = [
        [
            name,
            f"{row['judged_bits_per_byte']:.3f}",
            f"{row['with_an_end']:.0%}",
            f"{row['with_a_name_twice']:.0%}",
        ]
        for name, row in found.items()
    ]
    common.show("As the judge reads", ["", "bits per byte", "an end", "a name twice"], rows)


if __name__ == "__main__":
    main()
