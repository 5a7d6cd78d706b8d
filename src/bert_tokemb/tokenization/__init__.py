"""From words to word pieces: basic tokenizer, WordPiece, vocabularies, alignment, windows."""
