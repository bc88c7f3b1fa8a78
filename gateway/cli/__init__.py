"""The command `peakgate`: one file per group of verbs. Here are words and exit codes, not what a verb does."""
