"""The IPython extension: `%kalam` and `%%kalam`."""
