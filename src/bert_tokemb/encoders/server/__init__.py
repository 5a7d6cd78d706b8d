"""Piece vectors from a running bert-serving-server (bert-as-service 1.10).

Facts about the server in the comments are from its source code (``bert_serving/server``, version
1.10.0).
"""
