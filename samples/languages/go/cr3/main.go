// SPDX-License-Identifier: GPL-2.0-only

// samples/cr3 in Go: prints CR3, and the privilege level on both sides.
package main

// #cgo pkg-config: libkbridge cr3
// #include <cr3_kmod.h>
// static int app_level(void)
// {
//	unsigned short cs;
//
//	__asm__ volatile("mov %%cs, %0" : "=r"(cs));
//	return cs & 3;
// }
import "C"

import (
	"fmt"
	"os"
)

func main() {
	app, kmod, value := C.app_level(), C.privilege_level(), C.cr3()

	fmt.Printf("privilege level: app %d, kmod %d\n", app, kmod)
	fmt.Printf("CR3 = %#x\n", value)
	if app != 3 || kmod != 0 || value == 0 {
		os.Exit(1)
	}
}
