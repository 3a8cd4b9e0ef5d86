"""The attention and the sampling explorer: what they show is right, and all can be reached."""

import itertools
import math
import re
import shutil

import browser
import numpy as np
import pytest
import torch

from course_pkg import GPTConfig, load_pretrained, load_tokenizer
from course_pkg.authoring import widgets
from course_pkg.generation import next_token_probabilities
from course_pkg.gpt import GPT

BOY = "A little boy named Timmy loved to play. He saw a big dog. Timmy was sad."
PARK = "Tim was in the park. He saw a"
TOGGLES = list(itertools.product([True, False], repeat=2))  # causal, scaled
SHOWN = 0.5e-3 + 0.1e-3  # a percentage with one decimal, and the page's own rounding

pytestmark = pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "is there")


@pytest.fixture(scope="module")
def model():
    return load_pretrained("story-1m").eval()


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer("story-1m")


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    placed = [
        widgets.Widget("attention", BOY, "the attention's fallback"),
        widgets.Widget("sampling", PARK, "the sampling's fallback"),
    ]
    return widgets.write_demo(tmp_path_factory.mktemp("explorers"), browser.WIDGETS, placed)


@pytest.fixture
def opened(chromium, demo):
    opened = browser.Page(chromium, demo, viewport={"width": 390, "height": 800})
    yield opened
    opened.context.close()
    assert opened.complaints == []


@pytest.fixture
def page(opened):
    return opened.page


@torch.no_grad()
def attention(model, ids, causal=True, scaled=True):
    """Token ids -> the weights (L, H, T, T) and the logits (T, V), by the formulas of the book."""
    x = model.token_embedding.weight[ids] + model.position_embedding.weight[: len(ids)]  # (T, D)
    found = []
    for block in model.blocks:
        layer, y = block.attention, block.norm1(x)
        T, H, Dh = len(ids), layer.num_heads, layer.head_dim
        q = layer.W_query(y).reshape(T, H, Dh)
        k = layer.W_key(y).reshape(T, H, Dh)
        v = layer.W_value(y).reshape(T, H, Dh)
        scores = torch.einsum("thd,shd->hts", q, k)
        if scaled:
            scores = scores * Dh**-0.5
        if causal:
            later = torch.arange(T)[None, :] > torch.arange(T)[:, None]
            scores[:, later] = -math.inf
        weights = scores.softmax(dim=-1)
        found.append(weights)
        x = x + layer.out_proj(torch.einsum("hts,shd->thd", weights, v).reshape(T, H * Dh))
        x = x + block.feed_forward(block.norm2(x)[None])[0]
    return torch.stack(found), model.output_head(model.final_norm(x))


def test_the_formulas_of_this_file_are_the_models(model, tokenizer):
    ids = tokenizer.encode(BOY)
    with torch.no_grad():
        expected = model(torch.tensor([ids]))[0]
    assert torch.allclose(attention(model, ids)[1], expected, atol=1e-3)
    for causal, scaled in TOGGLES[1:]:
        assert not torch.allclose(attention(model, ids, causal, scaled)[1], expected, atol=1)


# The attention explorer


WEIGHTS = """async ([ids, causal, scaled, rows]) => {
    window.open_ ??= new course.heads.OpenGPT(await course.load("story-1m"));
    const T = ids.length;
    return open_.attention(ids, { causal, scaled }).map((layer) => layer.map((table) =>
        rows.map((t) => [...table.subarray(t * T, (t + 1) * T)])));
}"""


@pytest.mark.parametrize(("causal", "scaled"), TOGGLES)
def test_the_weights_are_pytorchs_for_each_setting(page, model, tokenizer, causal, scaled):
    full = torch.randint(2048, (256,), generator=torch.Generator().manual_seed(0)).tolist()
    boy = tokenizer.encode(BOY)
    for ids in (boy, [2047], tokenizer.encode('"No!" 🐕\x00é\n\n12'), full, boy[:5]):
        rows = [*range(0, len(ids), 1 if len(ids) < 100 else 51)]
        got = np.array(page.evaluate(WEIGHTS, [ids, causal, scaled, rows]))
        expected = attention(model, ids, causal, scaled)[0][:, :, rows].numpy()
        assert np.abs(got - expected).max() < 1e-3
        assert np.abs(got.sum(axis=-1) - 1).max() < 1e-9


def test_the_weights_of_a_model_of_another_shape_are_right_too(page):
    config = GPTConfig(
        vocab_size=301, context_length=9, d_model=15, num_heads=3, num_layers=2,
        qkv_bias=False, tie_weights=False,
    )  # fmt: skip
    torch.manual_seed(2)
    model = GPT(config).half().float().eval()
    for parameter in model.parameters():
        parameter.data = (10 * parameter.data).half().float()  # weights that are not all alike
    ids = [300, 0, 5, 77, 77, 1, 2]
    script = """([data, ids, causal, scaled]) =>
        new course.heads.OpenGPT(data).attention(ids, { causal, scaled }).map((layer) =>
            layer.map((table) => [...table]))"""
    for causal, scaled in TOGGLES:
        got = page.evaluate(script, [widgets.model_data(model), ids, causal, scaled])
        expected = attention(model, ids, causal, scaled)[0].numpy()
        assert np.abs(np.reshape(got, expected.shape) - expected).max() < 1e-4


class Attention:
    """The widget as its reader sees it."""

    def __init__(self, page):
        self.page = page
        self.root = page.locator('[data-widget="attention"]')
        self.tokens = self.root.get_by_role("option")
        self.text = self.root.get_by_label("A sentence")
        self.status = self.root.get_by_role("status")
        self.mask = self.root.get_by_role("checkbox", name="causal mask")
        self.scale = self.root.get_by_role("checkbox", name="scores divided by")
        self.tokens.first.wait_for()

    def numbers(self):
        """What stands in the tokens: a share, or None where it says masked."""
        texts = self.root.locator(".chip .id").all_text_contents()
        return [None if text == "masked" else share(text) for text in texts]

    def fills(self):
        """How far the tokens are filled, which is the weight as well."""
        script = "chips => chips.map((chip) => +chip.style.getPropertyValue('--weight'))"
        return self.tokens.evaluate_all(script)

    def listed(self):
        """Of the list: (number of the token, its share)."""
        rows = self.root.get_by_role("listitem").filter(has=self.page.locator(".bar"))
        for row in rows.all():
            number = row.locator(".token").text_content().split(" ")[0]
            yield int(number), share(row.locator(".percent").text_content())

    def chosen(self):
        return self.tokens.evaluate_all(
            "chips => chips.findIndex((chip) => chip.getAttribute('aria-selected') === 'true')"
        )

    def head(self):
        checked = self.root.get_by_role("radio", checked=True).get_attribute("aria-label")
        return tuple(map(int, re.findall(r"\d+", checked)))

    def shows(self, weights, token):
        """Everything that the page says about this row equals PyTorch's weights (L, H, T, T)."""
        block, head = self.head()
        row = weights[block, head, token]
        causal = bool((weights.triu(1) == 0).all())
        seen = list(range(token + 1)) if causal else list(range(len(row)))
        numbers = self.numbers()
        assert [j for j, number in enumerate(numbers) if number is not None] == seen
        for j in seen:
            assert abs(numbers[j] - row[j]) < SHOWN
        assert np.abs(np.array(self.fills()) - row.numpy()).max() < 1e-3
        listed = list(self.listed())
        assert len(listed) == min(8, len(seen))
        assert [number for _, number in listed] == sorted((n for _, n in listed), reverse=True)
        for number, value in listed:
            assert abs(row[number - 1] - value) < SHOWN
        assert abs(listed[0][1] - row.max()) < SHOWN
        title = self.root.locator(".course-attention-title").text_content()
        assert title.startswith(f"Block {block}, head {head}: token {token + 1}, ")
        sums = self.root.locator(".course-attention-list + p").text_content()
        later, largest = map(share, re.findall(r"[\d.]+ %", sums))
        assert abs(later - row[token + 1 :].sum()) < SHOWN
        assert abs(largest - weights[block, head].amax(dim=-1).mean()) < SHOWN
        return True


def share(text):
    return float(text.removesuffix(" %")) / 100


def test_it_starts_at_the_last_token_of_the_head_that_looks_at_names(page, model, tokenizer):
    shown = Attention(page)
    ids = tokenizer.encode(BOY)
    assert shown.tokens.count() == len(ids)
    names = shown.root.locator(".chip .bytes").all_text_contents()
    assert "".join(names).replace("␣", " ") == BOY
    assert (shown.head(), shown.chosen()) == ((0, 1), len(ids) - 1)
    assert shown.mask.is_checked()
    assert shown.scale.is_checked()
    assert shown.shows(attention(model, ids)[0], len(ids) - 1)
    assert re.fullmatch(
        r"Token \d+, “\.”, attends most to “␣Timmy”: \d+\.\d %\.", shown.status.text_content()
    )


def test_the_keyboard_reaches_everything_in_few_stops(page, model, tokenizer):
    shown = Attention(page)
    ids = tokenizer.encode(BOY)
    settings = {toggle: attention(model, ids, *toggle)[0] for toggle in TOGGLES}
    last = len(ids) - 1

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    press("Tab", "Tab", "Space")  # past the text: the mask goes
    assert not shown.mask.is_checked()
    assert shown.shows(settings[False, True], last)
    press("Tab", "Space")  # and the scale
    assert shown.shows(settings[False, False], last)
    press("Shift+Tab", "Space")
    assert shown.shows(settings[True, False], last)
    press("Tab", "Space")
    assert shown.shows(settings[True, True], last)
    press("Tab", "ArrowLeft")  # the tokens are one stop
    assert shown.chosen() == last - 1
    assert shown.shows(settings[True, True], last - 1)
    press("Home", "ArrowLeft")
    assert shown.shows(settings[True, True], 0)
    press("ArrowRight", "ArrowDown", "ArrowUp", "ArrowDown", "ArrowDown")
    assert shown.shows(settings[True, True], 3)
    press("End")
    assert shown.chosen() == last
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    press("Tab", "ArrowRight")  # the heads are the last stop
    assert shown.head() == (0, 2)
    assert shown.shows(settings[True, True], last)
    press("ArrowDown", "ArrowDown", "ArrowLeft")
    assert shown.head() == (2, 1)
    assert shown.shows(settings[True, True], last)
    press("ArrowUp", "ArrowUp", "ArrowUp")
    assert shown.head() == (3, 1)
    assert shown.shows(settings[True, True], last)
    beside = "getComputedStyle(document.activeElement.nextElementSibling).outlineStyle"
    assert page.evaluate(beside) == "solid"
    press("Tab")
    assert page.evaluate("document.activeElement.closest('.course-widget').dataset.widget") == (
        "sampling"
    )


def test_pointing_shows_a_token_and_a_click_keeps_it(page, model, tokenizer):
    shown = Attention(page)
    ids = tokenizer.encode(BOY)
    weights = attention(model, ids)[0]
    shown.tokens.nth(6).hover()
    assert shown.shows(weights, 6)
    assert shown.chosen() == len(ids) - 1  # where the keyboard is
    shown.status.hover()
    assert shown.shows(weights, len(ids) - 1)
    shown.tokens.nth(9).click()
    shown.status.hover()
    assert shown.chosen() == 9
    assert shown.shows(weights, 9)
    # A key counts although the mouse still rests on a token.
    shown.tokens.nth(4).hover()
    page.keyboard.press("ArrowLeft")
    assert shown.shows(weights, 8)


def test_a_tap_shows_a_token(chromium, demo, model, tokenizer):
    opened = browser.Page(
        chromium, demo, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True
    )
    shown = Attention(opened.page)
    shown.tokens.nth(5).tap()
    assert shown.chosen() == 5
    weights = attention(model, tokenizer.encode(BOY))[0]
    assert shown.shows(weights, 5)
    shown.root.get_by_role("radio").nth(13).tap()
    assert shown.head() == (3, 1)
    assert shown.shows(weights, 5)
    opened.context.close()
    assert opened.complaints == []


def test_the_pictures_are_the_heads_tables(page, model, tokenizer):
    shown = Attention(page)
    ids = tokenizer.encode(BOY)
    alpha = """canvases => canvases.map((canvas) => {
        const { width, height } = canvas;
        const copy = new OffscreenCanvas(width, height);
        const context = copy.getContext("2d", { willReadFrequently: true });
        context.drawImage(canvas, 0, 0);
        const { data } = context.getImageData(0, 0, width, height);
        return [...data].filter((_, i) => i % 4 === 3);
    })"""
    for causal in (True, False):
        shown.mask.set_checked(causal)
        got = np.array(shown.root.locator("canvas").evaluate_all(alpha)) / 255
        expected = attention(model, ids, causal)[0].sqrt().reshape(16, -1).numpy()
        assert np.abs(got - expected).max() < 0.006


def test_another_sentence_is_read_as_it_is_typed(page, model, tokenizer):
    shown = Attention(page)
    shown.tokens.nth(2).click()
    shown.mask.uncheck()
    shown.text.fill("The cat ran")
    page.wait_for_function("document.querySelectorAll('.chip').length === 3")
    ids = tokenizer.encode("The cat ran")
    assert shown.chosen() == 2
    assert shown.shows(attention(model, ids, causal=False)[0], 2)
    shown.text.press("End")
    shown.text.press_sequentially(" away")
    page.wait_for_function("document.querySelectorAll('.chip').length === 4")
    assert shown.text.input_value() == "The cat ran away"
    ids = tokenizer.encode("The cat ran away")
    assert shown.shows(attention(model, ids, causal=False)[0], 3)


@pytest.mark.parametrize("text", ["x", "🐕👩‍👩‍👧", "a\x00b", "\n\n \t", "<|endoftext|>", "é" * 100])
def test_awkward_sentences_are_tokens_too(page, model, tokenizer, text):
    shown = Attention(page)
    shown.text.fill(text)
    ids = tokenizer.encode_ordinary(text)[-256:]
    page.wait_for_function(f"document.querySelectorAll('.chip').length === {len(ids)}")
    assert shown.shows(attention(model, ids)[0], len(ids) - 1)
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_of_a_long_text_the_model_sees_the_end(page, model, tokenizer):
    shown = Attention(page)
    text = "The dog ran. " * 100
    shown.text.fill(text)
    page.wait_for_function("document.querySelectorAll('.chip').length === 256")
    ids = tokenizer.encode(text)
    sentence = shown.status.text_content()
    assert f"The text has {len(ids)} tokens, the context 256" in sentence
    assert sentence.startswith(f"Token {len(ids)}, ")
    row = attention(model, ids[-256:])[0][0, 1, -1]
    assert np.abs(np.array(shown.fills()) - row.numpy()).max() < 1e-3
    number, value = next(shown.listed())
    assert abs(row[number - 1 - (len(ids) - 256)] - value) < SHOWN


def test_without_a_sentence_there_is_nothing_to_attend_to(page, model, tokenizer):
    shown = Attention(page)
    shown.text.fill("")
    page.wait_for_function("document.querySelectorAll('.chip').length === 0")
    assert shown.status.text_content() == "Type something."
    shown.mask.uncheck()
    shown.scale.uncheck()
    assert not shown.root.locator("canvas").first.is_visible()
    shown.text.evaluate("""input => {
        input.value = "a\\ud800";
        input.dispatchEvent(new Event("input"));
    }""")
    page.wait_for_function(
        "document.querySelector('[role=status]').textContent.includes('lone surrogate')"
    )
    shown.text.fill("Sue ran")
    page.wait_for_function("document.querySelectorAll('.chip').length === 2")
    ids = tokenizer.encode("Sue ran")
    assert shown.shows(attention(model, ids, causal=False, scaled=False)[0], 1)


# The sampling explorer


STOPS = [
    1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 40, 50, 70, 100, 150, 200, 300, 500, 700, 1000, None,
]  # fmt: skip
SETTINGS = [
    (1.0, None, 1.0), (0.0, None, 1.0), (0.5, None, 1.0), (2.0, None, 1.0), (0.05, None, 1.0),
    (1.0, 1, 1.0), (1.0, 5, 1.0), (1.0, 1000, 1.0), (1.0, None, 0.01), (1.0, None, 0.5),
    (1.0, None, 0.99), (2.0, None, 0.9), (1.0, 3, 0.7), (2.0, 20, 0.9), (0.5, 4, 0.95),
    (0.0, 5, 0.01), (1.5, 1, 0.01),
]  # fmt: skip


@pytest.fixture(scope="module")
def logits(model, tokenizer):
    with torch.no_grad():
        # (1, V); in float64, so that no probability is rounded to 0 that is more than that
        return model(torch.tensor([tokenizer.encode(PARK)]))[:, -1].double()


class Sampling:
    """The widget as its reader sees it."""

    def __init__(self, page):
        self.page = page
        self.root = page.locator('[data-widget="sampling"]')
        self.root.scroll_into_view_if_needed()
        self.text = self.root.get_by_label("A text")
        self.table = self.root.get_by_role("table")
        self.about, self.drawn = self.root.locator("[role=status]").all()
        self.temperature, self.top_k, self.top_p = (
            self.root.get_by_role("slider", name=label)
            for label in ("temperature", "top-k", "top-p")
        )
        self.table.wait_for()

    def press(self, name):
        self.root.get_by_role("button", name=name, exact=True).click()

    def set(self, temperature, top_k, top_p):
        self.temperature.fill(f"{temperature}")
        self.top_k.fill(f"{STOPS.index(top_k)}")
        self.top_p.fill(f"{top_p}")

    def rows(self):
        """(token, before, after, drawn) of each row; that of the others comes last."""
        return self.table.locator("tbody tr, tfoot tr").evaluate_all(
            "rows => rows.map((row) => [...row.cells].map((cell) => cell.textContent))"
        )

    def tally(self):
        return [int(row[3]) for row in self.rows()]

    def can_be_drawn(self):
        return int(re.match(r"[\d,]+", self.about.text_content())[0].replace(",", ""))

    def shows(self, logits, temperature=1.0, top_k=None, top_p=1.0):
        """The whole table equals the package's probabilities of these logits (1, V)."""
        before = next_token_probabilities(logits)[0]
        after = next_token_probabilities(logits, temperature, top_k, top_p)[0]
        ids = logits[0].sort(descending=True, stable=True).indices
        rows = self.rows()
        assert len(rows) == 11
        for id_, (_, was, now, _) in zip(ids[:10].tolist(), rows, strict=False):
            assert abs(share(was) - before[id_]) < SHOWN
            if now.startswith("cut: "):
                assert after[id_] == 0
            else:
                assert after[id_] > 0
                assert abs(share(now) - after[id_]) < SHOWN
        assert abs(share(rows[10][1]) - before[ids[10:]].sum()) < SHOWN
        assert abs(share(rows[10][2]) - after[ids[10:]].sum()) < SHOWN
        assert self.can_be_drawn() == (after > 0).sum()
        return True


def test_it_starts_with_what_the_model_says(page, logits, tokenizer):
    shown = Sampling(page)
    assert shown.shows(logits)
    ids = logits[0].sort(descending=True, stable=True).indices[:10].tolist()
    assert [row[0].replace("␣", " ") for row in shown.rows()[:10]] == [
        tokenizer.decode([i]) for i in ids
    ]
    assert shown.rows()[10][0] == "2,038 others"
    assert {row[3] for row in shown.rows()} == {"–"}
    values = shown.root.locator(".course-sampling-sliders .value").all_text_contents()
    assert values == ["1.00", "all", "1.00 (all)"]
    assert shown.about.text_content() == "2,048 of 2,048 tokens can be drawn."
    assert shown.drawn.text_content() == ""


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_table_shows_the_packages_probabilities(page, logits, settings):
    shown = Sampling(page)
    shown.set(*settings)
    assert shown.shows(logits, *settings)


def test_the_probabilities_of_the_models_scores_are_the_packages(page, logits, tokenizer):
    script = """async ([ids, many]) => {
        const model = new course.gpt.GPT(await course.load("story-1m"));
        const logits = model.next(ids);
        return many.map((settings) => [...course.gpt.nextTokenProbabilities(logits, settings)]);
    }"""
    settings = [*SETTINGS, (1.0, None, 1e-9), (1e-4, None, 1.0), (0.7, 2048, None)]
    many = [{"temperature": t, "topK": k, "topP": p} for t, k, p in settings]
    got = page.evaluate(script, [tokenizer.encode(PARK), many])
    for row, setting in zip(got, settings, strict=True):
        expected = next_token_probabilities(logits, *setting)[0].numpy()
        assert np.abs(np.array(row) - expected).max() < 1e-3, setting


def test_top_k_is_applied_before_top_p_and_both_after_the_temperature(page, logits):
    # Another order keeps another number of tokens; the page must show the package's.
    shown = Sampling(page)
    orders = set()
    for temperature, top_k, top_p in [(2.0, 20, 0.9), (1.0, 3, 0.7)]:
        shown.set(temperature, top_k, top_p)
        flat = next_token_probabilities(logits, temperature)
        top_p_first = next_token_probabilities(flat.log(), 1.0, None, top_p)[0] > 0
        plain = next_token_probabilities(logits, 1.0, top_k, top_p)[0] > 0
        orders.add(shown.can_be_drawn() != min(top_k, int(top_p_first.sum())))
        orders.add(temperature != 1.0 and shown.can_be_drawn() != int(plain.sum()))
        assert shown.shows(logits, temperature, top_k, top_p)
    assert True in orders


def test_what_is_cut_off_is_struck_out_and_says_why(page):
    shown = Sampling(page)
    shown.set(1.0, 5, 0.6)
    reasons = [row[2] for row in shown.rows()[:10]]
    # The first token holds 63 % of what the first five have together.
    assert reasons[1:] == [*["cut: top-p"] * 4, *["cut: top-k"] * 5]
    assert shown.table.locator("tbody s").count() == 9
    assert shown.rows()[10][0] == "2,038 others, all cut"
    assert "Before, those cut held 53.8 %." in shown.about.text_content()
    hollow = """rows => rows.map((row) =>
        getComputedStyle(row.querySelector(".bar"), "::before").backgroundColor)"""
    colors = shown.table.locator("tbody tr").evaluate_all(hollow)
    assert colors[0] != "rgba(0, 0, 0, 0)"
    assert set(colors[1:]) == {"rgba(0, 0, 0, 0)"}
    shown.set(1.0, 20, 1.0)
    assert shown.rows()[10][0] == "2,038 others, 2,028 cut"
    shown.set(0.0, None, 1.0)
    assert [row[2] for row in shown.rows()[:10]] == ["100.0 %", *["cut: temp. 0"] * 9]
    shown.press("As the model says")
    assert shown.can_be_drawn() == 2048
    assert shown.table.locator("s").count() == 0
    assert shown.temperature.input_value() == "1"


def mulberry32(seed):
    """Tommy Ettinger's generator, written again: numbers in [0, 1)."""
    state, mask = seed, 0xFFFFFFFF
    while True:
        state = (state + 0x6D2B79F5) & mask
        z = ((state ^ state >> 15) * (state | 1)) & mask
        z ^= (z + ((z ^ z >> 7) * (z | 61) & mask)) & mask
        yield ((z ^ z >> 14) & mask) / 2**32


def expected_tally(probabilities, seed, count):
    """(V) -> how often each of the ten most probable tokens, and the others, are drawn."""
    edges = probabilities.double().cumsum(dim=0)
    numbers = torch.tensor(list(itertools.islice(mulberry32(seed), count)), dtype=torch.float64)
    drawn = torch.searchsorted(edges, numbers, right=True)
    counts = torch.bincount(drawn, minlength=len(probabilities))
    return counts


def test_draws_are_those_of_the_seed_and_can_be_repeated(page, logits):
    shown = Sampling(page)
    ids = logits[0].sort(descending=True, stable=True).indices
    probabilities = next_token_probabilities(logits)[0]
    counts = expected_tally(probabilities, 1, 101)
    expected = [*counts[ids[:10]].tolist(), int(counts[ids[10:]].sum())]
    shown.press("Draw 100")
    assert shown.drawn.text_content().startswith("100 drawn, the last one “")
    shown.press("Draw")
    assert shown.tally() == expected
    assert "Of the others: “" in shown.drawn.text_content()
    shown.press("Start again")
    assert {row[3] for row in shown.rows()} == {"–"}
    assert shown.drawn.text_content() == ""
    shown.press("Draw")
    assert sum(shown.tally()) == 1
    shown.press("Draw 100")
    assert shown.tally() == expected
    shown.root.get_by_label("seed").fill("12")
    assert {row[3] for row in shown.rows()} == {"–"}  # another seed starts again
    shown.press("Draw 100")
    shown.press("Draw")
    counts = expected_tally(probabilities, 12, 101)
    other = [*counts[ids[:10]].tolist(), int(counts[ids[10:]].sum())]
    assert shown.tally() == other != expected
    for value in ("", "-3", "1e99", "2.5"):
        shown.root.get_by_label("seed").fill(value)
        shown.press("Draw")
        assert sum(shown.tally()) == 1


@pytest.mark.parametrize("settings", [(1.0, None, 1.0), (2.0, 6, 0.9), (0.0, None, 1.0)])
def test_many_draws_follow_the_distribution(page, logits, settings):
    shown = Sampling(page)
    shown.set(*settings)
    for _ in range(20):
        shown.press("Draw 100")
    after = next_token_probabilities(logits, *settings)[0]
    ids = logits[0].sort(descending=True, stable=True).indices
    expected = torch.tensor([*after[ids[:10]].tolist(), after[ids[10:]].sum()])
    tally = torch.tensor(shown.tally())
    assert tally.sum() == 2000
    assert (tally[expected == 0] == 0).all()
    assert (
        (tally / 2000 - expected).abs() <= 3.5 * (expected * (1 - expected) / 2000).sqrt()
    ).all()
    shown.top_p.press("ArrowLeft")
    assert {row[3] for row in shown.rows()} == {"–"}  # another distribution starts again


def test_the_sliders_and_buttons_answer_to_keys(page, logits):
    shown = Sampling(page)
    shown.text.focus()

    def press(*keys):
        for key in keys:
            page.keyboard.press(key)

    press("Tab", "ArrowLeft", "ArrowLeft")
    assert shown.temperature.get_attribute("aria-valuetext") == "0.90"
    assert shown.shows(logits, temperature=0.9)
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    press("Home")
    assert shown.shows(logits, temperature=0.0)
    press("End")
    assert shown.shows(logits, temperature=2.0)
    press("Tab", "Home", "ArrowRight")
    assert shown.top_k.get_attribute("aria-valuetext") == "2"
    assert shown.shows(logits, 2.0, top_k=2)
    press("End", "Tab", "Home")
    assert shown.top_p.get_attribute("aria-valuetext") == "0.01"
    assert shown.shows(logits, 2.0, top_p=0.01)
    values = shown.root.locator(".course-sampling-sliders .value").all_text_contents()
    assert values == ["2.00", "all", "0.01"]
    press("Tab", "Enter")  # as the model says
    assert shown.shows(logits)
    press("Tab", "Enter", "Enter")  # draw
    assert sum(shown.tally()) == 2
    press("Tab", "Space")
    assert sum(shown.tally()) == 102
    assert page.evaluate("document.activeElement.textContent") == "Draw 100"
    press("Tab", "Enter")
    assert {row[3] for row in shown.rows()} == {"–"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Without a text a story begins."),
        ("🐕👩‍👩‍👧", ""),
        ("a\x00b", ""),
        ("\n\n \t", ""),
        ("The dog ran. " * 100, "the context 256: the model sees the last 256."),
    ],
)
def test_any_text_has_a_next_token(page, model, tokenizer, text, said):
    shown = Sampling(page)
    shown.press("Draw 100")
    shown.text.fill(text)
    page.wait_for_function("document.querySelector('tfoot td:last-child').textContent === '–'")
    ids = tokenizer.encode_ordinary(text) or [2047]
    with torch.no_grad():
        assert shown.shows(model(torch.tensor([ids[-256:]]))[:, -1])
    assert shown.about.text_content().endswith(said or "tokens can be drawn.")
    shown.press("Draw 100")
    assert sum(shown.tally()) == 100
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_a_lone_surrogate_has_none(page):
    shown = Sampling(page)
    shown.text.evaluate("""input => {
        input.value = "a\\ud800";
        input.dispatchEvent(new Event("input"));
    }""")
    shown.table.wait_for(state="hidden")
    assert "lone surrogate" in shown.about.text_content()
    shown.temperature.press("ArrowLeft")  # changes nothing, and complains of nothing
    shown.text.fill("The")
    shown.table.wait_for()
    assert "tokens can be drawn." in shown.about.text_content()


# Both


def test_what_could_not_be_loaded_is_said_and_tried_again(chromium, demo, tmp_path):
    folder = shutil.copytree(demo.parent, tmp_path / "copy")
    data = folder / "widgets" / "data" / "story-1m.js"
    kept = data.rename(data.with_suffix(".kept"))
    opened = browser.Page(chromium, folder / "index.html")
    for kind in ("attention", "sampling"):
        root = opened.page.locator(f'[data-widget="{kind}"]')
        root.scroll_into_view_if_needed()
        root.get_by_text("data/story-1m.js could not be loaded.").wait_for()
    shutil.copyfile(kept, data)
    opened.page.get_by_label("A sentence").press("x")
    opened.page.get_by_label("A text").press("x")
    Attention(opened.page)
    Sampling(opened.page)
    opened.context.close()


def test_nothing_is_loaded_before_the_reader_is_near(chromium, demo):
    asked = []
    context = chromium.new_context(viewport={"width": 390, "height": 500})
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url.rsplit("/", 1)[-1]))
    html = demo.read_text(encoding="utf-8")
    far = demo.with_name("far.html")
    far.write_text(html.replace("<main>", '<main><div style="height: 3000px"></div>'), "utf-8")
    page.goto(far.as_uri())
    page.wait_for_timeout(300)
    assert "sampling.js" in asked
    assert "story-1m.js" not in asked
    page.locator('[data-widget="attention"]').scroll_into_view_if_needed()
    page.locator(".chip").first.wait_for()
    assert asked.count("story-1m.js") == 1
    context.close()


def test_paper_and_a_page_without_scripts_have_the_fallbacks(page, chromium, demo):
    Attention(page)
    fallback = page.get_by_text("the attention's fallback")
    assert not fallback.is_visible()
    page.emulate_media(media="print")
    assert fallback.is_visible()
    assert page.get_by_text("the sampling's fallback").is_visible()
    assert not page.get_by_label("A sentence").is_visible()
    opened = browser.Page(chromium, demo, java_script_enabled=False)
    for kind in ("attention", "sampling"):
        assert opened.page.get_by_text(f"the {kind}'s fallback").is_visible()
    opened.context.close()


# The contrast of each text with what is behind it; a chip counts as full, which is the worst case.
CONTRAST = """() => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    const pixel = (color) => {
        context.clearRect(0, 0, 1, 1);
        context.fillStyle = color;
        context.fillRect(0, 0, 1, 1);
        return [...context.getImageData(0, 0, 1, 1).data];
    };
    const luminance = (color) => {
        const [r, g, b] = pixel(color).slice(0, 3).map((value) => {
            const x = value / 255;
            return x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4;
        });
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const probe = document.createElement("div");
    document.querySelector(".course-widget").append(probe);
    probe.style.backgroundColor = "var(--w-fill)";
    const fill = getComputedStyle(probe).backgroundColor;
    probe.remove();
    const behind = (element) => {
        for (let e = element; e; e = e.parentElement) {
            if (e.matches(".chip:not(.masked)")) return fill;
            const color = getComputedStyle(e).backgroundColor;
            if (pixel(color)[3] === 255) return color;
        }
        return "white";
    };
    const found = [];
    for (const element of document.querySelectorAll(".course-widget-live *")) {
        const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.data.trim());
        if (!own || !element.checkVisibility()) continue;
        const style = getComputedStyle(element);
        const [a, b] = [luminance(style.color), luminance(behind(element))].sort((x, y) => x - y);
        found.push([(b + 0.05) / (a + 0.05), element.className || element.tagName]);
    }
    return found;
}"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_text_has_enough_contrast(page, theme):
    page.evaluate("theme => (document.documentElement.dataset.theme = theme)", theme)
    Attention(page).tokens.nth(3).click()
    shown = Sampling(page)
    shown.set(1.0, 5, 0.6)
    shown.press("Draw 100")
    found = page.evaluate(CONTRAST)
    assert len(found) > 100
    assert min(found)[0] >= 4.5, min(found)


def test_everything_to_press_has_a_name(page):
    Attention(page)
    Sampling(page)
    nameless = """elements => elements.filter((element) =>
        element.checkVisibility() && !(element.textContent.trim()
            || element.getAttribute("aria-label") || element.labels?.length)).length"""
    assert page.locator("button, input, textarea, [role=option]").evaluate_all(nameless) == 0
    repeated = """() => {
        const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
        return ids.filter((id, place) => ids.indexOf(id) !== place);
    }"""
    assert page.evaluate(repeated) == []
