"""Tables of the README files beside the experiments, redrawn from their CSV files."""

from pathlib import Path

import pandas as pd


def spread(values: pd.Series, decimals: int) -> str:
    """Returns mean ± deviation over seeds."""
    values = values.dropna()
    if not len(values):
        return "-"
    text = f"{values.mean():.{decimals}f}"
    return f"{text} ± {values.std():.{max(decimals, 1)}f}" if len(values) > 1 else text


def table(heads: list[str], rows: list[list[str]]) -> str:
    """Returns a table in Markdown."""
    return "\n".join(f"| {' | '.join(row)} |" for row in [heads, ["---"] * len(heads), *rows])


def rewrite(readme: Path, name: str, body: str) -> None:
    """Replaces what stands between ``<!-- name -->`` and ``<!-- end -->`` in a file."""
    text = readme.read_text(encoding="utf-8")
    before, mark, after = text.partition(f"<!-- {name} -->\n")
    if not mark or "<!-- end -->" not in after:
        raise SystemExit(f"{readme} must hold '<!-- {name} -->' and '<!-- end -->'")
    text = f"{before}{mark}{body.rstrip()}\n{after[after.index('<!-- end -->') :]}"
    readme.write_text(text, encoding="utf-8")
