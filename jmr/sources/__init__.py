"""Where records come from: what users pass, and what a worker reads by itself.

records       anything that can be iterated: (key, value) pairs, one by one or many at a time
base          the protocol of a source whose splits are small, travel, and are read where they are mapped
frames        pandas, polars and Arrow frames: cut by rows here (slices), made into rows where they are mapped (columns)
files         jmr.files
listing       which files a user means
parts         some files, or ranges of large ones, as a split
disk          opens files
compression   gzip, bz2, xz, zstd
lines         a range of bytes to lines
text          encoding, errors and newline, as `open` has them
outputs       what a job has written
tables        tables in files: jmr.table
"""

from jmr.sources.base import InColumns, Loaded, NotHereError, SetAside, Source, Split, dump_split, load_records
from jmr.sources.records import Block, Record, Records, records

__all__ = [
    "Block",
    "InColumns",
    "Loaded",
    "NotHereError",
    "Record",
    "Records",
    "SetAside",
    "Source",
    "Split",
    "dump_split",
    "load_records",
    "records",
]
