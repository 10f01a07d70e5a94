"""Bidirectional LSTMs with variational dropout: equations, kernels, layer and stack."""

from asr_lstm.lstm.dropout import Dropout, EmbeddingDropout, LockedDropout
from asr_lstm.lstm.equations import lstm_cell
from asr_lstm.lstm.layer import LSTMLayer, scale_dropout
from asr_lstm.lstm.stack import States, VariationalLSTM

__all__ = [
    "Dropout",
    "EmbeddingDropout",
    "LSTMLayer",
    "LockedDropout",
    "States",
    "VariationalLSTM",
    "lstm_cell",
    "scale_dropout",
]
