"""Puts a trained net into the package, and prints the numbers of its model card.

    python -m experiments.pretrained jsb|mnist5k FILE [--data_dir DIR]

FILE is a net that ``save`` wrote, or the folder of a run.
"""

import argparse

import zforcing_pyro as zf
from zforcing_pyro.app.pretrained import FOLDER
from zforcing_pyro.estimators import TraceELBO, TraceIWAE
from zforcing_pyro.models.files import save_net

STEPS = {"jsb": 60, "mnist5k": 28}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=STEPS)
    parser.add_argument("file")
    parser.add_argument("--data_dir")
    options = parser.parse_args()
    net, where = zf.load(options.file), {"data_dir": options.data_dir}
    data = zf.data.corpus(options.name, **({} if options.name == "mnist5k" else where))
    file = FOLDER / f"{options.name}.safetensors"
    save_net(net, file, data={"name": options.name}, steps=STEPS[options.name])
    print(f"{sum(p.numel() for p in net.parameters()):,} parameters, {file.stat().st_size:,} bytes")
    for bound in (TraceELBO(10), TraceIWAE(25)):
        result = zf.evaluate(net, data.split("test"), bound)
        print(f"{result.nats_per_step:.3f} a step, {result.nats_per_sequence:.2f} +- "
              f"{result.standard_error:.2f} a sequence: {result.protocol}")  # fmt: skip


if __name__ == "__main__":
    main()
