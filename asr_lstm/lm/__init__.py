"""Language models: how likely a text is, whoever spoke it."""
