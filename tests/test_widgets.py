"""The book's widgets: their data, and in a browser that they compute what the package computes."""

import base64
import json
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import browser
import numpy as np
import pytest
import torch

from course_pkg import BPETokenizer, GPTConfig, generate, load_pretrained, load_tokenizer
from course_pkg.authoring import widgets
from course_pkg.generation import next_token_probabilities
from course_pkg.gpt import GPT
from course_pkg.tokenizer import gpt2_tokenizer

ROOT = Path(__file__).parent.parent
BEGINNING = "Once upon a time"
SENTENCE = "The little dog didn't see the café."
NEEDS_BROWSER = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")


# The data, without a browser


@pytest.fixture(scope="module")
def model():
    return load_pretrained("story-1m")


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("story-1m")


def test_the_exported_weights_are_the_models(model):
    data = widgets.model_data(model)
    numbers = np.frombuffer(base64.b64decode(data["weights"]), dtype="<f2")
    assert len(numbers) == model.num_parameters()
    for name, (shape, start) in data["tensors"].items():
        stored = numbers[start : start + int(np.prod(shape))].reshape(shape)
        # The package stores float16, so nothing is lost.
        assert np.array_equal(stored.astype(np.float32), model.state_dict()[name].numpy()), name


def test_a_head_of_its_own_is_exported():
    config = GPTConfig(
        vocab_size=7, context_length=4, d_model=6, num_heads=2, num_layers=1, tie_weights=False
    )
    assert "output_head.weight" in widgets.model_data(GPT(config))["tensors"]


def test_what_the_page_cannot_compute_is_an_error():
    small = {"vocab_size": 7, "context_length": 4, "d_model": 6, "num_heads": 2, "num_layers": 1}
    with pytest.raises(ValueError, match="exact_gelu"):
        widgets.model_data(GPT(GPTConfig(**small, exact_gelu=True)))
    large = GPT(GPTConfig(**small))
    torch.nn.init.constant_(large.final_norm.shift, 1e6)
    with pytest.raises(ValueError, match=r"final_norm\.shift .* too large for float16"):
        widgets.model_data(large)
    vocab = {**{i: bytes([i]) for i in range(256)}, 300: b"ab", 256: b"cd"}
    with pytest.raises(ValueError, match="follow each other"):
        widgets.tokenizer_data(BPETokenizer(vocab, [(b"a", b"b"), (b"c", b"d")]))


def test_the_export_gives_the_same_bytes_and_leaves_right_files_alone(tmp_path):
    names = widgets.export(tmp_path)
    files = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in tmp_path.iterdir()}
    assert files.keys() == {f"{name}.js" for name in names} | {"index.js"}
    assert widgets.export(tmp_path) == names
    for path in tmp_path.iterdir():
        assert files[path.name] == (path.read_bytes(), path.stat().st_mtime_ns)
    index = json.loads(files["index.js"][0].decode("ascii").removeprefix("course.files = ")[:-2])
    assert index == {name: len(files[f"{name}.js"][0]) for name in names}


def test_without_gpt2s_vocabulary_no_file_of_it_is_left(tmp_path, monkeypatch):
    def not_here():
        raise FileNotFoundError

    (tmp_path / "gpt2-tokenizer.js").write_text("old", encoding="utf-8")
    monkeypatch.setattr(widgets, "gpt2_tokenizer", not_here)
    assert widgets.export(tmp_path) == ["story-1m", "story-1m-tokenizer"]
    assert not (tmp_path / "gpt2-tokenizer.js").exists()


def test_a_widget_shows_its_fallback_where_no_script_runs():
    widget = widgets.Widget("story", 'He said "<b>"', "It writes <i>this</i>.")
    assert repr(widget) == "It writes <i>this</i>."
    html = widget._repr_html_()
    assert "<pre>It writes &lt;i&gt;this&lt;/i&gt;.</pre>" in html
    assert 'data-text="He said &quot;&lt;b&gt;&quot;"' in html


def test_an_unknown_kind_of_widget_is_an_error():
    with pytest.raises(ValueError, match="kind='game' is not allowed: it must be one of story"):
        widgets.Widget("game", "", "")


def test_a_page_needs_the_scripts_of_its_widgets_only():
    story, tokens = (widgets.Widget(kind, "", "")._repr_html_() for kind in ("story", "tokens"))
    assert widgets.scripts_of("<p>no course-widget here</p>") == []
    assert "gpt.js" not in widgets.scripts_of(tokens)
    both = widgets.scripts_of(tokens + story)
    assert sorted(both) == sorted(set(both))
    assert {"story.js", "tokens.js"} < set(both)
    assert all((browser.WIDGETS / name).exists() for name in both if "/" not in name)


def test_the_book_loads_the_scripts_on_pages_with_a_widget_only(tmp_path):
    source, built = tmp_path / "source", tmp_path / "built"
    shutil.copytree(browser.WIDGETS, source / "static" / "widgets")
    (source / "conf.py").write_text(
        f"import sys\nsys.path.insert(0, {str(ROOT / 'book' / '_ext')!r})\n"
        "extensions = ['sphinx.ext.autodoc', 'course_book']\nhtml_static_path = ['static']\n",
        encoding="utf-8",
    )
    html = widgets.Widget("tokens", "a", "b")._repr_html_()
    (source / "with.rst").write_text(f"With\n====\n\n.. raw:: html\n\n   {html}\n", "utf-8")
    (source / "index.rst").write_text("Without\n=======\n\n.. toctree::\n\n   with\n", "utf-8")
    subprocess.run(
        [sys.executable, "-m", "sphinx", "-q", "-b", "html", str(source), str(built)],
        check=True,
        cwd=ROOT,
    )
    assert "widgets/" not in (built / "index.html").read_text(encoding="utf-8")
    page = (built / "with.html").read_text(encoding="utf-8")
    places = [page.index(f"_static/widgets/{name}") for name in widgets.SCRIPTS["tokens"]]
    assert places == sorted(places)
    assert "gpt.js" not in page
    assert "_static/widgets/widgets.css" in page
    assert (built / "_static" / "widgets" / "data" / "story-1m-tokenizer.js").exists()


# In a browser


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    placed = [
        widgets.Widget("story", BEGINNING, "the story's fallback"),
        widgets.Widget("tokens", SENTENCE, "the tokens' fallback"),
    ]
    return widgets.write_demo(tmp_path_factory.mktemp("widgets"), browser.WIDGETS, placed)


@pytest.fixture
def opened(chromium, demo):
    opened = browser.Page(chromium, demo, viewport={"width": 390, "height": 800})
    yield opened
    opened.context.close()
    assert opened.complaints == []


@pytest.fixture
def page(opened):
    return opened.page


SETUP = """async () => {
    window.model = new course.gpt.GPT(await course.load("story-1m"));
    window.tokenizer = new course.bpe.Tokenizer(await course.load("story-1m-tokenizer"));
}"""


@NEEDS_BROWSER
def test_logits_equal_pytorchs_at_every_position(page, model, tokenizer):
    page.evaluate(SETUP)
    full = torch.randint(2048, (256,), generator=torch.Generator().manual_seed(0)).tolist()
    prompts = [
        tokenizer.encode("Once upon a time there was a little girl."),
        tokenizer.encode('"No!" said the cat, and ran.\n\n12 é 🐕'),
        [2047],
        full,
    ]
    for ids in prompts:
        with torch.no_grad():
            expected = model(torch.tensor([ids]))[0].numpy()
        got = page.evaluate("ids => { model.ids = []; return [...model.read(ids, true)]; }", ids)
        assert np.abs(np.reshape(got, expected.shape) - expected).max() < 1e-3
        # Token by token, and in two parts of odd lengths, from what was kept.
        one_by_one = """ids => {
            model.ids = [];
            return ids.map((id, t) => [...model.next(ids.slice(0, t + 1))].slice(0, 50));
        }"""
        got = page.evaluate(one_by_one, ids)
        assert np.abs(np.array(got) - expected[:, :50]).max() < 1e-3
        middle = len(ids) // 2
        if middle:
            parts = "([a, b]) => { model.ids = []; model.read(a); return [...model.read(b)]; }"
            got = page.evaluate(parts, [ids[:middle], ids[middle:]])
            assert np.abs(np.array(got) - expected[-1]).max() < 1e-3


@NEEDS_BROWSER
def test_beyond_the_context_and_after_going_back_the_model_sees_what_pytorchs_does(page, model):
    page.evaluate(SETUP)
    ids = torch.randint(2048, (270,), generator=torch.Generator().manual_seed(1)).tolist()
    # Read on past the context, go back to a text within it, and take another way from there.
    long, back = ids[:258], [*ids[:60], *ids[90:120]]
    for seen, begins in ((ids[:256], 0), (long, 16), (ids, 16), (ids[:100], 0), (back, 0)):
        with torch.no_grad():
            expected = model(torch.tensor([seen[begins:]]))[0, -1].numpy()
        got = page.evaluate("ids => [...model.next(ids)]", seen)
        assert np.abs(np.array(got) - expected).max() < 1e-3


@NEEDS_BROWSER
def test_a_text_of_any_length_fits_the_context_and_is_seldom_read_again(page):
    page.evaluate(SETUP)
    script = """length => {
        const random = course.gpt.randomFrom(3), read = [];
        const inner = model.read;
        model.read = (ids) => (read.push(ids.length), new Float64Array(2048));
        const ids = [];
        while (ids.length < length) {
            ids.push(Math.floor(random() * 2048));
            model.next(ids);
            model.ids = ids.slice(model.begins(ids.length));
        }
        model.read = inner;
        return [read, Array.from({ length }, (_, i) => model.begins(i + 1))];
    }"""
    read, begins = page.evaluate(script, 600)
    for length, (count, begin) in enumerate(zip(read, begins, strict=True), 1):
        assert 240 < length - begin <= 256 or (begin == 0 and length <= 256)
        moved = length > 1 and begin != begins[length - 2]
        assert count == (length - begin if moved else 1)
    assert len(set(begins)) == 1 + (600 - 256 + 15) // 16


@NEEDS_BROWSER
def test_too_many_or_unknown_ids_are_errors(page):
    page.evaluate(SETUP)
    message = "ids => { try { model.read(ids); } catch (error) { return error.message; } }"
    assert "more than the 256 allowed" in page.evaluate(message, [0] * 257)
    assert "2048" in page.evaluate(message, [2048])
    assert "empty" in page.evaluate(message, [])


@NEEDS_BROWSER
def test_a_model_of_another_shape_is_right_too(page):
    # Odd sizes, no biases of queries, keys and values, a head of its own.
    config = GPTConfig(
        vocab_size=301, context_length=9, d_model=15, num_heads=3, num_layers=2,
        qkv_bias=False, tie_weights=False,
    )  # fmt: skip
    torch.manual_seed(2)
    model = GPT(config).half().float().eval()
    ids = [300, 0, 5, 77, 77, 1, 2]
    got = page.evaluate(
        "([data, ids]) => [...new course.gpt.GPT(data).read(ids, true)]",
        [widgets.model_data(model), ids],
    )
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].numpy()
    assert np.abs(np.reshape(got, (7, 301)) - expected).max() < 1e-5


@NEEDS_BROWSER
def test_texts_that_fill_no_whole_group_are_read_right_in_any_two_parts(page):
    # The page computes three tokens and four tokens side by side, and fills up the last group.
    config = GPTConfig(vocab_size=31, context_length=9, d_model=10, num_heads=2, num_layers=2)
    torch.manual_seed(4)
    model = GPT(config).half().float().eval()
    ids = torch.randint(31, (9,)).tolist()
    script = """([data, ids]) => {
        const model = new course.gpt.GPT(data), found = [];
        for (let length = 1; length <= ids.length; length++) {
            for (let first = 0; first < length; first++) {
                model.ids = [];
                if (first) model.read(ids.slice(0, first));
                found.push([length, [...model.read(ids.slice(first, length))]]);
            }
        }
        return found;
    }"""
    found = page.evaluate(script, [widgets.model_data(model), ids])
    assert len(found) == 45
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0].numpy()
    for length, got in found:
        assert np.abs(got - expected[length - 1]).max() < 1e-5


@NEEDS_BROWSER
def test_greedy_writing_equals_generate(page, model, tokenizer):
    page.evaluate(SETUP)
    write = """([prompt, count]) => {
        const ids = [...prompt], random = course.gpt.randomFrom(0);
        while (ids.length < prompt.length + count) {
            ids.push(course.gpt.step(model, ids, { temperature: 0 }, random).id);
        }
        return ids;
    }"""
    for text in (BEGINNING, "Tom and Sue", "One day"):
        ids = tokenizer.encode(text)
        expected = generate(model, torch.tensor([ids]), 60, temperature=0.0)[0].tolist()
        assert page.evaluate(write, [ids, 60]) == expected


@NEEDS_BROWSER
def test_probabilities_and_draws_are_the_packages(page):
    logits = 3 * torch.randn(2, 400, generator=torch.Generator().manual_seed(3)).double()
    logits[1] = logits[1].round()  # many equal scores
    script = """([logits, settings]) =>
        [...course.gpt.nextTokenProbabilities(Float64Array.from(logits), settings)]"""
    for temperature, top_k, top_p in [
        (1.0, None, None), (0.0, None, None), (0.7, 20, None), (1.5, None, 0.9), (1.0, 30, 0.5),
        (1.0, 1000, 1.0), (1.0, None, 1e-9), (1.0, 1, None),
    ]:  # fmt: skip
        expected = next_token_probabilities(logits, temperature, top_k, top_p).numpy()
        settings = {"temperature": temperature, "topK": top_k, "topP": top_p}
        for row, right in zip(logits.tolist(), expected, strict=True):
            got = np.array(page.evaluate(script, [row, settings]))
            assert np.abs(got - right).max() < 1e-12
            assert ((got > 0) == (right > 0)).all()
    counts = page.evaluate("""() => {
        const random = course.gpt.randomFrom(7), counts = [0, 0, 0, 0];
        for (let i = 0; i < 20000; i++) counts[course.gpt.draw([0.5, 0, 0.2, 0.3], random())]++;
        return counts;
    }""")
    assert counts[1] == 0
    assert np.abs(np.array(counts) / 20000 - [0.5, 0, 0.2, 0.3]).max() < 0.02


def strings(count, seed):
    """Texts of all kinds of characters, the awkward ones often."""
    generator = random.Random(seed)
    alphabets = [
        "abcdefghijklmnopqrstuvwxyz",
        " ",
        " \n\t\r\u00a0\u2003\u3000\x85\x1c\x1f\u2028\ufeff\u200b",
        "0123456789²½٣Ⅷ",
        "'’`\".,!?-–()[]{}<|>",
        "äöüßéèñçøåДжωλאבعربי中文日本語한국어ไทยहिन्दी",
        "🐕🙂👩‍👩‍👧🇪🇺👍🏽",
        "\u0301\u0308\u20dd\u0e31\ufe0f\u200d",
        "\x00\x7f\xad",
    ]
    words = ["'s", "'ll", "don't", "'RE", " the", "Once upon", "   ", "\n\n", "<|endoftext|>"]
    assigned = [c for c in map(chr, range(0x30000)) if unicodedata.category(c) not in ("Cn", "Cs")]
    for _ in range(count):
        parts = []
        for _ in range(generator.randrange(12)):
            kind = generator.randrange(4)
            if kind == 0:
                parts.append(generator.choice(words))
            elif kind == 1:
                parts.append("".join(generator.choices(assigned, k=generator.randrange(1, 4))))
            else:
                parts += generator.choices(generator.choice(alphabets), k=generator.randrange(1, 9))
        yield "".join(parts)


@NEEDS_BROWSER
@pytest.mark.parametrize("name", ["story-1m", "gpt2"])
def test_tokens_equal_the_packages_and_decode_to_the_text(page, name):
    try:
        tokenizer = gpt2_tokenizer() if name == "gpt2" else load_tokenizer(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    texts = ["", *strings(1000, seed=4)]
    result = page.evaluate(
        """async ([name, texts]) => {
            const tokenizer = new course.bpe.Tokenizer(await course.load(name));
            return texts.map((text) => {
                const ids = tokenizer.encode(text);
                const last = tokenizer.steps(text).at(-1).pieces.flat();
                return {
                    ids,
                    text: tokenizer.decode(ids),
                    parts: tokenizer.decodeEach(ids).join(""),
                    steps: last.map((symbol) => tokenizer.ids[symbol]),
                };
            });
        }""",
        [f"{name}-tokenizer", texts],
    )
    for text, got in zip(texts, result, strict=True):
        ids = tokenizer.encode_ordinary(text)
        assert got == {"ids": ids, "text": text, "parts": text, "steps": ids}, repr(text)


@NEEDS_BROWSER
def test_ids_that_are_no_text_decode_as_in_python(page, tokenizer):
    generator = random.Random(5)
    many = [[generator.randrange(2048) for _ in range(20)] for _ in range(200)]
    many += [[generator.randrange(128, 256) for _ in range(20)] for _ in range(200)]
    page.evaluate(SETUP)
    script = """many => many.map((ids) =>
        [tokenizer.decode(ids), tokenizer.decodeEach(ids).join('')])"""
    for ids, got in zip(many, page.evaluate(script, many), strict=True):
        assert got == [tokenizer.decode(ids)] * 2


@NEEDS_BROWSER
def test_a_lone_surrogate_is_an_error(page):
    page.evaluate(SETUP)
    script = "() => { try { tokenizer.encode('a\\ud800'); } catch (e) { return e.message; } }"
    assert "lone surrogate" in page.evaluate(script)


# What the reader does


def story(page):
    return page.locator('[data-widget="story"]')


def finished(page):
    """Wait until the model has written, and give the text."""
    busy = "document.querySelector('.course-story-text').getAttribute('aria-busy')"
    page.wait_for_function(f"{busy} === 'false'")
    return story(page).locator(".course-story-text").text_content()


def fill(page, **values):
    for label, value in values.items():
        story(page).get_by_label(label.replace("_", "-"), exact=True).fill(str(value))


@NEEDS_BROWSER
def test_the_keyboard_alone_writes_a_story(page, model, tokenizer):
    def tab(times, key="Tab"):
        for _ in range(times):
            page.keyboard.press(key)

    def write(text):
        page.keyboard.press("ControlOrMeta+A")
        page.keyboard.type(text)

    tab(1)
    write("One day, a dog")
    tab(4)  # past Write, One token and Go on; Stop has nothing to stop
    write("0")
    tab(4)  # past top-k, top-p and the seed
    write("25")
    tab(8, "Shift+Tab")
    page.keyboard.press("Enter")
    ids = torch.tensor([tokenizer.encode("One day, a dog")])
    expected = generate(model, ids, 26, temperature=0.0)[0].tolist()
    assert finished(page) == tokenizer.decode(expected[:-1])
    assert "25 tokens" in story(page).get_by_role("status").text_content()
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    tab(2)  # past Write, to One token
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.course-story-text span').length === 26")
    assert finished(page) == tokenizer.decode(expected)
    assert page.evaluate("document.activeElement.textContent") == "One token"


@NEEDS_BROWSER
def test_the_end_of_a_story_ends_the_writing(page, model, tokenizer):
    fill(page, temperature=0, tokens=100)
    page.get_by_label("A beginning").fill("Tom and Sue")
    page.get_by_label("A beginning").press("Enter")
    ids = torch.tensor([tokenizer.encode("Tom and Sue")])
    expected = generate(model, ids, 100, temperature=0.0, stop_ids=[2047])[0].tolist()
    assert expected[-1] == 2047
    assert finished(page) == tokenizer.decode(expected[:-1])
    assert "The story is over" in story(page).get_by_role("status").text_content()


@NEEDS_BROWSER
@pytest.mark.parametrize("how", ["button", "Escape", "Enter"])
def test_stop_stops(page, how):
    fill(page, tokens=1000, temperature=1)
    story(page).get_by_role("button", name="Write").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("document.querySelectorAll('.course-story-text span').length > 5")
    if how == "button":
        story(page).get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press(how)  # the focus went to Stop when Write could not keep it
    text = finished(page)
    assert page.locator(".course-story-text span").count() < 900
    page.wait_for_timeout(200)
    assert story(page).locator(".course-story-text").text_content() == text
    assert page.evaluate("document.activeElement.textContent") == "Write"


@NEEDS_BROWSER
def test_the_seed_decides_and_no_beginning_is_needed(page):
    texts = []
    for seed, text in ((1, ""), (2, ""), (1, "")):
        fill(page, seed=seed, tokens=20)
        page.get_by_label("A beginning").fill(text)
        page.get_by_label("A beginning").press("Enter")
        texts.append(finished(page))
    assert texts[0] == texts[2] != texts[1]
    assert min(map(len, texts)) > 10


@NEEDS_BROWSER
def test_another_candidate_can_take_a_place(page, model, tokenizer):
    fill(page, temperature=0, tokens=8)
    page.get_by_label("A beginning").press("Enter")
    finished(page)
    prompt = tokenizer.encode(BEGINNING)
    ids = generate(model, torch.tensor([prompt]), 8, temperature=0.0)[0].tolist()
    for _ in range(3):
        story(page).get_by_role("button", name="Earlier").click()
    place = len(prompt) + 4
    with torch.no_grad():
        second = model(torch.tensor([ids[:place]]))[0, -1].topk(2).indices[1].item()
    candidates = story(page).get_by_role("listitem").get_by_role("button")
    assert candidates.nth(0).get_attribute("aria-pressed") == "true"
    candidates.nth(1).click()
    assert story(page).locator(".course-story-text").text_content() == tokenizer.decode(
        [*ids[:place], second]
    )
    assert candidates.nth(1).get_attribute("aria-pressed") == "true"
    story(page).get_by_role("button", name="Go on").click()
    expected = generate(model, torch.tensor([[*ids[:place], second]]), 8, temperature=0.0)
    assert finished(page) == tokenizer.decode(expected[0].tolist())


@NEEDS_BROWSER
def test_settings_outside_their_limits_are_brought_inside(page):
    fill(page, temperature=-3, top_k=0, top_p=7, tokens=5)
    page.get_by_label("A beginning").press("Enter")
    finished(page)
    values = [
        story(page).get_by_label(label, exact=True).input_value()
        for label in ("temperature", "top-k", "top-p")
    ]
    assert values == ["0", "1", "1"]
    assert "5 tokens" in story(page).get_by_role("status").text_content()


@NEEDS_BROWSER
def test_the_merges_are_stepped_through_by_keys(page, tokenizer):
    tokens = page.locator('[data-widget="tokens"]')
    status, slider = tokens.get_by_role("status"), tokens.get_by_role("slider")
    page.wait_for_function("document.querySelector('input[type=range]').max > 1")
    assert tokens.locator(".chip").count() == len(SENTENCE.encode())
    tokens.get_by_role("button", name="Next merge").focus()
    page.keyboard.press("Enter")
    assert status.text_content().startswith("Step 1 of ")
    slider.focus()
    page.keyboard.press("End")
    assert "No other pair has a merge." in status.text_content()
    shown = tokens.locator(".chip .id").all_text_contents()
    assert list(map(int, shown)) == tokenizer.encode(SENTENCE)
    page.keyboard.press("ArrowLeft")
    assert tokens.locator(".chip").count() > len(shown)
    page.keyboard.press("Home")
    assert "The bytes of each piece" in status.text_content()
    tokens.get_by_label("A text").fill("  a\n🐕")
    page.wait_for_function("document.querySelectorAll('.chip').length < 10")
    assert "4 characters" in tokens.text_content() or "5 characters" in tokens.text_content()
    tokens.get_by_label("A text").fill("")
    page.wait_for_function("document.querySelectorAll('.chip').length === 0")
    assert status.text_content() == "Type something."


@NEEDS_BROWSER
def test_gpt2s_vocabulary_can_be_chosen(page):
    try:
        expected = gpt2_tokenizer().encode(SENTENCE)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    tokens = page.locator('[data-widget="tokens"]')
    tokens.get_by_label("vocabulary").select_option("gpt2-tokenizer")
    page.wait_for_function(
        f"[...document.querySelectorAll('.chip .id')].map((c) => +c.textContent).join()"
        f" === '{','.join(map(str, expected))}'"
    )


@NEEDS_BROWSER
def test_a_copy_without_gpt2s_vocabulary_says_so(chromium, demo, tmp_path):
    folder = shutil.copytree(demo.parent, tmp_path / "copy")
    index = folder / "widgets" / "data" / "index.js"
    index.write_text('course.files = {"story-1m": 1, "story-1m-tokenizer": 1};', encoding="utf-8")
    opened = browser.Page(chromium, folder / "index.html")
    option = opened.page.locator('option[value="gpt2-tokenizer"]')
    assert "not in this copy of the book" in option.text_content()
    assert option.is_disabled()
    opened.context.close()
    assert opened.complaints == []


@NEEDS_BROWSER
def test_a_phones_page_is_not_widened_and_print_shows_the_fallback(page):
    fill(page, tokens=40)
    page.get_by_label("A text").fill("x" * 300 + " " + "\x01" * 80)
    page.get_by_label("A beginning").fill("w" * 300)
    page.get_by_label("A beginning").press("Enter")
    finished(page)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert not page.get_by_text("the story's fallback").is_visible()
    page.emulate_media(media="print")
    assert page.get_by_text("the story's fallback").is_visible()
    assert not page.get_by_label("A beginning").is_visible()


@NEEDS_BROWSER
def test_without_javascript_the_fallback_is_there(chromium, demo):
    opened = browser.Page(chromium, demo, java_script_enabled=False)
    assert opened.page.get_by_text("the tokens' fallback").is_visible()
    opened.context.close()


@NEEDS_BROWSER
def test_a_long_text_scrolls_to_the_token_that_is_shown(page):
    fill(page, tokens=60)
    page.get_by_label("A beginning").fill("\n".join("a" * 40))
    page.get_by_label("A beginning").press("Enter")
    finished(page)
    inside = """() => {
        const outer = document.querySelector(".course-story-text").getBoundingClientRect();
        const inner = document.querySelector(".course-story-text .shown").getBoundingClientRect();
        return inner.top >= outer.top - 1 && inner.bottom <= outer.bottom + 1;
    }"""
    assert page.evaluate(inside)
    assert page.evaluate("document.querySelector('.course-story-text').scrollTop") > 100
