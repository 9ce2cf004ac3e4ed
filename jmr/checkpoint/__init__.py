"""What a job leaves behind, so that the same job, run again, does only what is left.

fingerprints  of functions and of records: the same if, and only if, they would give the same
printing      any object to a digest, by its value alone
values        what data is made of
code          what functions and classes are made of, with all that they use
bytecode      what compiled code is made of
modules       what a module is: the user's by its source, an installed one by its version
installed     which version that is
journal       a file of checksummed lines: what was kept, and where splits ended
ledger        what a journal says
files         map outputs and results, written once; and whether they are still what was written
folder        the directory: made, checked, locked, looked into, removed
opened        all of it, while a job uses it
"""
