"""What a call, an answer, a batch and an import cost, side by side with what people write by hand."""
