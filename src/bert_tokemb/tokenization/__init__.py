"""From words to pieces: BERT's tokenizer, those of the tokenizers library, alignment, windows."""
