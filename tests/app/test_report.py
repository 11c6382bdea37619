"""Reports are one file that says what it measured, and that no name or link misleads."""

import html.parser
import io
import re
import shutil
import wave
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from report_runs import KINDS, page_of, run_of

from zforcing_pyro.analysis import plots
from zforcing_pyro.analysis.posterior import Probe
from zforcing_pyro.app.cli import main
from zforcing_pyro.app.report import comparison, environment, names_of, report
from zforcing_pyro.app.report.figures import RATE, played, sound, svg
from zforcing_pyro.app.report.findings import Latents, chosen
from zforcing_pyro.app.report.numbers import digits
from zforcing_pyro.data import FSDD, Sequences, corpus

FEW = {"num": 8, "num_particles": 25}
HOSTILE = "_$x_{$<img src=x onerror=alert(1)>\x1b[31m"

# Runs and pages are made once.
pytestmark = [pytest.mark.xdist_group("report"), pytest.mark.usefixtures("float32")]


class Elements(html.parser.HTMLParser):
    """The elements of a page with their attributes, all of them closed, and its words."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text = [], [], []
        self.feed(text)
        assert self.open == []
        self.words = re.sub(r"\s+", " ", " ".join(self.text))

    def handle_starttag(self, tag, attributes):
        self.handle_startendtag(tag, attributes)
        self.open += [tag] if tag not in ("meta", "link", "img") else []

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def attributes(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_page_holds_everything(kind):
    """W21: densities have no bits per dimension; text is never markup."""
    text = page_of(kind).read_text(encoding="utf-8")
    assert len(text) < 10e6
    page = Elements(text)
    names = ("src", "href", "xlink:href")
    addresses = [v for _, a in page.elements for k, v in a.items() if k in names]
    assert addresses and all(a.startswith(("data:", "#")) for a in addresses)
    assert not page.attributes("script") and not re.search(r"url\((?!#)", text)
    assert not [k for _, a in page.elements for k in a if k.startswith("on")]
    identifiers = [a["id"] for _, a in page.elements if "id" in a]
    assert len(set(identifiers)) == len(identifiers)
    plotted = [a["aria-label"] for a in page.attributes("div") if a.get("role") == "img"]
    assert len(plotted) == len(page.attributes("svg")) >= 8 and len(set(plotted)) >= 7
    assert len(page.attributes("audio")) == (6 if kind in ("music", "speech") else 0)
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels.count(1) == 1 and levels.count(2) == 6
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for part in ("Protocol: elbo with K=1", "Protocol: iwae with K=25", "8 of ", "z_dim: 3"):
        assert part in page.words
    assert ("log-densities" in page.words) == (kind == "speech")
    assert ("bits per dimension 1" in page.words) == (kind == "digits")
    assert not re.search(r"\bnan\b|None", re.sub("<pre>.*?</pre>", "", text, flags=re.DOTALL))
    assert "<b>" not in text and ("&lt;b&gt;" in text) == (kind == "text")


@pytest.mark.slow
def test_runs_stand_side_by_side(tmp_path, capsys):
    """W20: differences are paired, seeds are aggregated, a table is LaTeX; C5: any name."""
    hostile = tmp_path / HOSTILE
    shutil.copytree(run_of("digits"), hostile)
    shutil.copytree(run_of("digits"), tmp_path / "copy")  # no third seed
    runs = [hostile, run_of("digits", seed=1), run_of("digits", "rnn"), tmp_path / "copy"]
    stages, file = [], tmp_path / "new" / "all.html"
    report(runs, file, **FEW, latex=True, progress=stages.append)
    text = file.read_text(encoding="utf-8")
    page = Elements(text)
    assert not page.attributes("img") and "$x_{$" in page.words
    links = [a["href"] for a in page.attributes("a")]
    assert links == [f"#run-{i}" for i in range(4)]
    assert {link[1:] for link in links} <= {a.get("id") for a in page.attributes("section")}
    for part in ("its bound is the exact log-likelihood", "(2 seeds)", "(1 seed)",
                 "by sequence and seed, on 8 of 250", "Ranked by the tightest bound"):  # fmt: skip
        assert part in page.words, part
    assert sum("2 of 4, digits-zforcing-1: " in stage for stage in stages) > 5
    latex = file.with_suffix(".tex").read_text(encoding="utf-8")
    assert latex.count(r"\begin{tabular}") == 4 and r"\$x\_\{\$" in latex and r"$\pm$" in latex
    report(runs[1:2], file, **FEW)  # an earlier report is replaced
    assert "(2 seeds)" not in file.read_text(encoding="utf-8")


@pytest.mark.slow
def test_model_without_latents_has_only_its_likelihood(tmp_path):
    file = report([run_of("digits", "rnn")], tmp_path / "x.html", **FEW | {"num": 900})
    words = Elements(file.read_text(encoding="utf-8")).words
    assert "all 250 test sequences" in words and "no better than the trivial one" in words
    for part in ("elbo, nats", "draws of the guide", "KL, nats per", "250 of 250", "Meaning"):
        assert part not in words, part
    assert "Attention" not in words


@pytest.mark.slow
@pytest.mark.parametrize("data", [["--data=points"], ["--data=digits", "--data.vectors=true"]])
def test_model_of_vectors_is_trained_evaluated_sampled_and_reported(tmp_path, data, capsys):
    run, options = tmp_path / "run", ["--model.hidden_dim=8", "--model.steps=4", "--max_updates=8"]
    options += ["--training.validate_every=4", "--training.validate_on=32", f"--out={run}"]
    assert main(["train", "--model=walkback", *data, *options]) == 0
    assert main(["evaluate", str(run), "--bound=iwae", "--particles=5"]) == 0
    assert "protocol: iwae with K=5" in capsys.readouterr().out
    assert main(["sample", str(run), "--num=9"]) == 0
    assert np.load(run / "samples" / "samples.npz")["x"].shape[:2] == (9, 1)
    file = report([run], tmp_path / "x.html", **FEW)
    words = Elements(file.read_text(encoding="utf-8")).words
    for part in ("Latents are a walk", "elbo, nats per sequence", "iwae, K = 25", "4 steps"):
        assert part in words, part
    assert "exact log-likelihood" not in words


@pytest.mark.slow
def test_a_run_without_curves_is_told(tmp_path):
    shutil.copytree(run_of("digits"), run := tmp_path / "run")
    (run / "metrics.csv").write_bytes(b"\0garbage,\n1,2\n")
    with pytest.warns(UserWarning, match="metrics.csv' has no row of training"):
        report([run], tmp_path / "x.html", **FEW)


@pytest.mark.slow
def test_report_draws_the_attention_of_sab(tmp_path):
    file = report([run_of("digits", "sab")], tmp_path / "x.html", **FEW)
    words = Elements(file.read_text(encoding="utf-8")).words
    for part in ("Attention", "memory, by the pixel that wrote it", "exact log-likelihood"):
        assert part in words, part


def subject(name, values, num_all=50):
    """A run as a comparison sees it, with bounds on the same sequences."""
    subset = f"{len(values)} of {num_all} test sequences, drawn at random"
    measured = SimpleNamespace(bounds={"elbo": values, "iwae, K = 25": values}, subset=subset)
    run = SimpleNamespace(name=name, findings=measured, experiment=SimpleNamespace(seed=0))
    return comparison.Arm(name, [run])


def test_ranking_says_when_sequences_are_too_few():
    """W20: on all 50 sequences a is better, on the first 8 b is, though not clearly."""
    rng = np.random.default_rng(3)
    spread, b = rng.normal(0, 3, 50), rng.normal(-100, 20, 50)
    a = b + 0.9 + spread - spread.mean()
    a[:8] = b[:8] - 0.3 + spread[:8] - spread[:8].mean()
    a[8:] += 1.0
    few = comparison.ranking([subject("a", a[:8]), subject("b", b[:8])])
    assert "b ≈ a" in few and "8 of 50 test sequences" in few and "not enough to rank" in few
    assert comparison.ranking([subject("a", a), subject("b", b)]).endswith("a > b.")
    pair = comparison.difference(a, b)
    assert pair.mean == pytest.approx((a - b).mean())
    assert pair.error == pytest.approx((a - b).std(ddof=1) / 50**0.5)
    assert pair.high - pair.mean == pytest.approx(2.0096 * pair.error, rel=1e-4)  # t, 49 d. f.
    assert not comparison.difference([1.0], [0.0]).is_clear


def test_arms_are_paired_by_their_common_seeds():
    values = {}
    for name, shift, seeds in (("plain", 0.0, (0, 1)), ("kla", 2.0, (0, 1)), ("aux", 5.0, (1, 2))):
        for seed in seeds:
            values[name, seed] = np.arange(4.0) + shift + 10 * seed
    runs = []
    for (name, seed), bound in values.items():
        config = {"name": name, "seed": seed, "out": f"{name}-{seed}"}
        experiment = SimpleNamespace(seed=seed, config=lambda c=config: c)
        measured = SimpleNamespace(bounds={"log-likelihood": bound}, subset="all 4 test sequences")
        runs.append(
            SimpleNamespace(name=f"{name}-{seed}", experiment=experiment, findings=measured)
        )
    arms = comparison.arms(runs)
    assert [arm.name for arm in arms] == [f"{n} (2 seeds)" for n in ("plain-0", "kla-0", "aux-1")]
    assert [arms[i].minus(arms[j]).mean for i, j in ((1, 0), (2, 0), (2, 1))] == [2.0, 5.0, 3.0]
    assert comparison.ranking(arms).endswith(
        "aux-1 (2 seeds) > kla-0 (2 seeds) > plain-0 (2 seeds)."
    )


def answers(k=(0.1,), calibrated=True, kl=1.0, in_use=0, probes=()):
    """The words of the two boxes at the top of a page."""
    fields = dict.fromkeys(("curve", "protocol", "codes", "information", "future"))
    weights = SimpleNamespace(pareto_k=np.array(k), ess=np.ones(len(k)), log_weight=[0] * 25)
    latents = Latents(
        importance=weights,
        calibration=SimpleNamespace(calibrated=calibrated, level=0.01),
        kl=SimpleNamespace(per_sequence=np.array([kl]), in_use=np.arange(4) < in_use),
        probes=probes,
        **fields,
    )
    macros = environment().get_template("run.html").module
    return Elements(macros.answers(SimpleNamespace(data=k, weights=weights), latents)).words


def test_infinite_pareto_k_is_not_to_be_trusted():
    """W8: infinity and NaN are above 0.7."""
    for k, calibrated, answer in (
        ([0.1, 0.2, np.inf, np.nan], True, "with care Pareto k-hat is above 0.7 for 2 of 4"),
        ([0.1, np.inf, np.inf, 0.8], True, "no Pareto k-hat is above 0.7 for 3 of 4"),
        ([0.1, -np.inf, 0.2, 0.7], True, "yes, as far as these tests see Pareto k-hat is above"),
        ([0.1, 0.1, 0.2, 0.7], False, "with care Pareto k-hat is above 0.7 for 0 of 4"),
    ):
        assert f"Can the posterior be trusted? {answer}" in answers(k, calibrated)


def test_meaning_needs_kl_and_latents_in_use():
    probes = [Probe("digit", "z", accuracy, 0.02, 0.3, 2, 10) for accuracy in (0.5, 0.32, 0.1)]
    for kl, in_use, answer in (
        (0.05, 0, "hardly"),
        (200.0, 0, "not clear"),
        (0.5, 1, "a little"),
        (5.0, 2, "yes"),
    ):
        words = answers(kl=kl, in_use=in_use, probes=probes)
        assert f"Does z mean anything? {answer}" in words and f"{in_use} of 4 are in use" in words
        assert ("No latent has a KL above 0.01" in words) == (answer == "not clear")
        assert words.count("no better than chance") == 2


def test_svg_follows_the_page_and_texts_are_safe():
    rows = {HOSTILE: [{"step": "1", "bound": "-3"}], "b": []}
    text, again = (svg(plots.training_curves(rows, ["bound"])) for _ in range(2))
    assert "currentColor" in text and "#000000" not in text and "font-family" not in text
    assert "&lt;img" in text and "<img" not in text and "\x1b" not in text
    assert text == again
    assert digits(1e300) == "1e+300" and digits(np.inf) == "∞"  # C3: not 300 digits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.yaml", "metrics.csv", "page.html", "link.html", "dead"])
def test_no_other_file_is_written(name, tmp_path, capsys):
    """D1: neither a run's files nor a foreign page; no link in a run is followed."""
    run, outside = tmp_path / "run", tmp_path / "outside.html"
    shutil.copytree(run_of("digits"), run)
    for file in (outside, run / "page.html"):
        file.write_text("<p>mine")
    (run / "link.html").symlink_to(outside)
    (run / "dead").symlink_to(tmp_path / "elsewhere")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    out = run / (f"{name}/x.html" if name == "dead" else name)
    capsys.readouterr()
    assert main(["report", str(run), "--num=8", "--particles=25", f"--out={out}"]) == 2
    assert "must" in capsys.readouterr().err
    after = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert before == after and not (tmp_path / "elsewhere").exists()


@pytest.mark.slow
def test_runs_on_other_data_are_refused(tmp_path):
    with pytest.raises(ValueError, match="numbers of one table must be on the same data"):
        report([run_of("digits"), run_of("music")], tmp_path / "x.html")
    data = [Sequences([torch.zeros(n, 1) for n in lengths]) for lengths in ((2, 3), (2, 2))]
    pair = [SimpleNamespace(name="ab"[i], findings=SimpleNamespace(data=data[i])) for i in range(2)]
    with pytest.raises(ValueError, match="'runs' must be measured on the same sequences"):
        comparison.check_same_sequences(pair)


def test_mistakes_are_told_before_anything_is_measured(tmp_path):
    for runs, options, message in (
        ([], {}, "'runs' must be 1 to 8, got 0"),
        (["a", "b", "a"], {}, "'runs' must differ"),
        (["nowhere"], {"latex": True}, "'latex' must come with several runs"),
    ):
        with pytest.raises(ValueError, match=message):
            report(runs, tmp_path / "x.html", **options)
    assert names_of(["a/x", "b/x", "b/y"]) == ["a/x", "b/x", "b/y"]


def test_sequences_are_chosen_by_their_number_of_steps():
    test = corpus("digits").split("test")
    index = chosen(test, None)
    assert len(index) == 125 and len(set(index.tolist())) == 125
    assert torch.equal(chosen(test, 5), chosen(test, 5)) and len(chosen(test, 900)) == 250
    short, long = (Sequences([torch.zeros(n, 1)] * 300) for n in (1, 5000))
    assert len(chosen(short, None)) == 128 and len(chosen(long, None)) == 8


def test_key_sounds_at_its_pitch_for_as_long_as_it_is_held():
    keys = np.zeros((6, 88), bool)
    keys[1:3, 48] = True  # A4
    samples, size = played(keys, 0.25), round(0.25 * RATE)
    assert len(samples) == 6 * size and np.abs(samples).max() == pytest.approx(0.7)
    assert not samples[:size].any() and not samples[3 * size :].any()
    held = samples[size : 3 * size]
    assert np.abs(np.fft.rfft(held)).argmax() * RATE / len(held) == pytest.approx(440, abs=3)
    jump = np.abs(np.diff(np.r_[0.0, held, 0.0]))
    assert jump[0] < 0.01 and jump[-1] < 0.01  # no clicks
    energy = [np.square(part).sum() for part in np.array_split(held, 4)]
    assert energy == sorted(energy, reverse=True)  # struck once
    high = np.zeros((4, 88), bool)
    high[:, 87] = True
    spectrum = np.abs(np.fft.rfft(tone := played(high, 0.1)))
    folded = round((RATE - 2 * 4186) * len(tone) / RATE)  # where an overtone would fold to
    assert spectrum[folded - 9 : folded + 9].max() < 1e-2 * spectrum.max()
    assert not played(np.zeros((2, 88), bool), 0.1).any()


@pytest.mark.parametrize(("max_bytes", "num"), [(10**6, 2000), (1000, 500)])
def test_speech_is_played_as_recorded(max_bytes, num):
    speech = FSDD(frame=100)
    speech.restore({"mean": 3.0, "std": 500.0, "frame": 100, "sample_rate": 8000})
    x = torch.randn(20, 100)
    content, is_complete = sound(x, speech, max_bytes)
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, 1, 2)
        samples = np.frombuffer(file.readframes(10**6), "<i2")
    assert np.array_equal(samples, speech.samples(x)[:num]) and is_complete == (num == 2000)
    content, is_complete = sound(torch.ones(100, 88), corpus("jsb"), 50_000)
    assert not is_complete and len(content) == 50_000 + 44
