"""How a store lies on the disk, in bytes: FORMAT.md in code. Only modules here know of files, Zarr and HDF5."""
