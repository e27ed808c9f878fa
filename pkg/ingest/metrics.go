package ingest

import (
	"time"

	"eventrouter/pkg/event"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are registered once; the children of a key are looked up when its source is made, never per request.
type metrics struct {
	received    *prometheus.CounterVec
	accepted    *prometheus.CounterVec
	undelivered *prometheus.CounterVec
	badLines    *prometheus.CounterVec
	badMessages *prometheus.CounterVec
	bulkWaited  prometheus.Counter
	uploads     prometheus.Gauge
	limited     *prometheus.CounterVec
	oldSecret   *prometheus.CounterVec
	rejected    [reasons]prometheus.Counter
	seconds     prometheus.Histogram

	unknownPolicies prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_events_received_total", Help: "Events in well-formed requests, accepted or not, by id of the API key.",
		}, []string{"api_key"}),
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_events_accepted_total", Help: "Events made durable and answered with 200, by id of the API key and class.",
		}, []string{"api_key", "class"}),
		undelivered: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_events_without_destination_total", Help: "Accepted events whose API key feeds no destination.",
		}, []string{"api_key"}),
		unknownPolicies: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "router_unknown_policies_total", Help: "Requests with a cookie_policy or ip_policy that is none: it is taken for keep.",
		}),
		badLines: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_bulk_rejected_lines_total", Help: "Lines of uploads that hold no event and were passed over, by id of the API key.",
		}, []string{"api_key"}),
		badMessages: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_batch_rejected_messages_total", Help: "Elements of batches that were left out: no messages, or too large, by id of the API key.",
		}, []string{"api_key"}),
		uploads: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "router_bulk_uploads", Help: "Uploads to the bulk route that are under way.",
		}),
		bulkWaited: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "router_bulk_wait_seconds_total", Help: "Time that uploads waited for room in the log or in a lane.",
		}),
		limited: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_rate_limited_total", Help: "Requests refused because the API key sent more events than its rate limit allows.",
		}, []string{"api_key"}),
		oldSecret: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_old_secret_used_total", Help: "Requests with a secret of the API key that is not the first of its list.",
		}, []string{"api_key"}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "router_request_seconds", Help: "Time that an accepted request took from its last byte to its answer, the wait for the disk included.",
			Buckets: []float64{.0005, .001, .002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10},
		}),
	}
	rejected := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "router_requests_rejected_total", Help: "Requests not accepted: " +
			"route, token, body, size, depth, full (log), failed (log), refused (lane full), rate, origin, connections, http, busy (large requests), internal.",
	}, []string{"reason"})
	for r, name := range reasonNames {
		m.rejected[r] = rejected.WithLabelValues(name)
	}
	for _, c := range []prometheus.Collector{
		m.received, m.accepted, m.undelivered, m.badLines, m.badMessages, m.bulkWaited, m.uploads, m.limited, m.oldSecret, m.seconds, m.unknownPolicies, rejected,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// resolve gives src its counters.
func (m *metrics) resolve(src *source) {
	src.received = m.received.WithLabelValues(src.id)
	src.badLines = m.badLines.WithLabelValues(src.id)
	src.badMessages = m.badMessages.WithLabelValues(src.id)
	src.accepted[event.Live] = m.accepted.WithLabelValues(src.id, "live")
	src.accepted[event.Bulk] = m.accepted.WithLabelValues(src.id, "bulk")
	if src.limit != nil {
		src.limited = m.limited.WithLabelValues(src.id)
	}
	if src.rotates {
		src.oldSecret = m.oldSecret.WithLabelValues(src.id)
	}
	if !src.feeds {
		src.undelivered = m.undelivered.WithLabelValues(src.id)
	}
}

func (m *metrics) observe(took time.Duration) { m.seconds.Observe(took.Seconds()) }
