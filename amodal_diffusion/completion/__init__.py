"""The application: inputs, objects, files. The command line, `batch` and the web page all call this."""
