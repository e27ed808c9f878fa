package destinations

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// maxPropertyLabels bounds the distinct property names per destination in metrics: names come from clients.
const maxPropertyLabels = 200

// Metrics are the metrics that every destination fills, labelled by the destination's name.
type Metrics struct {
	calls     *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	quotaWait *prometheus.CounterVec
	refused   *prometheus.CounterVec
	quotaLeft *quotaLeft
	stripped  *prometheus.CounterVec

	mu    sync.Mutex
	names map[string]map[string]bool // destination: property names in use as labels
}

// NewMetrics registers the metrics with reg.
func NewMetrics(reg prometheus.Registerer) *Metrics {
	m := &Metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_destination_calls_total",
			Help: "Calls to the remote system by endpoint and HTTP status (0: no answer).",
		}, []string{"destination", "endpoint", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "router_destination_call_seconds", Help: "Time that calls to the remote system took.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100},
		}, []string{"destination", "endpoint"}),
		quotaWait: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_quota_wait_seconds_total", Help: "Time that ready entries waited for quota.",
		}, []string{"destination", "policy"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_quota_refused_total", Help: "Calls that the remote refused for want of quota (HTTP 429).",
		}, []string{"destination", "policy"}),
		quotaLeft: &quotaLeft{
			desc: prometheus.NewDesc("router_quota_remaining", "Calls that a quota still allows, as last told and counted since.",
				[]string{"destination", "policy"}, nil),
			read: map[string]func(func(string, int)){},
		},
		stripped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_stripped_properties_total",
			Help: "Properties left out of deliveries, by name (the first 200 per destination, then _other) and reason.",
		}, []string{"destination", "property", "reason"}),
		names: map[string]map[string]bool{},
	}
	reg.MustRegister(m.calls, m.duration, m.quotaWait, m.refused, m.quotaLeft, m.stripped)
	return m
}

// Call counts one call. status is the HTTP status, 0 when there was no answer. endpoint is a constant name, never a path with ids.
func (m *Metrics) Call(destination, endpoint string, status int, took time.Duration) {
	m.calls.WithLabelValues(destination, endpoint, strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(destination, endpoint).Observe(took.Seconds())
}

// QuotaWait counts time that a ready lane waited for quota of policy.
func (m *Metrics) QuotaWait(destination, policy string, d time.Duration) {
	m.quotaWait.WithLabelValues(destination, policy).Add(d.Seconds())
}

// QuotaRefused counts a call that the remote refused for want of quota of policy.
func (m *Metrics) QuotaRefused(destination, policy string) {
	m.refused.WithLabelValues(destination, policy).Inc()
}

// QuotaRemaining has read tell, whenever somebody asks, how many calls each policy still allows. A later one of the same destination replaces
// it.
func (m *Metrics) QuotaRemaining(destination string, read func(set func(policy string, left int))) {
	m.quotaLeft.mu.Lock()
	defer m.quotaLeft.mu.Unlock()
	m.quotaLeft.read[destination] = read
}

// quotaLeft collects what remains at the time of asking: it grows again without a call.
type quotaLeft struct {
	desc *prometheus.Desc

	mu   sync.Mutex // guards the fields below
	read map[string]func(set func(policy string, left int))
}

// Describe implements [prometheus.Collector].
func (q *quotaLeft) Describe(ch chan<- *prometheus.Desc) { ch <- q.desc }

// Collect implements [prometheus.Collector].
func (q *quotaLeft) Collect(ch chan<- prometheus.Metric) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for destination, read := range q.read {
		read(func(policy string, left int) {
			ch <- prometheus.MustNewConstMetric(q.desc, prometheus.GaugeValue, float64(left), destination, policy)
		})
	}
}

// Stripped counts a property that was left out, for a reason such as "unknown", "read-only" or "value".
func (m *Metrics) Stripped(destination, property, reason string) {
	property = strings.ToValidUTF8(property, "\ufffd") // other labels panic
	m.mu.Lock()
	names := m.names[destination]
	if names == nil {
		names = map[string]bool{}
		m.names[destination] = names
	}
	if !names[property] {
		if len(names) < maxPropertyLabels {
			names[property] = true
		} else {
			property = "_other"
		}
	}
	m.mu.Unlock()
	m.stripped.WithLabelValues(destination, property, reason).Inc()
}
