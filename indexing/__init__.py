"""From the archive to a published index, and from a question to the threads that may answer it."""
