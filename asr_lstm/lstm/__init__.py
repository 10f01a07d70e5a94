"""Bidirectional LSTMs with variational dropout: equations, kernels, layer and stack."""

from asr_lstm.lstm.dropout import LockedDropout
from asr_lstm.lstm.equations import lstm_cell
from asr_lstm.lstm.layer import LSTMLayer, VariationalLSTM

__all__ = ["LSTMLayer", "LockedDropout", "VariationalLSTM", "lstm_cell"]
