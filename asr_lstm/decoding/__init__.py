"""From logits to text: how a CTC model's frames become units."""
