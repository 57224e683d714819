package xen

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
)

// GuestState is what a guest says of itself in xenstore.
type GuestState struct {
	NoSuspend bool // it says that it does not answer a suspend request
}

// Guest reads what a guest says of itself.
func (x XL) Guest(ctx context.Context, id int) (GuestState, error) {
	base := "/local/domain/" + strconv.Itoa(id)
	store, err := x.store(ctx, base)
	if err != nil {
		return GuestState{}, err
	}
	return GuestState{NoSuspend: store[base+"/control/feature-suspend"] == "0"}, nil
}

// DiskUsers says which domain uses which disk of a host.
type DiskUsers struct{ uses []diskUse }

type diskUse struct {
	domid int
	path  string
}

// Of lists the domains that use what is behind path.
func (u DiskUsers) Of(path string) []int {
	var ids []int
	for _, use := range u.uses {
		if use.path == path && !slices.Contains(ids, use.domid) {
			ids = append(ids, use.domid)
		}
	}
	return ids
}

// Without leaves one domain out.
func (u DiskUsers) Without(id int) DiskUsers {
	return DiskUsers{uses: slices.DeleteFunc(slices.Clone(u.uses), func(use diskUse) bool { return use.domid == id })}
}

// DisksInUse reads what the block backends of this host are connected to.
func (x XL) DisksInUse(ctx context.Context) (DiskUsers, error) {
	store, err := x.store(ctx, "/local/domain/0/backend")
	if err != nil {
		return DiskUsers{}, err
	}
	var u DiskUsers
	for path, value := range store {
		parts := strings.Split(path, "/")
		if len(parts) == 8 && parts[5] == "vbd" && parts[7] == "params" {
			id, _ := strconv.Atoi(parts[6])
			u.uses = append(u.uses, diskUse{id, value})
		}
	}
	return u, nil
}

func (x XL) store(ctx context.Context, path string) (map[string]string, error) {
	out, _, err := x.ask(ctx, append(append([]string{}, x.Xenstore...), "xenstore-ls", "-f", path))
	var failed *CommandError
	if errors.As(err, &failed) && strings.Contains(failed.Stderr, "No such file or directory") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	store := map[string]string{}
	for line := range strings.Lines(out) {
		if p, v, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ` = "`); ok {
			store[p] = strings.TrimSuffix(v, `"`)
		}
	}
	return store, nil
}
