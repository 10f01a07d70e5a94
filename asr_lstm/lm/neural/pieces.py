"""Word pieces of sentencepiece, which is asked for only where they are used."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from asr_lstm.errors import ConfigError
from asr_lstm.files import atomic_write
from asr_lstm.lm.neural.text_units import END, Ids, UnitKind, join_lines, write_json
from asr_lstm.piece_units import import_sentencepiece
from asr_lstm.units import WORD_MARK

PIECES_NAME = "units.model"


class PieceTextUnits:
    """Pieces of words as sentencepiece makes them; unit 1 stands for what they cannot write.

    Args:
        model: what sentencepiece trained, with its unknown piece as piece 0 and no marks of sentences.

    Raises:
        ConfigError: sentencepiece is not installed, or this is no such model.
    """

    kind: UnitKind = "sentencepiece"
    unknown: int | None = 1

    def __init__(self, model: bytes) -> None:
        self.model = model
        processor = import_sentencepiece().SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(model)
        except (RuntimeError, ValueError, TypeError) as error:
            raise ConfigError("not a model of sentencepiece; train the language model anew") from error
        if processor.unk_id() != 0:
            raise ConfigError("sentencepiece's unknown piece must be piece 0; train it with unk_id=0")
        self._processor = processor
        count = processor.GetPieceSize()
        self.symbols: Sequence[str] = tuple(processor.IdToPiece(number) for number in range(count))

    def __len__(self) -> int:
        return len(self.symbols) + 1

    def encode(self, text: str) -> Ids:
        """The units of a text, `(n,)`."""
        lines = self._processor.Encode(text.split("\n"), out_type=int)
        return join_lines([piece + 1 for piece in pieces] for pieces in lines)

    def write(self, unit: int, *, after: int) -> str:
        """The piece, with its space within a line."""
        if unit == END:
            return "\n"
        text = self.symbols[unit - 1].replace(WORD_MARK, " ")
        return text.lstrip(" ") if after == END else text

    def save(self, folder: Path) -> None:
        """Write sentencepiece's own model."""
        write_json(folder, {"kind": self.kind})
        with atomic_write(folder / PIECES_NAME, "wb") as file:
            file.write(self.model)


def piece_units(text: str, count: int) -> PieceTextUnits:
    """Train word pieces (Kudo 2018, "Subword regularization", the unigram model) on a text.

    Args:
        text: a sentence a line.
        count: how many units, the end of a line among them.

    Raises:
        ConfigError: sentencepiece is not installed, or so many pieces cannot be made of the text.
    """
    model = io.BytesIO()
    try:
        import_sentencepiece().SentencePieceTrainer.Train(
            sentence_iterator=iter(text.split("\n")),
            model_writer=model,
            vocab_size=count - 1,
            character_coverage=1.0,
            normalization_rule_name="identity",
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            minloglevel=2,
        )
    except (RuntimeError, ValueError) as error:
        reason = (
            str(error).strip().splitlines()[-1].rpartition("] ")[2]
        )  # what stands before is its source code
        raise ConfigError(
            f"vocabulary: {count} word pieces cannot be made of this text ({reason})"
        ) from error
    return PieceTextUnits(model.getvalue())
