"""How fast Doppel is, each part against a named peer in the same run. See benchmarks/README.md."""
