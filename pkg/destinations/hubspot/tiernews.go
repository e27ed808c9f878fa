package hubspot

import (
	"log/slog"
	"slices"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

// tierNews tells that customers' accounts take no custom events: once for a destination, and not for each of its accounts, of which most have no Enterprise tier. It outlives reloads.
type tierNews struct{ lacking, refusing sync.Once }

// lacks tells of the first account whose people have not granted the scopes.
func (n *tierNews) lacks(log *slog.Logger) {
	n.lacking.Do(func() {
		log.Info("an account has not granted the scopes of custom events, which only an Enterprise tier has: its contacts flow and its custom events are skipped; other accounts like it "+
			"are not told of, router_skipped_total counts their events", "reason", tierReason)
	})
}

// refused tells of the first account whose custom events HubSpot refuses.
func (n *tierNews) refused(log *slog.Logger, hold time.Duration, err error) {
	n.refusing.Do(func() {
		log.Warn("HubSpot refuses the custom events of an account: they need an Enterprise tier and the scopes analytics.behavioral_events.send and "+
			"behavioral_events.event_definitions.read_write; its contacts flow on, its events wait; of other accounts like it only their lanes tell", "hold", hold.String(), "error", err.Error())
	})
}

// grantLacksEvents says that the people of a customer's account have granted less than custom events need, as far as that is known. HubSpot would refuse each call, until they grant it.
func (d *Destination) grantLacksEvents() bool {
	if d.connections == nil {
		return false
	}
	scopes := d.connections.Scopes(d.of)
	return len(scopes) > 0 && (!slices.Contains(scopes, scopeSendEvents) || !slices.Contains(scopes, scopeDefinitions))
}

// skipAll settles all entries without a call: what waited would be skipped in the end.
func (s *eventSend) skipAll() {
	s.d.tierNews.lacks(s.d.log)
	for i := range s.batch {
		s.out[i] = destinations.Outcome{Err: destinations.Skip(tierReason)}
	}
}
