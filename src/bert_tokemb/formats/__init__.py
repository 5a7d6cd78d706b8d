"""Output formats: each module holds a format's writer and its reader."""
