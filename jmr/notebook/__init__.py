"""The magics: `%load_ext jmr`, then `%%mapreduce`, `%mapreduce` and `%jmr`.

cell     runs a cell in the user's namespace, and finds source, mapfn and reducefn there
magics   what IPython calls
"""

from jmr.notebook.magics import load_ipython_extension

__all__ = ["load_ipython_extension"]
