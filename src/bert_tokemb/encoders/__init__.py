"""Encoders turn sentences into piece vectors: a running server, or an engine in this process."""
