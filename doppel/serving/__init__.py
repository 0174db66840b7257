"""What `doppel serve` runs, put together: the web chat and the bot in Slack."""
