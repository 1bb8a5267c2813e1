"""The web page: a clip and masks in, whole objects out, for people who do not type; Gradio is known here alone."""
