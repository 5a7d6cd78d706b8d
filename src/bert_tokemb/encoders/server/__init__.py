"""Piece vectors from a running bert-serving-server."""
