package test

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"xmig/bus"
)

// TestOperationsRights: the server's configuration in docs/operations.md is one
// that a server takes, and gives a worker exactly the rights that it needs.
func TestOperationsRights(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), "\n```conf\n")
	conf, _, closed := strings.Cut(rest, "\n```\n")
	if !ok || !closed {
		t.Fatal("there is no block ```conf")
	}
	var o server.Options
	if err := o.ProcessConfigString(conf); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(o.Users, func(u *server.User) bool { return u.Username == "hv1" })
	if i < 0 || o.Users[i].Permissions == nil {
		t.Fatal("it has no user hv1 with permissions")
	}
	publish, subscribe := bus.Permissions("hv1")
	p := o.Users[i].Permissions
	for what, c := range map[string]struct{ have, want []string }{
		"publish":   {p.Publish.Allow, publish},
		"subscribe": {p.Subscribe.Allow, subscribe},
	} {
		if !slices.Equal(c.have, c.want) {
			t.Errorf("%s:\n%s\nwant:\n%s", what, strings.Join(c.have, "\n"), strings.Join(c.want, "\n"))
		}
	}
	if p.Response == nil || p.Response.MaxMsgs != -1 {
		t.Errorf("answers: %+v, want no limit: a verb that takes long says so again and again", p.Response)
	}
	if !o.SyncAlways || o.MaxPayload != 8<<20 {
		t.Errorf("sync always %t, max payload %d", o.SyncAlways, o.MaxPayload)
	}
}
