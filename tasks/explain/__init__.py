"""Why a model answers as it does: which stream, when and where, and whether that can be believed."""
