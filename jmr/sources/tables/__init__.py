"""Tables in files: Parquet, CSV, Arrow and what else pyarrow.dataset reads.

table     jmr.table
finding   which files a user means, and which parts they have
splits    some parts, as a split that a worker reads
parts     a part of one file, and how it is read
cursor    a place in a row group, which its slot keeps: to find it again would take as long as to read up to there
"""
