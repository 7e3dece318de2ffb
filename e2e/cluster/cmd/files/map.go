package main

import "unsafe"

// ptr is where a map begins, for msync(2), which package syscall lacks.
func ptr(mapped []byte) unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(mapped)) }
