"""The command line: thin doors on the core, one file a command group; `app` puts them together."""
