"""Training LSTM language models with Lightning."""
