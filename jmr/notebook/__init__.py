"""The magics: `%load_ext jmr`, then `%%mapreduce`, `%mapreduce` and `%jmr`.

ipython     what the magics take from IPython
line        a magic's line: words, expressions, options
cell        runs a cell in the user's namespace, and finds source, mapfn and reducefn there
completion  what Tab offers on the magics' lines
commands    %jmr
debugging   --debug
magics      what IPython calls
"""

from jmr.notebook.magics import load_ipython_extension

__all__ = ["load_ipython_extension"]
