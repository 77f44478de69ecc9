"""What a call, a response, a batch and an import cost, side by side with what people write by hand."""
