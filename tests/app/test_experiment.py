"""A run's options: names, files, presets, and what is refused."""

import json
from pathlib import Path

import pytest
import torch

from zforcing_pyro.app.configuration import PRESETS, SECTIONS, items
from zforcing_pyro.app.experiment import describe, git_commit, load_experiment
from zforcing_pyro.app.plain_yaml import read_config
from zforcing_pyro.training import TrainingOptions

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))


@pytest.fixture
def written(tmp_path):
    def write(text: str) -> list[str]:
        (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
        return ["--config", str(tmp_path / "config.yaml")]

    return write


def test_options_override_the_file_and_the_file_overrides_defaults(written):
    config = written("model: {z_dim: 8, h_dim: 16}\ntraining: {lr: 3.0e-4}\nmax_updates: 5\n")
    for args in ([*config, "--model.h_dim", "32"], ["--model.h_dim=32", *config]):
        experiment = describe(args)
        assert (experiment.model["z_dim"], experiment.model["h_dim"]) == (8, 32)
        assert (experiment.training.lr, experiment.max_updates) == (3e-4, 5)
        assert experiment.model["hidden_dim"] == describe().model["hidden_dim"]


def test_options_of_a_class_that_is_overridden_are_left_out(written):
    """R2: the configuration's model is Z-Forcing; a VRNN has no auxiliary input."""
    config = written("model: {name: zforcing, aux_input: h_z, z_dim: 7}\n")
    with pytest.warns(UserWarning, match="'vrnn' has no --model.aux_input: left out"):
        experiment = describe([*config, "--model", "vrnn"])
    assert experiment.model["name"] == "vrnn" and experiment.model["z_dim"] == 7
    with pytest.raises(ValueError, match=r"unknown option '--model.aux_input'"):
        describe(["--model", "vrnn", "--model.aux_input=z"])
    with pytest.raises(ValueError, match=r"unknown option '--model.aux_inpt'"):
        describe([*written("model: {name: zforcing, aux_inpt: z}\n"), "--model", "vrnn"])


def test_numbers_in_yaml_are_numbers(written):
    """1e-3 is text to YAML 1.1, and 010 is 8."""
    config = written("max_updates: 1e1\nseed: 010\ntraining: {lr: 1e-3, weight_decay: 1e-6}\n"
                     "bound: {kl_weight: 1e0}\n")  # fmt: skip
    experiment = describe(config)
    assert (experiment.max_updates, experiment.seed, experiment.bound["kl_weight"]) == (10, 10, 1.0)
    assert (experiment.training.lr, experiment.training.weight_decay) == (1e-3, 1e-6)


def test_every_name_of_every_section_can_be_described():
    for kind, registry in SECTIONS.items():
        for name in registry:
            assert getattr(describe([f"--{kind}", name]), kind)["name"] == name


def test_presets_are_defaults():
    paper, code = describe(["--preset", "paper"]), describe(["--preset", "official_code"])
    assert describe().preset == "default" and paper.model["reverse_weight"] == 0.005
    for section, options in PRESETS["official_code"].items():
        for name, value in options.items():
            ours = code.config()[section][name]
            assert ours == value and (name == "name" or paper.config()[section][name] != value)
    override = ["--preset", "official_code", "--model.scale", "log_scale"]
    assert describe(override).model["scale"] == "log_scale"
    assert describe(["--preset", "official_code", "--model", "vrnn"]).training.keep == "last"
    assert describe().training.aux_end == 0 and describe().model["reverse_unit"] == "frame"
    other = describe(["--model", "vrnn"])
    assert (
        other.training == TrainingOptions() and describe(["--bound", "iwae"]).training.aux_end == 0
    )


def test_weights_are_a_function_of_the_seed():
    def weights(seed):
        net = describe(["--seed", str(seed), "--model.h_dim", "8"]).net(x_dim=1)
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    "args, message",
    [
        (["--model", "vrn"], r"'model' must be one of \[.*\], got 'vrn'; did you mean 'vrnn'\?"),
        (["--model.z_dm", "3"], r"unknown option '--model.z_dm'; did you mean '--model.z_dim'\?"),
        (["--lr", "3"], r"unknown option '--lr'; did you mean '--training.lr'\?"),
        (["--max_updates=1e3"], "'--max_updates' must be int, got '1e3'"),
        (["--seed", "1:30"], "'--seed' must be a number, got '1:30'"),
        (["--training.free_bits", "1e308"], r"'--training.free_bits' must be less than 2\*\*126"),
        (["--training.loggers", "csv"], r"loggers' must be a list: \[a, b\], got 'csv'"),
        (["--model.scale", "x"], r"'--model.scale' must be one of \['log_scale', .*, got 'x'"),
        (["--config"], "--config: expected one argument"),
        (["--config", "nope.yaml"], "'--config' must be a YAML file, got 'nope.yaml': no such"),
        (["--config", "/dev/null"], "'--config' must be .*'/dev/null': another kind of file"),
    ],
)
def test_a_mistake_is_named(args, message):
    with pytest.raises(ValueError, match=message) as error:
        describe(args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text, message",
    [
        ("- a\n- b\n", "must hold options by name, got list"),
        ("training: 3", "'training' must stand once, as an option or as a section"),
        ("model: vrnn\nmodel.name: srnn", "'model.name' must stand once"),
        ("seed: 1\nseed: 2", "the key 'seed' a second time"),
        ("a: &a [1, 1]\nb: [*a, *a]", "an anchor or a tag"),
        ("a: !!python/object:os.system x", "an anchor or a tag"),
        ("? [a]\n: 1", "a key that is not a name"),
        ("a: " + "[" * 50_000, "too many levels"),
        ("#" * 100_001, "at most 100,000 bytes"),
        ("seed: 2020-01-01", "'--seed' must be int, got '2020-01-01'"),
        ("seed: " + "9" * 5_000, "must be a YAML file"),
        ("data: {name: arrays, path: true}", "'--data.path' must be one of str, .*, got 'True'"),
        ("training: {window: 1000000000000000000000}", "'--training.window' must be less than 2"),
    ],
)
def test_a_file_that_is_not_a_configuration_is_named(written, text, message):
    """C1, C2, W19."""
    with pytest.raises(ValueError, match=message) as error:
        describe(written(text))
    assert "\n" not in str(error.value)


def test_a_saved_experiment_is_read_back(tmp_path):
    args = ["--emission.hidden_dims", "[8, 8]", f"--out={tmp_path}", "--data_dir=1e3"]
    experiment = describe(args)
    experiment.save(tmp_path, experiment.corpus(), ["zforcing", "train"])
    assert load_experiment(tmp_path) == experiment
    assert "torch" in json.loads((tmp_path / "environment.json").read_text())["packages"]


def test_the_commit_is_that_of_this_package(tmp_path):
    """W12: not that of a repository that encloses an installed package."""
    commit, git = "1" * 40, tmp_path / ".git"
    (git / "refs/heads").mkdir(parents=True)
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    (git / "refs/heads/main").write_text(commit + "\n")
    assert git_commit(tmp_path) is None
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = other\n")
    assert git_commit(tmp_path) is None
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = zforcing_pyro\n")
    assert git_commit(tmp_path) == commit
    (git / "HEAD").write_text("3" * 40)
    assert git_commit(tmp_path) == "3" * 40


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_experiments_state_only_what_differs_from_the_defaults(file):
    options = dict(items(read_config(str(file))))
    names = {"data", "data.name", "model", "model.name", "preset"}
    args = [f"--{name}={value}" for name, value in options.items() if name in names]
    defaults = dict(items(describe(args).config()))
    configured = dict(items(describe(["--config", str(file)]).config()))
    for name in options.keys() - names:
        assert configured[name] != defaults[name], f"{name} is {configured[name]} by default"


def test_blizzard_is_trained_and_scored_as_in_the_paper():
    """W22: half seconds at 16 kHz whose first frame is given, not recordings with all frames."""
    experiment = describe(["--config", str(EXPERIMENTS[0].parent / "blizzard.yaml")])
    training, frame = experiment.training, experiment.data["frame"]
    assert training.window * frame == training.eval_window * frame == 16_000 // 2
    assert experiment.data["score_first"] is False


def test_a_state_is_carried_in_an_elbo_only():
    carried = ["--training.carry_state", "true", "--training.window", "5"]
    describe(carried).estimator()
    with pytest.raises(ValueError, match=r"'carry_state' must be false with TraceIWAE"):
        describe([*carried, "--bound", "iwae"]).estimator()
