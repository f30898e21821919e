"""kafka-python as this project needs it. Whatever is patched or reached into privately is here, each with its reason."""
