"""Where results are written, for a job that does not bring them back.

out="counts" ──sink_for──> Sink ──with the job's functions──> reduce tasks
keys, values ──Sink.encoded, in the reduce task──> Part: a file's content, or the name under which it lies at a URL
Part ──Output.add, in the calling thread──> a file under a temporary name ──Output.commit──> files, manifest

lines       JSON lines
parquet     Parquet, by pyarrow
sink        what travels: the format, and the place
output      the calling thread's side
folder      a directory here
bucket      a URL, by fsspec
manifest    which files a job has written: who reads them goes by it
tables      a result as a frame: pandas, polars, Arrow
"""
