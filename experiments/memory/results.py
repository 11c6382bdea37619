"""Redraws the figures and rewrites the table of README.md from ``results/*.csv``."""

import csv
from collections import defaultdict
from pathlib import Path

from matplotlib.figure import Figure

FOLDER = Path(__file__).parent


def main() -> None:
    lines = ["| task | arm | seed | updates | CPU s | accuracy, % | loss | at 2T | at 4T |"]
    lines.append("| --- " * 9 + "|")
    for file in sorted((FOLDER / "results").glob("*.csv")):
        runs = defaultdict(list)
        for row in csv.DictReader(file.open()):
            runs[row["arm"], row["seed"]].append(row)
        figure = Figure((8, 3), layout="constrained")
        panels = figure.subplots(1, 2)
        for (arm, seed), rows in runs.items():
            length = min(int(row["length"]) for row in rows)
            curve = [row for row in rows if int(row["length"]) == length]
            measure = "accuracy" if curve[0]["accuracy"] else "loss"
            for axes, x in zip(panels, ("update", "cpu_seconds")):
                points = [(float(row[x]), float(row[measure])) for row in curve]
                axes.plot(*zip(*points), ".-", label=f"{arm}, seed {seed}")
                axes.set(xlabel=x.replace("_", " "), ylabel=measure)
            last = curve[-1]
            longer = {int(row["length"]) // length: row[measure] for row in rows}
            cells = [file.stem, arm, seed, f"{int(last['update']):,}", last["cpu_seconds"]]
            cells += [f"{100 * float(last['accuracy']):.1f}" if last["accuracy"] else "-"]
            cells += [f"{float(last['loss']):.4f}"]
            cells += [f"{float(longer[k]):.3f}" if k in longer else "-" for k in (2, 4)]
            lines.append(f"| {' | '.join(cells)} |")
        panels[0].legend(fontsize=8)
        figure.suptitle(file.stem)
        figure.savefig(file.with_suffix(".png"), dpi=80, metadata={"Software": None})
    readme = FOLDER / "README.md"
    text = readme.read_text(encoding="utf-8")
    before, after = text.split("<!-- table -->\n")[0], text.split("<!-- end -->")[1]
    table = "\n".join(lines)
    readme.write_text(f"{before}<!-- table -->\n{table}\n<!-- end -->{after}", encoding="utf-8")
