package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"xmig/xen/xlsim"
)

const usage = `usage: lab-guest run | stop | watch FILE | gaps [-since TIME] [-json] FILE
       lab-guest ask ADDRESS verify|snapshot | disks EXPECTED VDEV=PATH...
`

var errUsage = errors.New("wrong command line")

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "xlsim" {
		os.Exit(xlsim.Main(args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	err := command(ctx, args)
	if errors.Is(err, errUsage) {
		fmt.Fprint(os.Stderr, usage)
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "lab-guest: %v\n", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return errUsage
	}
	verb, args := args[0], args[1:]
	switch {
	case verb == "run" && len(args) == 0:
		return run(ctx)
	case verb == "stop" && len(args) == 0:
		return stopWork()
	case verb == "watch" && len(args) == 1:
		return watch(ctx, args[0])
	case verb == "gaps":
		return gaps(args, os.Stdout)
	case verb == "ask" && len(args) == 2:
		return ask(ctx, args[0], args[1], os.Stdout)
	case verb == "disks" && len(args) >= 2:
		return disks(ctx, args[0], args[1:])
	}
	return errUsage
}

// disks checks disks that no guest uses against a snapshot, as `ask` printed it.
func disks(ctx context.Context, snapshot string, args []string) error {
	data, err := os.ReadFile(snapshot)
	if err != nil {
		return err
	}
	var expected xlsim.Expected
	if err := json.Unmarshal(data, &expected); err != nil {
		return fmt.Errorf("snapshot %s: %w", snapshot, err)
	}
	paths := map[string]string{}
	for _, a := range args {
		vdev, path, ok := strings.Cut(a, "=")
		if !ok {
			return errUsage
		}
		paths[vdev] = path
	}
	report, err := xlsim.VerifyDisks(ctx, expected, paths)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(report); err != nil {
		return err
	}
	return report.Err()
}
