"""The kinds of embedding models behind tasks/rag/embedder.py: weights on this machine, and a server that has them."""
