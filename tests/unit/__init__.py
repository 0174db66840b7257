"""Parts by themselves: no other process but a quick one, no database server, no page, no model server."""
