"""Retrieval-augmented answering: load, split, embed, store, retrieve, ask."""
