"""Where piece vectors come from: see :class:`bert_tokemb.types.Encoder`."""
