"""Parts together: archives on SQLite and Postgres, a Slack server that speaks the real protocol, the web chat."""
