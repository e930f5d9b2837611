"""Videos in, one HDF5 store out: decoding, TV-L1 flow, log-mel. No models here."""
