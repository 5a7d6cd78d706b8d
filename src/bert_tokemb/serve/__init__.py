"""A bert-serving-server: the embedded engine behind the protocol of bert-as-service 1.10."""
