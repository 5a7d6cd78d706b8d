"""The bert-as-service protocol in front of the local engine."""
