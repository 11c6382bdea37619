"""A report is one file with everything in it, and says what it is of."""

import base64
import html.parser
import io
import re
import wave
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from report_runs import KINDS, page_of, run_of

from zforcing_pyro.analysis import plots
from zforcing_pyro.analysis.posterior import Probe
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.report import names_of, report
from zforcing_pyro.app.report.answers import ahead, meaningful
from zforcing_pyro.app.report.findings import chosen
from zforcing_pyro.app.report.html import element, picture, player, section, table
from zforcing_pyro.app.report.meaning import decoded
from zforcing_pyro.app.report.sound import RATE, played, sound
from zforcing_pyro.data import FSDD, Sequences, corpus

FEW = {"num": 8, "num_particles": 25}

pytestmark = pytest.mark.xdist_group("report")  # runs and pages are made once


@pytest.fixture(autouse=True)
def float32(float64_and_seed):
    torch.set_default_dtype(torch.float32)


class Elements(html.parser.HTMLParser):
    """What is in a page: elements with their attributes, and that each is closed."""

    VOID = {"meta", "link", "img"}

    def __init__(self, text):
        super().__init__()
        self.found, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_is_inside(kind):
    text = page_of(kind).read_text()
    assert len(text) < 10e6
    page = Elements(text)
    addresses = [v for _, a in page.found for k, v in a.items() if k in ("src", "href")]
    assert addresses and all(address.startswith("data:") for address in addresses)
    assert "url(" not in text and not page.attributes("script")
    pictures = page.attributes("img")
    assert len(pictures) >= 8 and len({a["alt"] for a in pictures}) >= 7
    assert len(page.attributes("audio")) == (6 if kind in ("music", "speech") else 0)
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    assert levels == [1] + [2] * 6
    said = " ".join(page.text)
    for part in ("Protocol: elbo with K=1", "Protocol: iwae with K=25", "8 of ", "z_dim: 3"):
        assert part in said
    for tag in re.findall(r"\[\[|\bnan\b|None", re.sub("<pre>.*?</pre>", "", text, flags=re.S)):
        raise AssertionError(tag)


@pytest.mark.slow
def test_text_is_no_markup():
    text = page_of("text").read_text()
    assert "&lt;b&gt;" in text and "<b>" not in text


@pytest.mark.slow
def test_several_runs_stand_side_by_side(tmp_path):
    runs = [run_of("digits"), run_of("digits", "rnn")]
    file = report(runs, tmp_path / "new" / "both.html", **FEW)
    page = Elements(file.read_text())
    levels = [int(tag[1]) for tag, _ in page.found if re.fullmatch("h[1-6]", tag)]
    # Without latents there is neither trust in them nor meaning, but there are predictive checks.
    assert levels == [1, 2, 2] + [3] * 6 + [2] + [3] * 5
    first = page.found.index(("table", {}))
    assert [tag for tag, _ in page.found[:first]].count("section") == 1
    said = " ".join(page.text)
    assert "rnn" in said and "its bound is the exact log-likelihood" in said
    links = [a["href"] for a in page.attributes("a")]
    assert links == ["#run-0", "#run-1"]
    assert [f"#{a['id']}" for a in page.attributes("div") if "id" in a] == links


@pytest.mark.slow
def test_what_a_model_has_not_is_not_spoken_of(tmp_path):
    text = report(
        [run_of("digits", "rnn")], tmp_path / "rnn.html", **FEW | {"num": 900}
    ).read_text()
    said = " ".join(Elements(text).text)
    assert "all 250 test sequences" in said and "drawn at random; 25 draws" not in said
    for part in ("elbo, K = 1", "By the elbo", "draws of the guide", "KL, nats per", "250 of 250"):
        assert part not in said, part
    assert "log-likelihood" in said and "no better than the trivial one" in said


@pytest.mark.parametrize(
    ("kl", "in_use", "verdict"),
    [
        (0.05, 0, "hardly: the latents have collapsed"),
        (200.0, 0, "not clear"),
        (0.5, 1, "a little"),
        (5.0, 2, "yes"),
    ],
)
def test_a_kl_of_small_latents_is_no_collapse(kl, in_use, verdict):
    flags = np.arange(4) < in_use
    them = SimpleNamespace(
        kl=SimpleNamespace(per_sequence=np.array([kl]), in_use=flags), best_future=list, probes=[]
    )
    said = meaningful(SimpleNamespace(latents=them))
    assert f"Does z mean anything? {verdict}<" in said and f"{in_use} of 4 are in use" in said
    assert ("No latent has a KL above 0.01" in said) == (verdict == "not clear")


@pytest.mark.parametrize(("accuracy", "is_read"), [(0.5, True), (0.32, False), (0.1, False)])
def test_a_probe_that_guesses_reads_nothing(accuracy, is_read):
    probe = Probe("digit", "z", accuracy, 0.02, 0.3, 2, 10)
    kl = SimpleNamespace(per_sequence=np.ones(1), in_use=np.ones(1, bool))
    them = SimpleNamespace(kl=kl, best_future=list, probes=[probe])
    said = meaningful(SimpleNamespace(latents=them))
    assert ("no better than chance" not in said) == is_read


@pytest.mark.parametrize(
    ("horizon", "said"), [(0, "at its own step"), (1, "1 step ahead"), (2, "2 steps ahead")]
)
def test_steps_are_counted_in_words(horizon, said):
    assert ahead(horizon) == said


def test_a_picture_keeps_the_colour_of_a_few_dots():
    """A palette of what there is most of would lose them."""
    axes = plots.pareto_k(np.linspace(-1, 1, 100))
    axes.imshow(np.random.default_rng(0).random((200, 200)), extent=(0, 1, -1, 0), aspect="auto")
    axes.plot(0.5, 0.9, "o", color="#CC79A7", ms=4)
    (source,) = re.findall(r"base64,([^\"]+)", picture(axes, "dots"))
    image = Image.open(io.BytesIO(base64.b64decode(source)))
    assert image.mode == "P"
    far = np.abs(np.asarray(image.convert("RGB")).astype(int) - [0xCC, 0x79, 0xA7]).max(-1)
    assert (far <= 12).sum() > 10


def test_equal_sentences_share_a_line():
    text = SimpleNamespace(view="text", as_text=lambda x: x)
    xs = [SimpleNamespace(cpu=lambda: "a b"), SimpleNamespace(cpu=lambda: "c")]
    run = SimpleNamespace(corpus=text)
    columns = ["data", "own z", "z exchanged"]
    said = Elements(decoded(run, [[xs[1], xs[0], xs[0]]], ["first"], columns, "latents")).text
    assert "own z and z exchanged" in said
    columns = ["0", "0.33", "0.67", "1"]
    said = Elements(decoded(run, [[xs[0]] * 3 + [xs[1]]], ["argmax"], columns, "place")).text
    assert "0 to 0.67" in said


@pytest.mark.slow
def test_runs_on_other_data_are_refused(tmp_path, capsys):
    runs = [str(run_of("digits")), str(run_of("music"))]
    capsys.readouterr()
    assert main(["report", *runs, f"--out={tmp_path / 'x.html'}"]) == 2
    assert "numbers of one table must be on the same data" in capsys.readouterr().err
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "'runs' must be 1 to 8, got 0"),
        ([f"{i}" for i in range(9)], "'runs' must be 1 to 8, got 9"),
        (["a", "b", "a"], "'runs' must differ"),
        (["nowhere"], "'run' must be a folder that 'zforcing train' wrote"),
    ],
)
def test_a_mistake_is_told(runs, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        report(runs, tmp_path / "x.html")


def test_a_folder_is_no_page(tmp_path):
    """Told before anything is measured."""
    with pytest.raises(ValueError, match="'file' must not be a folder"):
        report(["nowhere"], tmp_path)


def test_names_are_as_short_as_they_can_be():
    assert names_of(["a/x", "b/x", "b/y"]) == ["a/x", "b/x", "b/y"]
    assert names_of(["/r/x"]) == ["x"]


def test_sequences_are_chosen_by_their_number_of_steps():
    test = corpus("digits").split("test")
    index = chosen(test, None)
    assert len(index) == 125 and len(set(index.tolist())) == 125
    assert torch.equal(chosen(test, 5), chosen(test, 5)) and len(chosen(test, 900)) == 250
    short, long = (Sequences([torch.zeros(n, 1)] * 300) for n in (1, 5000))
    assert len(chosen(short, None)) == 128 and len(chosen(long, None)) == 8
    with pytest.raises(ValueError, match="'num' must be positive, got 0"):
        chosen(test, 0)


def test_a_key_sounds_at_its_pitch_for_as_long_as_it_is_held():
    keys = np.zeros((6, 88), bool)
    keys[1:3, 48] = True  # A4
    samples = played(keys, 0.25)
    size = round(0.25 * RATE)
    assert len(samples) == 6 * size and np.abs(samples).max() == pytest.approx(0.7)
    assert not samples[:size].any() and not samples[3 * size :].any()
    held = samples[size : 3 * size]
    spectrum = np.abs(np.fft.rfft(held))
    assert spectrum.argmax() * RATE / len(held) == pytest.approx(440, abs=3)
    jump = np.abs(np.diff(np.r_[0.0, held, 0.0]))
    assert jump[0] < 0.01 and jump[-1] < 0.01  # no clicks
    assert not played(np.zeros((2, 88), bool), 0.1).any()


def test_held_on_is_struck_once_and_a_high_key_does_not_alias():
    keys = np.zeros((4, 88), bool)
    keys[:, 87] = True
    whole = played(keys, 0.1)
    spectrum = np.abs(np.fft.rfft(whole))
    assert spectrum.argmax() * RATE / len(whole) == pytest.approx(4186, abs=6)
    folded = round((RATE - 2 * 4186) * len(whole) / RATE)  # where an overtone would fold to
    assert spectrum[folded - 9 : folded + 9].max() < 1e-2 * spectrum.max()
    quarter = len(whole) // 4
    energy = [np.square(whole[i * quarter : (i + 1) * quarter]).sum() for i in range(4)]
    assert energy == sorted(energy, reverse=True)


@pytest.mark.parametrize(("max_bytes", "num"), [(10**6, 2000), (1000, 500)])
def test_speech_is_what_was_recorded(max_bytes, num):
    speech = FSDD(frame=100)
    speech.restore({"mean": 3.0, "std": 500.0, "frame": 100, "sample_rate": 8000})
    x = torch.randn(20, 100)
    content, is_whole = sound(x, speech, max_bytes)
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(file.readframes(10**6), "<i2")
    assert np.array_equal(samples, speech.samples(x)[:num]) and is_whole == (num == 2000)


def test_a_roll_is_cut_where_it_is_too_long():
    content, is_whole = sound(torch.ones(100, 88), corpus("jsb"), 50_000)
    assert not is_whole and len(content) == 50_000 + 44


def test_pieces_of_a_page_are_escaped():
    assert table(["<a>"], [["&", "<"]]).count("&lt;") == 2
    assert element("p", title='"x"') == '<p title="&quot;x&quot;"></p>'
    assert 'aria-label="&quot;"' in player(b"x", '"')
    assert element("p", class_="a", aria_label="b") == '<p class="a" aria-label="b"></p>'
    assert section("empty", "") == ""
