"""`asr-lstm lm generate`: an LSTM language model goes on with a text."""

from __future__ import annotations

from pathlib import Path


def generate_command(
    *,
    lm: Path,
    prompt: str = "",
    length: int = 500,
    temperature: float = 0.8,
    top_k: int = 0,
    top_p: float = 1.0,
    seed: int = 1,
) -> int:
    """Write text as it is drawn; Ctrl-C ends it.

    Args:
        lm: the folder of an LSTM language model.
        prompt: how the text begins.
        length: how many characters, words or pieces to write; 0 until Ctrl-C.
        temperature: below 1 likelier text, above 1 more of a mixture; 0 always takes the likeliest unit.
        top_k: draw from the k likeliest units only; 0 for all.
        top_p: draw from the fewest likeliest units that hold this probability together.
        seed: the same text for the same seed.

    Returns:
        The exit code 0.

    Raises:
        ConfigError: a folder that holds no such model, or a number out of its range.
        DataError: the prompt has characters that the model lacks.
    """
    from asr_lstm.lm.neural.bundle import load_neural
    from asr_lstm.lm.neural.generate import generate

    model = load_neural(lm)
    drawn = generate(
        model,
        prompt=prompt,
        length=length,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        seed=seed,
    )
    written = "\n"
    try:
        for piece in drawn:
            if prompt:  # only now: one that the model cannot read is not repeated
                print(model.normalise(prompt), end="")
                prompt = ""
            print(piece, end="", flush=True)
            written = piece
    finally:
        if not written.endswith("\n"):
            print(flush=True)
    return 0
