package connections

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what is counted of connections.
type metrics struct {
	connects  *prometheus.CounterVec
	refreshes *prometheus.CounterVec
	uninstall *prometheus.CounterVec
	notices   *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, s *Service) (*metrics, error) {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	m := &metrics{
		connects:  counter("router_connects_total", "Browsers that came back from HubSpot's page of consent, by what became of it.", "app", "outcome"),
		refreshes: counter("router_token_refreshes_total", "Access tokens of customers' accounts that were refreshed, or not: ok, failed, refused (the app itself), reconnect_needed.", "app", "outcome"),
		uninstall: counter("router_connection_webhooks_total", "Requests of HubSpot's about an app: taken, or refused and why.", "app", "outcome"),
		notices:   counter("router_connection_notices_total", "Changes of connections that the team is told of.", "app"),
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.connects, m.refreshes, m.uninstall, m.notices, &statuses{s, prometheus.NewDesc("router_connections", "Customers' accounts, by status.", []string{"app", "status"}, nil)}} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// statuses counts the accounts when it is asked.
type statuses struct {
	s    *Service
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c *statuses) Describe(ch chan<- *prometheus.Desc) { ch <- c.desc }

// Collect implements prometheus.Collector.
func (c *statuses) Collect(ch chan<- prometheus.Metric) {
	count := map[[2]string]int{}
	c.s.mu.RLock()
	for name := range c.s.apps {
		for _, status := range []Status{Connected, ReconnectNeeded} {
			count[[2]string{name, string(status)}] = 0
		}
	}
	for _, a := range c.s.accounts {
		a.mu.Lock()
		if a.row.Hub != "" {
			count[[2]string{a.id.app, a.row.Status}]++
		}
		a.mu.Unlock()
	}
	c.s.mu.RUnlock()
	for labels, n := range count {
		ch <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(n), labels[0], labels[1])
	}
}
