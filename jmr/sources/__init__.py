"""Where records come from: what users pass, and what a worker reads by itself.

records   anything that can be iterated: (key, value) pairs, one by one or many at a time
base      the protocol of a source whose splits are small, travel, and are read where they are mapped
outputs   what a job has written
frames    pandas, polars and Arrow frames: cut by rows here (slices), made into rows where they are mapped (columns)
tables    tables in files: jmr.table
"""

from jmr.sources.base import NotHereError, SetAside, Source, Split, dump_split, load_records
from jmr.sources.records import Block, Record, Records, records

__all__ = [
    "Block",
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
