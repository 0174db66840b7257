"""The model server: its client, the process of vLLM, and what it needs on a CPU."""
