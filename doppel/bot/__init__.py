"""The bot in Slack: what is a question to it, who answers, from what, and how the answer is posted."""
