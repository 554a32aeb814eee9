"""An interpreter of the PTX that nvcc makes of the CUDA kernels: they run on a CPU as the compiler
left them, inline assembly included.

It checks what a GPU would not tell: races on shared memory, copies and warpgroup products that are
not waited for, bounds, alignment. And it counts what a GPU would make slow: instructions, sectors
of global memory, conflicts of shared-memory banks. `library.py` puts it behind the interface of the
compiled kernels. It does not see what ptxas makes of the PTX (registers, the order of
instructions), nor time.
"""
