"""What benchmarks/fuzz.py tries: one file per kind of input."""
