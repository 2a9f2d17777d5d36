"""Data sets: reading and checking COCO files, the embedded demo data, loading batches."""
