"""The store: one HDF5 file, or several behind one name."""

from preprocess.store.reader import Store

__all__ = ["Store"]
