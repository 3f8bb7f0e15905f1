"""The starter: a small fictional world, and the tokenizer, base model and embedding model made from it."""
