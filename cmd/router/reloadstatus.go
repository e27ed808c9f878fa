package main

import (
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"eventrouter/pkg/config"
)

// addressState says whether what is in force is what stands at an address.
type addressState string

const (
	addressOK          addressState = "ok"
	addressUnreachable addressState = "unreachable" // it can not be read
	addressRefused     addressState = "refused"     // what stands there is wrong
)

var addressStates = []addressState{addressOK, addressUnreachable, addressRefused}

// addressStatus is what people are told of an address.
type addressStatus struct {
	Part    string       `json:"part"`
	Address string       `json:"address"` // without user, password and query
	State   addressState `json:"state"`
	// Confirmed is when the address was last seen to hold what is in force.
	Confirmed time.Time `json:"confirmed"`
	// Problems say why it is not.
	Problems []string `json:"problems,omitempty"`
}

// places are the addresses of the configuration in force and how they are.
type places struct {
	mu  sync.Mutex
	all map[config.Address]*place
}

type place struct {
	state     addressState
	confirmed time.Time
	problems  []string // why what stands there is not in force
	told      string   // the trouble that was logged last, "" for none
}

// settle takes over the addresses of a configuration that is in force now.
func (p *places) settle(l *loaded) {
	p.mu.Lock()
	defer p.mu.Unlock()
	old := p.all
	p.all = map[config.Address]*place{}
	for a, v := range l.versions {
		at := &place{state: addressOK, confirmed: v.At}
		if was := old[a]; was != nil {
			at.told = was.told
		}
		if t, ok := l.troubles[a]; ok {
			at.state, at.problems = t.state, t.lines
		}
		p.all[a] = at
	}
}

// set notes what was found at an address. A zero time confirms nothing.
func (p *places) set(a config.Address, t trouble, confirmed time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.all[a]; at != nil {
		at.state, at.problems = t.state, t.lines
		if !confirmed.IsZero() {
			at.confirmed = confirmed
		}
	}
}

// tell says whether a trouble, or that there is none any more, is news.
func (p *places) tell(a config.Address, t trouble) (changed, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.all[a]
	if at == nil {
		return false, false
	}
	text := string(t.state) + strings.Join(t.lines, "\n")
	changed, over = text != at.told, text == "" && at.told != ""
	at.told = text
	return changed, over
}

// of returns the address of a part.
func (p *places) of(part string) (config.Address, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.all {
		if a.Part == part {
			return a, true
		}
	}
	return config.Address{}, false
}

func (p *places) status() []addressStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []addressStatus
	for a, at := range p.all {
		all = append(all, addressStatus{a.Part, a.String(), at.state, at.confirmed.UTC(), at.problems})
	}
	slices.SortFunc(all, func(a, b addressStatus) int { return strings.Compare(a.Part, b.Part) })
	return all
}

// reloadMetrics tell how reloads go. They are there from the start.
type reloadMetrics struct {
	reloads *prometheus.CounterVec
	success prometheus.Gauge

	places     *places
	age, state *prometheus.Desc
}

func newReloadMetrics(reg prometheus.Registerer, p *places) *reloadMetrics {
	m := &reloadMetrics{
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "router_config_reloads_total", Help: "Reloads of the configuration: ok, unchanged, failed (the one before stays in force).",
		}, []string{"result"}),
		success: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "router_config_last_reload_success_timestamp_seconds", Help: "When the configuration was last read without a problem, the start included.",
		}),
		places: p,
		age: prometheus.NewDesc("router_config_address_age_seconds",
			"How long ago the address of a part of the configuration was seen to hold what is in force.", []string{"part"}, nil),
		state: prometheus.NewDesc("router_config_address_state",
			"1 for the state of the address of a part of the configuration: ok, unreachable, refused.", []string{"part", "state"}, nil),
	}
	for _, result := range []string{"ok", "unchanged", "failed"} {
		m.reloads.WithLabelValues(result)
	}
	m.success.SetToCurrentTime()
	reg.MustRegister(m.reloads, m.success, m)
	return m
}

// succeeded counts a reload that went well.
func (m *reloadMetrics) succeeded(result string) {
	m.reloads.WithLabelValues(result).Inc()
	m.success.SetToCurrentTime()
}

// Describe implements [prometheus.Collector].
func (m *reloadMetrics) Describe(c chan<- *prometheus.Desc) {
	c <- m.age
	c <- m.state
}

// Collect implements [prometheus.Collector].
func (m *reloadMetrics) Collect(c chan<- prometheus.Metric) {
	for _, s := range m.places.status() {
		c <- prometheus.MustNewConstMetric(m.age, prometheus.GaugeValue, max(time.Since(s.Confirmed).Seconds(), 0), s.Part)
		for _, state := range addressStates {
			value := 0.0
			if state == s.State {
				value = 1
			}
			c <- prometheus.MustNewConstMetric(m.state, prometheus.GaugeValue, value, s.Part, string(state))
		}
	}
}
