"""Does each engine run on this machine, is it right, and how fast is it: one table, to be shared.

`run` turns cases (case.py: model x engine x precision x batch) into rows (row.py). Each is built and measured (measure.py,
memory.py) and, if that is wanted, checked (checks.py), in processes of its own (process.py): peak memory is then that row's
alone, and a library that crashes costs one row. Rows run one after the other, minutes apart on a machine that may be busy, so
each also runs the reference (ONNX Runtime on the CPU in fp32) in turns with its engine: milliseconds are what a user will
see, the ratio to the reference is what compares.

Rows and the machine make a table (table.py), to be printed, kept as JSON and plotted (plot.py).
"""
