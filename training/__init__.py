"""From conversations to a published adapter: examples, fine-tuning, evaluation."""
