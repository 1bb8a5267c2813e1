"""The web page, a graphical interface to `complete`; the only package that uses Gradio."""
