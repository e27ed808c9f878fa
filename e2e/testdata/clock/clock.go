// Package main, beside the router's own: TestClockWhileItRuns builds both into one program, whose clocks the test moves while it runs.
package main

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// offsets are the seconds that are added to CLOCK_REALTIME and to CLOCK_MONOTONIC: the beginning of a file that the test writes to.
var offsets *[2]int64

// realGettime is the kernel's clock_gettime; 0 where there is none to call without a system call.
var realGettime uintptr

// moveClocks has the runtime, and with it all that reads a clock, call movedGettime in place of the kernel's function.
func moveClocks()

func init() {
	f, err := os.OpenFile(os.Getenv("E2E_CLOCK"), os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	defer f.Close()
	page, err := syscall.Mmap(int(f.Fd()), 0, 16, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	offsets = (*[2]int64)(unsafe.Pointer(unsafe.SliceData(page)))
	moveClocks()
	// The kernel knows nothing of a clock that is moved and lets the runtime sleep as long as it asked to: with this it looks again soon.
	go func() {
		for {
			time.Sleep(5 * time.Millisecond)
		}
	}()
}
