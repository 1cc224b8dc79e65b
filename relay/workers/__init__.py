"""Media workers: processes that own sessions, the channel to each, and the pool that the main process keeps."""
