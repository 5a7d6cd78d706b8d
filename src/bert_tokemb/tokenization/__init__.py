"""From words to pieces: basic tokenizer, WordPiece, vocabularies, alignment, windows."""
