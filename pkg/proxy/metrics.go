package proxy

import (
	"errors"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what is counted of calls. Accounts are no labels: there are thousands.
type metrics struct {
	calls   *prometheus.CounterVec
	refused *prometheus.CounterVec
	seconds *prometheus.HistogramVec
	bytes   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_proxy_calls_total", Help: "Calls that were forwarded to customers' HubSpot accounts, by app and class of the answer's status: 2xx to 5xx, or none.",
		}, []string{"app", "status"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_proxy_refused_total", Help: "Calls that were not forwarded, or whose answer was not passed on, by app and why: " +
				"path, method, token, account, not_allowed, not_connected, reconnect, quota, busy, size, body, remote, timeout, gone.",
		}, []string{"app", "reason"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "router_proxy_call_seconds", Help: "Time from a call's arrival to the last byte of its answer.",
			Buckets: []float64{.01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 100},
		}, []string{"app"}),
		bytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_proxy_answer_bytes_total", Help: "Bytes of answers that were passed on.",
		}, []string{"app"}),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.calls, m.refused, m.seconds, m.bytes} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// class is a status as the metric has it; 0: there was no answer.
func class(status int) string {
	if status < 100 {
		return "none"
	}
	return strconv.Itoa(status/100) + "xx"
}
