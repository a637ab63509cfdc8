"""Results on disk: the format, saving, loading, checking again."""
