"""How a store lies on the disk, which is what FORMAT.md describes: codec, layout, plan, table, Zarr, HDF5, files."""
