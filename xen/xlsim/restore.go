package xlsim

import (
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// restore is `xl restore`. What fails leaves no domain behind.
func (c *call) restore(o options, args []string) int {
	file := args[len(args)-1]
	in, err := os.Open(file)
	if err != nil {
		fmt.Fprintf(c.stderr, "Can't open restore file '%s': %s\n", file, errnoText(err))
		return 1
	}
	defer in.Close()
	saved, config, err := readSaved(in)
	if err != nil {
		return c.fail(err, 1)
	}
	fmt.Fprintf(c.stderr, "Loading new save file %s (new xl fmt info 0x%x/0x0/%d)\n", file, saved.flags, saved.size)
	if saved.flags&1 != 0 {
		fmt.Fprint(c.stderr, " Savefile contains xl domain config in JSON format\n")
	}
	source := "<saved>"
	if len(args) == 2 {
		source = args[0]
		if config, err = readConfig(source); err != nil {
			return c.fail(err, 1)
		}
	}
	fmt.Fprintf(c.stdout, "Parsing config from %s\n", source)
	id, err := c.build(plan{
		config: config, start: startResume, monitor: monitorOf(o), noMemory: noMemoryRestore,
		fill: func(id int, ram *os.File) error { return c.load(id, saved, config, ram) },
	})
	if err != nil {
		return c.fail(err, 1)
	}
	if !o.has('p') {
		if err := do(c.dir, id, opUnpause); err != nil {
			return c.fail(err, 1)
		}
	}
	return 0
}

func readConfig(path string) (domainConfig, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return domainConfig{}, xlError{fmt.Sprintf("Failed to read config file: %s: %s\n", path, errnoText(err))}
	}
	return parseConfig(data)
}

// noMemoryRestore: put together, no recording exists.
const noMemoryRestore = `xc: error: Failed to populate physmap: 12 = Cannot allocate memory: Internal error
xc: error: Restore failed (12 = Cannot allocate memory): Internal error
libxl: error: libxl_stream_read.c:850:libxl__xc_domain_restore_done: restoring domain: Cannot allocate memory
libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain N:cannot (re-)build domain: -3
`

// load reads the memory image of domain id.
func (c *call) load(id int, saved *savedFile, config domainConfig, ram *os.File) error {
	info, err := saved.start()
	if err != nil {
		return badImage(id, err)
	}
	kind := "x86 HVM"
	if info.kind == typePV {
		kind = "x86 PV"
	}
	fmt.Fprintf(c.stderr, "xc: info: Found %s domain from Xen %d.%d\nxc: info: Restoring domain\n", kind, info.major, info.minor)
	if err := saved.load(ram, uint64(config.BInfo.MaxKB/4)); err != nil {
		return badImage(id, err)
	}
	fmt.Fprintf(c.stderr, "xc: info: Restore successful\nxc: info: XenStore: mfn 0x37b5d, dom 0, evt 1\nxc: info: Console: mfn 0x37b5c, dom 0, evt 2\n")
	return nil
}

// badImage is the text for a stream that ended early or is damaged.
func badImage(id int, err error) error {
	cause, number, text := err.Error(), 22, "Invalid argument"
	var short shortRecord
	var errno syscall.Errno
	switch {
	case errors.As(err, &short) && short.kind == libxcPages:
		cause = fmt.Sprintf("Failed to read %d bytes of data for record (0x%08x, Page data) (0 = Success)", short.length, short.kind)
	case errors.As(err, &short):
		cause = fmt.Sprintf("Failed to read Record Header from stream (%d = Success)", 0)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		cause = "Failed to read Image Header from stream (0 = Success)"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		number, text = 0, "Success"
	} else if errors.As(err, &errno) {
		number, text = int(errno), errnoText(err)
	}
	return xlError{fmt.Sprintf("xc: error: %s: Internal error\nxc: error: Restore failed (%d = %s): Internal error\n", cause, number, text) +
		fmt.Sprintf("libxl: error: libxl_stream_read.c:850:libxl__xc_domain_restore_done: restoring domain: %s\n", text) +
		fmt.Sprintf("libxl: error: libxl_create.c:1640:domcreate_rebuild_done: Domain %d:cannot (re-)build domain: -3\n", id) + destroyed(id)}
}
