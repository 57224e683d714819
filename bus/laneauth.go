package bus

import (
	"crypto/sha256"
	"crypto/subtle"
	"sync"

	"github.com/nats-io/nats-server/v2/server"
)

// sourceRights are what the source of one lane may do, and no more.
func (s *LaneServer) sourceRights(spec LaneSpec, user string) *server.Permissions {
	n := s.names
	return &server.Permissions{
		Publish: &server.SubjectPermission{Allow: []string{
			n.lane(spec, laneChunk),
			n.lane(spec, string(source), laneCredit),
			n.nodeVerb(s.cfg.Node, "*"), // calls while the control bus is away
		}},
		Subscribe: &server.SubjectPermission{Allow: []string{
			laneInbox(user) + ".>",
			n.lane(spec, string(source), laneIntake),
			n.lane(spec, string(destination), laneCredit),
		}},
	}
}

// laneAuth lets in this process and the sources of open lanes.
type laneAuth struct {
	self, secret string

	mu    sync.Mutex
	users map[string]*laneUser
}

type laneUser struct {
	hash    [32]byte
	rights  *server.Permissions
	clients []uint64
}

func newLaneAuth() *laneAuth {
	a := &laneAuth{self: "self", users: map[string]*laneUser{}}
	plain, hash := secret()
	a.secret = plain
	a.users[a.self] = &laneUser{hash: hash}
	return a
}

// Check is called by the server for each connection.
func (a *laneAuth) Check(c server.ClientAuthentication) bool {
	o := c.GetOpts()
	got := sha256.Sum256([]byte(o.Password))
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[o.Username]
	if u == nil || subtle.ConstantTimeCompare(got[:], u.hash[:]) != 1 {
		return false
	}
	if u.rights != nil {
		u.clients = append(u.clients, c.GetID())
	}
	c.RegisterUser(&server.User{Username: o.Username, Permissions: u.rights})
	return true
}

func (a *laneAuth) admit(user string, hash [32]byte, rights *server.Permissions) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.users[user] = &laneUser{hash: hash, rights: rights}
}

// dismiss removes a user and returns its connections.
func (a *laneAuth) dismiss(user string) []uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	u := a.users[user]
	delete(a.users, user)
	if u == nil {
		return nil
	}
	return u.clients
}
