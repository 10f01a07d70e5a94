"""What the report adds to the style sheet of every page."""

STYLE = """
.card { display: inline-block; padding: .75rem 1.25rem .75rem 0; margin: .5rem 0; }
.big { font-size: 2.5rem; line-height: 1.1; font-weight: 700; font-variant-numeric: tabular-nums; }
.example { margin: 0 0 2rem; padding-left: 1rem; border-left: 3px solid var(--line); }
h4 { margin: 1rem 0 .25rem; font-size: .95rem; }
h4 .faint { font-weight: 400; }
.alignment { line-height: 1.35; margin: .25rem 0 .5rem; }
.word { display: inline-flex; flex-direction: column; vertical-align: top; margin: 0 .3em .35em 0; }
.word span, .word b { unicode-bidi: isolate; min-height: 1.3em; }
.word b { font-size: .7em; line-height: 1.3; min-height: 0; }
.substitute { color: var(--substitute); }
.delete { color: var(--delete); }
.insert { color: var(--insert); }
.substitute span, .delete span:first-child, .insert span:nth-child(2) { font-weight: 700; }
.substitute span:nth-child(2) { text-decoration: underline; text-underline-offset: .15em; }
.delete span:first-child { text-decoration: line-through; }
.insert span:nth-child(2) { text-decoration: underline double; text-underline-offset: .15em; }
audio { display: block; width: 100%; max-width: 30rem; height: 2.25rem; margin: .25rem 0; }
.spectrogram svg { width: auto; max-width: none; margin-bottom: .25rem; }
.spectrogram .boxes { image-rendering: pixelated; }
.posterior { stroke: var(--data2); fill: none; }
.thread { stroke: var(--data2); stroke-width: 1; fill: none; opacity: .45; }
svg .unit { font: 10.5px ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.unsure { text-decoration: underline; font-style: italic; }
@media (prefers-color-scheme: dark) { .spectrogram image { filter: invert(.88); } }
@media print {
  audio { display: none; }
  .example { break-inside: avoid; }
  .spectrogram image { filter: none; }
  .spectrogram svg { max-width: 100%; height: auto; }
}
"""
