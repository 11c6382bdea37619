"""A run's description: names, options, presets, files."""

from pathlib import Path

import pytest
import torch
import yaml

from zforcing_pyro.app.arguments import SECTIONS, help_text, items, read_config
from zforcing_pyro.app.experiment import describe, load, load_experiment


def test_options_win_over_the_file_and_the_file_over_defaults(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model: {z_dim: 8, h_dim: 16}\ntraining: {lr: 3.0e-4}\nmax_updates: 5\n")
    experiment = describe(["--config", str(file), "--model.h_dim", "32"])
    assert (experiment.model["z_dim"], experiment.model["h_dim"]) == (8, 32)
    assert (experiment.training.lr, experiment.max_updates) == (3e-4, 5)
    assert experiment.model["hidden_dim"] == describe().model["hidden_dim"]


def test_order_of_config_and_options_does_not_matter(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("model: {z_dim: 8}\n")
    assert describe(["--model.z_dim=9", "--config", str(file)]).model["z_dim"] == 9


def test_emission_follows_the_data_unless_it_is_chosen():
    assert describe().emission["name"] == "bernoulli"
    assert describe(["--emission", "gaussian"]).emission["name"] == "gaussian"
    chosen = describe(["--emission=gaussian", "--emission.min_scale=0.1"])
    assert chosen.emission["min_scale"] == 0.1


def test_a_configuration_gives_the_experiment_back():
    experiment = describe(["--emission.hidden_dims", "[8, 8]", "--seed", "3"])
    assert describe(config=experiment.config()) == experiment


def test_every_name_of_every_section_can_be_described():
    for kind, registry in SECTIONS.items():
        for name in registry:
            assert getattr(describe([f"--{kind}", name]), kind)["name"] == name


def test_presets():
    paper, code = describe(), describe(["--preset", "official_code"])
    assert paper == describe(["--preset", "paper"])
    assert (paper.model["aux_input"], code.model["aux_input"]) == ("z", "h_z")
    assert (paper.model["scale"], code.model["scale"]) == ("log_scale", "log_variance")
    assert (paper.model["reverse_needs_aux"], code.model["reverse_needs_aux"]) == (False, True)
    assert (paper.training.lr_schedule, code.training.lr_schedule) == ("halve", "constant")
    assert (paper.training.keep, code.training.keep) == ("best", "last")
    assert (paper.training.shuffle, code.training.shuffle) == (True, False)
    assert describe(["--preset", "official_code", "--model.scale", "log_scale"]).model["scale"] == (
        "log_scale"
    )


def test_weights_are_a_function_of_the_seed():
    def weights(seed):
        net = describe(["--seed", str(seed), "--model.h_dim", "8"]).net(x_dim=1)
        return torch.cat([p.flatten() for p in net.parameters()])

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


@pytest.mark.parametrize(
    "args, message",
    [
        (["--model", "nope"], r"'model' must be one of \[.*zforcing.*\], got 'nope'"),
        (["--data", "nope"], r"'data' must be one of \[.*digits.*\], got 'nope'"),
        (["--bound", "nope"], r"'bound' must be one of \[.*elbo.*\], got 'nope'"),
        (["--preset", "nope"], "'preset' must be one of"),
        (["--model.z_dm", "3"], r"unknown option '--model.z_dm'; did you mean '--model.z_dim'\?"),
        (["--model.z_dim", "many"], "'--model.z_dim' must be int, got 'many'"),
        (["--model.scale", "x"], "'--model.scale' must be Literal.*, got 'x'"),
        (["--training.lr", "-1"], "'lr' must be positive, got -1.0"),
        (["--training.frame_dropout", "2"], "'frame_dropout' must be in 0..1, got 2"),
        (["--training.patience", "-1"], "'patience' must not be negative, got -1"),
        (["--config"], "'--config' must be followed by a file"),
        (["stray"], "unknown option 'stray'"),
        (["--seed"], "--seed.*expected one argument"),
    ],
)
def test_a_mistake_is_named(args, message):
    with pytest.raises(ValueError, match=message) as error:
        describe(args)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("text", ["- a\n- b\n", "a: [", "\x00"])
def test_a_file_that_is_no_configuration_is_named(tmp_path, text):
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"config\.yaml' must"):
        describe(["--config", str(file)])


def test_a_misspelt_key_in_a_file_is_named(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("training: {lrr: 1.0}\n")
    with pytest.raises(ValueError, match=r"did you mean '--training.lr'"):
        describe(["--config", str(file)])


def test_missing_configuration_is_named():
    with pytest.raises(FileNotFoundError, match=r"nope\.yaml"):
        describe(["--config", "nope.yaml"])


def test_help_names_every_option_of_the_model():
    text = help_text(["--model.z_dim", "3"])
    for option in ("--model.z_dim", "--training.lr", "--emission.hidden_dims", "--bound.kl_weight"):
        assert option in text


def test_a_run_is_a_folder_that_training_wrote(tmp_path):
    for function in (load, load_experiment):
        with pytest.raises(ValueError, match="'run' must be a folder that 'zforcing train' wrote"):
            function(tmp_path)


def test_saved_files(tmp_path):
    experiment = describe(["--out", str(tmp_path)])
    experiment.save(tmp_path, experiment.corpus(), ["zforcing", "train"])
    assert describe(config=yaml.safe_load((tmp_path / "config.yaml").read_text())) == experiment
    assert '"torch"' in (tmp_path / "environment.json").read_text()


EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments").glob("*.yaml"))


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_experiments_state_what_differs_from_the_defaults(file):
    """Beside the names of data and model, which say what it is."""
    given = dict(items(read_config(str(file))))
    names = {"data", "data.name", "model", "model.name"}
    chosen = [f"--{name}={value}" for name, value in given.items() if name in names]
    defaults = dict(items(describe(chosen).config()))
    found = dict(items(describe(["--config", str(file)]).config()))
    for name in given.keys() - names:
        assert found[name] != defaults[name], f"{name} is {found[name]} without being said"


def test_where_a_run_runs_may_be_named_alone():
    short = describe(["--devices", "4", "--nodes=2", "--precision", "bf16-mixed"]).training
    assert (short.devices, short.nodes, short.precision) == (4, 2, "bf16-mixed")


@pytest.mark.parametrize(
    "options, message",
    [
        (["--devices", "0"], "'devices' must be positive, got 0"),
        (["--training.accumulate", "99"], "'accumulate' must be at most 'batch_size' 32, got 99"),
        (["--training.carry_state", "true"], "'window' must be positive with 'carry_state'"),
        (["--training.checkpoint_minutes", "-1"], "'checkpoint_minutes' must not be negative"),
        (["--training.max_skipped", "0"], "'max_skipped' must be positive, got 0"),
        (["--training.lr_schedule", "step"], "'--training.lr_schedule' must be Literal"),
    ],
)
def test_training_options_that_cannot_be(options, message):
    with pytest.raises(ValueError, match=message):
        describe(options)


def test_a_state_is_carried_in_an_elbo_only():
    carried = ["--training.carry_state", "true", "--training.window", "5"]
    describe(carried).estimator()
    with pytest.raises(ValueError, match=r"'carry_state' must be false with TraceIWAE: .* bound"):
        describe([*carried, "--bound", "iwae"]).estimator()
