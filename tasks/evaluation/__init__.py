"""What evaluate and quantize share: comparing the distributions of two models."""
