"""LSTM language models over characters, words or word pieces, on the same engine as the recogniser."""
