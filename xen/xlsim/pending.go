package xlsim

import (
	"context"
	"errors"
	"io"
	"time"
)

var errPending = errors.New("xlsim: not built yet")

func Main(args []string, stdin io.Reader, stdout, stderr io.Writer) int { return 1 }

type GuestDisk struct {
	Path, Vdev string
	ReadOnly   bool
}
type GuestSpec struct {
	Name, UUID       string
	MemoryMiB, VCPUs int
	Type             string
	Disks            []GuestDisk
	Bridge           string
	Rate             int64
	Writers          int
	DirtyRate        int64
	Extra            []string
}

func WriteGuestConfig(dir string, spec GuestSpec) (string, error) { return "", errPending }

type Mix struct {
	Zero, Random, Text int
	Seed               uint64
}

func MakeDisk(path string, size int64, mix Mix) error { return errPending }

type Report struct {
	Records, Pages int
	Bad            []string
}

func (r Report) Err() error { return errPending }

type Expected struct{ UUID string }

func Verify(ctx context.Context, hostDir, domain string) (Report, error) { return Report{}, errPending }
func Snapshot(ctx context.Context, hostDir, domain string) (Expected, error) {
	return Expected{}, errPending
}
func Final(net, uuid string) (Expected, error)                        { return Expected{}, errPending }
func VerifyDisks(e Expected, paths map[string]string) (Report, error) { return Report{}, errPending }
func StalePage(hostDir, domain string) error                          { return errPending }
func DropRecord(hostDir, domain string) error                         { return errPending }

type Gap struct {
	From, To         time.Time
	FromHost, ToHost string
}

func Blackouts(net, uuid string) ([]Gap, error)     { return nil, errPending }
func Violations(net, uuid string) ([]string, error) { return nil, errPending }

type domainConfig struct{ CInfo struct{ UUID string } }

func (domainConfig) memoryMiB() int { return 0 }

type status struct{}

func (status) letters() string                                 { return "" }
func (h *host) status(d *domain) status                        { return status{} }
func haltDomain(ctx context.Context, dir string, id int) error { return errPending }

const firstLoop = 100000
