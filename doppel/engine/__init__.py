"""What an answer is made of: conversations, the prompt, and what is masked in it. Pure."""
