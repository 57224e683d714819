package bus

import (
	"github.com/nats-io/nats-server/v2/server"

	"xmig/jobs"
)

// Permissions lists the subjects that a node's user needs, and no more: its
// own queue, records and presence; the keys of VMs and leases; its own verbs.
// It may read every record and every host, and may answer who asks it.
func Permissions(node string) (publish, subscribe []string) {
	return names{Prefix}.nodeRights(node)
}

func (n names) nodeRights(node string) (publish, subscribe []string) {
	queue, consumer := n.stream(streamJobs), consumerOf(node)
	publish = []string{
		"$JS.API.INFO",
		"$JS.API.STREAM.INFO." + queue,
		"$JS.API.CONSUMER.INFO." + queue + "." + consumer,
		// The filter is part of the subject: no consumer on another's queue.
		"$JS.API.CONSUMER.CREATE." + queue + "." + consumer + "." + n.bell(node, "*"),
		"$JS.API.CONSUMER.MSG.NEXT." + queue + "." + consumer,
		// Both forms of acknowledgement: a server may be told to use either.
		"$JS.ACK." + queue + "." + consumer + ".>",
		"$JS.ACK.*.*." + queue + "." + consumer + ".>",
		n.kvKey(bucketJobs, node+".>"),
		n.kvKey(bucketNodes, node),
		n.kvKey(bucketInventory, node),
		n.kvKey(bucketVMs, "*"),
		n.kvKey(bucketLeases, "*"),
		n.kvKey(bucketLeases, node+".>"),
		n.subject(tokenEvent, ">"),
		n.subject(tokenProgress, ">"),
		n.subject(tokenNode, "*", "*"), // the other end of a migration
		n.coordinatorVerb("*"),
	}
	for _, b := range []string{bucketJobs, bucketVMs, bucketLeases, bucketNodes, bucketInventory, bucketFleet} {
		kv := n.kvStream(b)
		publish = append(publish,
			"$JS.API.STREAM.INFO."+kv,
			"$JS.API.STREAM.MSG.GET."+kv,
			"$JS.API.CONSUMER.CREATE."+kv+".>", // watches
			"$JS.API.CONSUMER.DELETE."+kv+".>",
			"$JS.FC."+kv+".>",
		)
	}
	subscribe = []string{
		inboxOf(node) + ".>", // nobody else's replies
		n.subject(tokenNode, node, "*"),
		"$SRV.>", // nats micro: ping, info, stats
	}
	return publish, subscribe
}

func (u User) permissions(n names) (*server.Permissions, error) {
	switch u.Role {
	case RoleAdmin:
		return nil, nil // all
	case RoleNode:
		if err := checkNode(u.Node); err != nil {
			return nil, err
		}
		pub, sub := n.nodeRights(u.Node)
		return &server.Permissions{
			Publish:   &server.SubjectPermission{Allow: pub},
			Subscribe: &server.SubjectPermission{Allow: sub},
			Response:  &server.ResponsePermission{MaxMsgs: -1, Expires: -1},
		}, nil
	}
	return nil, jobs.Failed(jobs.CodeUsage, "bus user %q: role %q: want %s or %s", u.Name, u.Role, RoleNode, RoleAdmin)
}
