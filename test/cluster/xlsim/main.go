// Command xlsim is the simulated toolstack of xmig alone. A move makes some
// hundred calls of xl, most of whose time is the start of a program: this one
// starts in a fifth of the time that xmig takes, which has all of NATS in it.
package main

import (
	"os"

	"xmig/xen/xlsim"
)

func main() { os.Exit(xlsim.Main(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }
