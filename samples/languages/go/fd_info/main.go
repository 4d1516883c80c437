// SPDX-License-Identifier: GPL-2.0-only

// samples/fd_info in Go: asks the kernel for the position of a file.
package main

// #cgo pkg-config: libkbridge fd_info
// #include <fd_info_kmod.h>
import "C"

import (
	"fmt"
	"log"
	"os"
	"runtime"
	"syscall"
)

func kernelInfo(file *os.File) (C.struct_fd_info, error) {
	var info C.struct_fd_info

	if result := C.fd_info(C.int(file.Fd()), &info); result != 0 {
		return info, os.NewSyscallError("fd_info", syscall.Errno(-result))
	}
	return info, nil
}

func main() {
	// to the kernel a thread has a pid of its own, and goroutines move between threads
	runtime.LockOSThread()
	file, err := os.CreateTemp("", "fd_info.")
	if err != nil {
		log.Fatal(err)
	}
	os.Remove(file.Name())
	if _, err = file.WriteString("Hello, kernel!\n"); err != nil {
		log.Fatal(err)
	}
	info, err := kernelInfo(file)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("the kernel says: pid %d (gettid() says %d), file position %d of fd %d\n",
		info.pid, syscall.Gettid(), info.position, file.Fd())
	if int(info.pid) != syscall.Gettid() || info.position != 15 {
		os.Exit(1)
	}
}
