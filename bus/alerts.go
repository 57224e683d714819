package bus

import (
	"context"
	"errors"

	"github.com/nats-io/nats.go"
)

// TakeAlerts has take answer what is published on xmig.alert.post, as a webhook
// would post it, until ctx ends. One server gets each post; who asks for a
// reply gets what take gives. Posts are taken one after another: a sender that
// is faster than that loses some, and sees it by the reply that does not come.
func (b *Bus) TakeAlerts(ctx context.Context, take func(ctx context.Context, body []byte) (reply []byte)) error {
	sub, err := b.nc.QueueSubscribeSync(b.names.subject(tokenAlert, "post"), tokenCoordinator)
	if err != nil {
		return away("alerts", err)
	}
	defer func() { _ = sub.Unsubscribe() }() // fails only on a closed connection
	for {
		m, err := sub.NextMsgWithContext(ctx)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, nats.ErrSlowConsumer):
			continue
		case err != nil:
			return away("alerts", err)
		}
		reply := take(ctx, m.Data)
		if m.Reply == "" {
			continue
		}
		if err := m.Respond(reply); err != nil {
			b.log.Warn().Err(err).Msg("answer to a post of alerts lost")
		}
	}
}
