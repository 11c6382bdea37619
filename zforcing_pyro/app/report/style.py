"""How a page looks: on a telephone, on a desk, in the dark and on paper."""

STYLE = """
:root {
  --text: #1b1f24; --soft: #57606a; --paper: #ffffff; --card: #f6f8fa; --line: #d0d7de;
  --good: #009e73; --fair: #b36b00; --bad: #b3380a; --link: #0072b2;
}
@media (prefers-color-scheme: dark) {
  :root {
    --text: #e6edf3; --soft: #9aa4af; --paper: #0d1117; --card: #161b22; --line: #30363d;
    --good: #2fc79b; --fair: #e69f00; --bad: #ff8a5c; --link: #56b4e9;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--paper); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif;
}
main { max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0.5rem 0; overflow-wrap: anywhere; }
h2 {
  font-size: 1.25rem; margin: 2.2rem 0 0.6rem; padding-bottom: 0.2rem;
  border-bottom: 1px solid var(--line); overflow-wrap: anywhere;
}
h3 { font-size: 1.05rem; margin: 1.4rem 0 0.4rem; overflow-wrap: anywhere; }
p { margin: 0.5rem 0; max-width: 46rem; overflow-wrap: anywhere; }
a { color: var(--link); }
.soft, figcaption, caption { color: var(--soft); font-size: 0.875rem; }
nav ul { padding: 0; display: flex; flex-wrap: wrap; gap: 0.2rem 1rem; list-style: none; }
.answers {
  display: grid;
  gap: 0.75rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr));
}
.answer {
  background: var(--card);
  border-left: 4px solid var(--soft);
  border-radius: 4px;
  padding: 0.6rem 0.9rem;
}
.answer p { margin: 0.25rem 0; }
.answer strong { display: block; }
.good { border-left-color: var(--good); }
.fair { border-left-color: var(--fair); }
.bad { border-left-color: var(--bad); }
.grid {
  display: grid;
  gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr));
  align-items: start;
}
.grid > figure:only-child { max-width: 40rem; }
figure { margin: 0.5rem 0; min-width: 0; }
figure img {
  display: block;
  width: 100%;
  height: auto;
  background: white;
  border: 1px solid var(--line);
  border-radius: 6px;
  padding: 4px;
}
figcaption { margin-top: 0.3rem; }
audio { display: block; width: 100%; margin-top: 0.4rem; }
.scroll { overflow-x: auto; margin: 0.6rem 0; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: 0.9rem; }
caption { text-align: left; padding-bottom: 0.3rem; }
th, td {
  padding: 0.3rem 0.9rem 0.3rem 0;
  border-bottom: 1px solid var(--line);
  text-align: left;
  vertical-align: top;
}
td { font-variant-numeric: tabular-nums; }
thead th { border-bottom: 2px solid var(--line); }
tbody th { font-weight: 500; }
.sentences {
  background: var(--card);
  border-radius: 6px;
  padding: 0.6rem 0.9rem 0.8rem;
  min-width: 0;
}
.sub { margin: 1.2rem 0 0.3rem; }
.sentences .sub { margin: 0; }
.sentences ol { margin: 0.4rem 0 0; padding-left: 1.4rem; }
.sentences li { margin: 0.25rem 0; overflow-wrap: anywhere; }
pre {
  columns: 22rem 2;
  background: var(--card); border-radius: 6px; padding: 0.7rem 0.9rem; margin: 0.5rem 0;
  font: 0.8rem/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace;
  white-space: pre-wrap; overflow-wrap: anywhere;
}
@media (max-width: 30rem) {
  main { padding: 0.75rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding-right: 0.6rem; }
}
@media print {
  :root {
    --text: #000; --soft: #444; --paper: #fff; --card: #fff; --line: #bbb;
    --good: #009e73; --fair: #b36b00; --bad: #b3380a; --link: #000;
  }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  audio, nav, .heard { display: none; }
  .grid { grid-template-columns: 1fr 1fr; }
  .scroll { overflow: visible; }
  figure, .answer, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}
"""
"""A style sheet without pictures or fonts from elsewhere."""
