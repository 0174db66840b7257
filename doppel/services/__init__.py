"""One place for each business action, called by the command line, the bot and the web chat alike."""
