"""The style sheet of every page. Colours are variables, so that dark screens and paper each get their own.

The four colours of data are those of Okabe & Ito (2008, "Color Universal Design"), lightened or darkened until
they stand out from the ground; they differ in lightness too, and nothing is told by colour alone.
"""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --panel: #f5f6f8; --text: #1b1f24; --faint: #59636e; --line: #d0d5dc;
  --data1: #0069a8; --data2: #c2410c; --data3: #00785a; --data4: #9b3d78;
  --bar: #4d97c9; --whisker: #1b1f24; --warn-ground: #fff4d6; --warn-line: #b7791f;
  --substitute: #8a5a00; --delete: #b42318; --insert: #0069a8;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #15181c; --panel: #1f242a; --text: #e6e9ed; --faint: #a3adb8; --line: #3a424c;
    --data1: #5bb8f0; --data2: #ff9d5c; --data3: #41cfa3; --data4: #f0a3d1;
    --bar: #33789f; --whisker: #e6e9ed; --warn-ground: #3a2e10; --warn-line: #e0a83a;
    --substitute: #f5c451; --delete: #ff8a80; --insert: #6cc4ff;
  }
}
@media print {
  :root {
    color-scheme: light;
    --ground: #ffffff; --panel: #ffffff; --text: #000000; --faint: #3d3d3d; --line: #bbbbbb;
    --data1: #0069a8; --data2: #c2410c; --data3: #00785a; --data4: #9b3d78;
    --bar: #9cc3dd; --whisker: #000000; --warn-ground: #ffffff; --warn-line: #000000;
    --substitute: #5f3e00; --delete: #8c1a11; --insert: #004a78;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 66rem;
  background: var(--ground); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
  overflow-wrap: break-word;
}
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--data1); }
code, pre { font: .875rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
code { overflow-wrap: anywhere; }
.command span { display: inline-block; max-width: 100%; }
pre { background: var(--panel); padding: .75rem; overflow-x: auto; margin: .5rem 0; border: 1px solid var(--line); }
.subtitle, .faint, figcaption small { color: var(--faint); }
.subtitle { margin-top: 0; }
.notice {
  background: var(--warn-ground); border: 1px solid var(--warn-line); border-left-width: .4rem;
  padding: .5rem .75rem; margin: .75rem 0; max-width: none;
}
nav { margin: 1rem 0; font-size: .9rem; }
nav a { margin-right: 1rem; display: inline-block; }
.scroll { overflow-x: auto; margin: .5rem 0; }
table { border-collapse: collapse; font-size: .9rem; }
th, td { padding: .3rem .75rem .3rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { text-align: left; color: var(--faint); font-weight: 600; }
td, th { max-width: 30rem; }
.right { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.left { text-align: left; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem; }
.row { display: flex; flex-wrap: wrap; gap: 0 2.5rem; }
.columns > *, .row > * { min-width: 0; }
figure { margin: .5rem 0 1rem; max-width: 36rem; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .25rem; }
figcaption small { display: block; font-weight: 400; }
svg { display: block; width: 100%; height: auto; }
svg text {
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; fill: var(--text);
  paint-order: stroke; stroke: var(--ground); stroke-width: 3px; stroke-linejoin: round;
}
svg .axis { fill: var(--faint); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .bar { fill: var(--bar); }
svg .whisker { stroke: var(--whisker); stroke-width: 1.5; fill: none; }
svg .series { fill: none; stroke-width: 2; stroke-linejoin: round; }
details { margin: .5rem 0; }
summary { cursor: pointer; }
@media print {
  @page { margin: 15mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  h2, h3, figcaption { break-after: avoid; }
  figure, table, .keep { break-inside: avoid; }
  .columns { display: block; }
  .row { gap: 0 1.5rem; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .5rem .2rem 0; }
  .scroll { overflow: visible; }
  details::details-content { content-visibility: visible; }
  nav { display: none; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""
