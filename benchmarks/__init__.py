"""The figures that the documentation quotes: ``python -m benchmarks`` measures them."""
