package faults

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/rs/zerolog"

	"xmig/bus"
	"xmig/jobs"
	"xmig/test/cluster"
)

// requests are moves that nobody could make as asked.
func requests() []fault {
	return []fault{
		{name: "unknown vm", short: true, do: func(s *scene) {
			s.refused("submit", "nobody", "--to", "hv2")
			s.refused("submit", "web01", "--from", "hv2", "--to", "hv1")
			s.refused("check", "nobody", "--to", "hv2")
		}},
		{name: "unknown host", short: true, do: func(s *scene) {
			s.refused("submit", "web01", "--to", "hv9")
			s.refused("check", "hv9")
		}},
		{name: "host whose worker is gone", do: func(s *scene) {
			s.there.Node.Stop()
			s.c.AwaitPresence(s.here)
			s.refused(s.move()...)
			s.there.Node.Start()
			s.c.AwaitHosts()
			s.moves(s.submit())
		}},
		{name: "same host twice", do: func(s *scene) {
			s.refused("submit", "web01", "--to", "hv1")
			s.refused("submit", "web01", "--from", "hv1", "--to", "hv1")
		}},
		{name: "second submit of a vm that is moving", short: true, do: secondSubmit},
		{name: "vm that xl itself moves", short: true, do: func(s *scene) {
			other := s.c.Guest(s.there, cluster.GuestSpec{Name: "web01--incoming", State: cluster.Paused})
			s.refused(s.move()...)
			s.gone(other)
		}},
		{name: "config that does not parse", short: true, do: func(s *scene) {
			s.write(s.vm.Config(s.here), "name = \"web01\"\ndisk = [ 'a', \n")
			s.refused(s.move()...)
		}},
		{name: "config that does not parse of a vm that is halted", guest: cluster.GuestSpec{State: cluster.Halted}, do: func(s *scene) {
			good := s.read(s.vm.Config(s.here))
			s.write(s.vm.Config(s.here), "name = \"web01\"\ndisk = [ 'a', \n")
			s.here.Node.Stop() // so that presence tells the new state
			s.here.Node.Start()
			s.c.AwaitHosts()
			s.refused(s.move()...)
			s.write(s.vm.Config(s.here), good)
		}},
		{name: "config of another vm that does not parse", do: func(s *scene) {
			for _, h := range s.c.Hosts {
				s.write(filepath.Join(filepath.Dir(s.vm.Config(h)), "broken.cfg"), "name = \n")
			}
			s.moves(s.submit())
		}},
		{name: "name with blanks", short: true, guest: cluster.GuestSpec{Name: "my web 01"}, do: func(s *scene) { s.moves(s.submit()) }},
		{name: "name with a leading dash", guest: cluster.GuestSpec{Name: "-rf"}, do: func(s *scene) { s.moves(s.submit()) }},
		{name: "no bus at the start", short: true, do: noBus},
		{name: "no coordinator", do: noCoordinator},
	}
}

func (s *scene) submit(more ...string) string {
	s.Helper()
	return s.c.Submit(s.vm, s.here, s.there, more...)
}

func (s *scene) read(path string) string {
	s.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		s.Fatal(err)
	}
	return string(text)
}

func (s *scene) write(path, text string) {
	s.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.Fatal(err)
	}
}

// gone takes away a guest that was in the way, so that the evidence about the
// row's own is judged alone.
func (s *scene) gone(g *cluster.Guest) {
	s.Helper()
	if g.State != cluster.Halted {
		g.Home.XL("destroy", g.Name)
	}
	for _, path := range []string{g.Config(g.Home), g.Autostart(g.Home)} {
		if err := os.Remove(path); err != nil {
			s.Fatal(err)
		}
	}
	for i := range g.Disks {
		if err := os.Remove(g.Disk(g.Home, i)); err != nil {
			s.Fatal(err)
		}
	}
}

// secondSubmit: one mover per VM, from the submission on. The same request again
// means the same job; the error for another one names it.
func secondSubmit(s *scene) {
	s.there.Slow("info", firstSlow)
	job := s.submit()
	s.c.AwaitStep(job, jobs.Check)
	if again := s.submit(); again != job {
		s.Errorf("the same request again made job %s beside %s", again, job)
	}
	s.refused("submit", "web01")
	s.there.Slow("info", 0)
	s.moves(job)
}

// noBus: commands say what to do; workers that are there before the bus wait
// for it, and the first move needs nothing but the server's start.
func noBus(s *scene) {
	s.here.Node.Stop()
	s.there.Node.Stop()
	s.c.Server.Kill()
	s.refused("submit", "web01", "--to", "hv2", "--timeout", "1s")
	s.here.Node.Start()
	s.there.Node.Start()
	s.c.Server.Start()
	s.c.AwaitHosts()
	s.c.AwaitSeen(s.vm, s.here)
	s.moves(s.submit())
}

// noCoordinator: the bus is there, and nobody on it takes submissions.
func noCoordinator(s *scene) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	server, err := bus.StartServer(ctx, bus.ServerConfig{StoreDir: s.TempDir(), Listen: "127.0.0.1", Port: -1, Log: zerolog.Nop()})
	if err != nil {
		s.Fatal(err)
	}
	defer server.Close()
	b, err := bus.Connect(ctx, bus.Config{InProcess: server, Log: zerolog.Nop()})
	if err != nil {
		s.Fatal(err)
	}
	defer b.Close()
	if err := b.Setup(ctx, bus.Layout{}); err != nil {
		s.Fatal(err)
	}
	s.told = append(s.told, s.c.CommandOn(server.ClientURL(), "submit", "web01", "--to", "hv2", "--timeout", "2s"))
}
