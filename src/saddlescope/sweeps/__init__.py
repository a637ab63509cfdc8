"""Many tasks: as data, in any number of processes, each result kept, resumable."""
