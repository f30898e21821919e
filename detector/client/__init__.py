"""kafka-python as this project needs it. Whatever is patched or reached into privately is here, each with its reason.

Every consumer of the project is `consumer.Consumer`. Nothing is patched by an import.
"""
