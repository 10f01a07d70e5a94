"""The README.md of a trained bundle."""

from __future__ import annotations

from dataclasses import asdict

from asr_lstm.config import Recipe
from asr_lstm.report import Results, results_markdown


def model_card(results: Results, recipe: Recipe) -> str:
    """The README.md of a trained bundle: what it is, what it learned from, what was measured."""
    encoder = recipe.encoder
    kind = "bidirectional" if encoder.bidirectional else "unidirectional"
    rates = [
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in asdict(encoder).items()
        if value and ("dropout" in name or "zoneout" in name)
    ]
    return (
        f"# {recipe.name}\n\n"
        f"A speech recogniser made by asr_lstm: {encoder.layers} {kind} LSTM layers of {encoder.hidden} a direction "
        f"({', '.join(rates) or 'no dropout'}), trained with CTC on {results.train_hours_of_audio or 0:.1f} h.\n"
        "\n"
        f"{results_markdown(results)}\n"
        "Use: `asr-lstm transcribe --model THIS_FOLDER FILE...`\n"
    )
