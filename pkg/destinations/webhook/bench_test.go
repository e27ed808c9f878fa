package webhook

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

// BenchmarkSend is one Send to an endpoint that answers at once: what rendering, signing and net/http's own structures cost. Bytes are of event JSON.
func BenchmarkSend(b *testing.B) {
	for _, c := range []struct {
		name, yaml string
		events     int
	}{
		{"one", "secret: 0123456789abcdef\n", 1},
		{"batch of 100", "secret: 0123456789abcdef\nbatch: {max_events: 100}\n", 100},
		{"templated url", "url: 'https://example.com/u/{{.user.id}}'\nheaders: {X-Type: '{{.event_type}}'}\n", 1},
		{"body in JavaScript", "body: '({email: $.user.email, type: $.event_type})'\n", 1},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, c.yaml)
			r.dest.http.Transport = taker{}
			var batch []destinations.Entry
			bytes := 0
			for i := range c.events {
				batch = append(batch, r.entries(benchEvent(r, i))...)
				bytes += len(batch[i].Event.JSON)
			}
			b.SetBytes(int64(bytes))
			b.ReportAllocs()
			for b.Loop() {
				p, err := r.dest.Acquire(context.Background(), "", laneEvents)
				if err != nil {
					b.Fatal(err)
				}
				if out := r.dest.Send(context.Background(), p, batch); out[0].Err != nil {
					b.Fatal(out[0].Err)
				}
			}
			b.ReportMetric(float64(b.N*c.events)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// benchEvent is of 1 KiB.
func benchEvent(r *rig, i int) *event.Event {
	return r.event(fmt.Sprintf(`{"event_type":"signup","user":{"email":"p%d@example.com","id":%d},"text":%q}`, i, i, strings.Repeat("x", 950)))
}
