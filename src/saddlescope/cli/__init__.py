"""The command line: parse, call, print. One file per command; heavy libraries are imported inside the commands."""
