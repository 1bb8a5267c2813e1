"""Completion of clips from input files to result files, as used by the commands and the web page."""
