"""The whole, as people use it: commands, a real model, a real vLLM server, a real browser."""
