package router

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of sorter and lanes. Those named eventnative_* are Jitsu's, for dashboards that exist.
type metrics struct {
	sorted       prometheus.Counter
	duplicates   prometheus.Counter
	botsVec      *prometheus.CounterVec
	filteredVec  *prometheus.CounterVec
	skippedVec   *prometheus.CounterVec
	deliveredVec *prometheus.CounterVec
	retriedVec   *prometheus.CounterVec
	deadVec      *prometheus.CounterVec
	lostVec      *prometheus.CounterVec
	expiredVec   *prometheus.CounterVec
	pushedVec    *prometheus.CounterVec
	replayedVec  *prometheus.CounterVec
	latency      *prometheus.HistogramVec

	jitsuEvents, jitsuSkips, jitsuErrors *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, r *Router) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	jitsu := []string{"project_id", "source_type", "source_tap", "source_id", "destination_type", "destination_id"}
	m := &metrics{
		sorted: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "router_sorted_total", Help: "Events that the sorter took from the log, without duplicates.",
		}),
		duplicates: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "router_duplicates_total", Help: "Events whose id the same API key had sent before, within the window.",
		}),
		botsVec:      counter("router_bot_events_total", "Events whose user agent is a bot's, by API key.", "api_key"),
		filteredVec:  counter("router_filtered_total", "Events that a destination's filter left out.", "destination"),
		skippedVec:   counter("router_skipped_total", "Events that are not for a destination, by reason.", "destination", "reason"),
		deliveredVec: counter("router_delivered_total", "Lane entries that the remote has taken.", "destination", "lane"),
		retriedVec:   counter("router_retried_total", "Attempts that will be made again.", "destination", "lane"),
		deadVec:      counter("router_dead_letters_total", "Dead letters made, by reason.", "destination", "reason"),
		lostVec:      counter("router_entries_lost_total", "Entries that could not be read from the store any more.", "destination", "lane"),
		expiredVec:   counter("router_dead_letters_expired_total", "Dead letters that were deleted because of their age.", "destination"),
		pushedVec:    counter("router_dead_letters_pushed_out_total", "Dead letters of the account with most of them that were deleted because its destination had too many.", "destination"),
		replayedVec:  counter("router_replayed_total", "Dead letters that were replayed, by what came of it: handed_over, stopped.", "destination", "result"),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "router_delivery_latency_seconds", Help: "Time from receipt of an event to its delivery.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200, 43200, 86400},
		}, []string{"destination", "lane"}),
		jitsuEvents: counter("eventnative_destinations_events", "Events delivered.", jitsu...),
		jitsuSkips:  counter("eventnative_destinations_skips", "Events filtered out or skipped.", jitsu...),
		jitsuErrors: counter("eventnative_destinations_errors", "Events that became dead letters.", jitsu...),
	}
	reg.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "router_user_agents_unparsed_total", Help: "User agents that were not parsed because parsing had taken its share of the time.",
	}, func() float64 { return float64(r.enricher.Unparsed()) }))
	reg.MustRegister(m.sorted, m.duplicates, m.botsVec, m.filteredVec, m.skippedVec, m.deliveredVec, m.retriedVec, m.deadVec, m.lostVec, m.replayedVec, m.expiredVec, m.pushedVec, m.latency,
		m.jitsuEvents, m.jitsuSkips, m.jitsuErrors, &gauges{router: r})
	return m
}

// jitsuLabels are the labels of Jitsu's metrics for events of a route.
func jitsuLabels(route *Route) []string {
	if route == nil {
		return []string{"", "", "", "", "", ""}
	}
	return []string{"", "api", "", "", route.Type, route.Name}
}

func (m *metrics) filtered(route *Route, n int) {
	m.filteredVec.WithLabelValues(route.Name).Add(float64(n))
	m.jitsuSkips.WithLabelValues(jitsuLabels(route)...).Add(float64(n))
}

func (m *metrics) skip(route *Route, reason string, n int) {
	m.skippedVec.WithLabelValues(route.Name, reason).Add(float64(n))
	m.jitsuSkips.WithLabelValues(jitsuLabels(route)...).Add(float64(n))
}

func (m *metrics) skipped(route *Route, reason string) { m.skip(route, reason, 1) }

// delivered counts one entry. One that only prepared the way for an event is no event of Jitsu's.
func (m *metrics) delivered(route *Route, lane string, ifNew bool, took time.Duration) {
	m.deliveredVec.WithLabelValues(route.Name, lane).Inc()
	if ifNew {
		return
	}
	m.latency.WithLabelValues(route.Name, lane).Observe(took.Seconds())
	m.jitsuEvents.WithLabelValues(jitsuLabels(route)...).Inc()
}

func (m *metrics) retried(route *Route, entries []*entry) {
	for _, e := range entries {
		m.retriedVec.WithLabelValues(route.Name, e.stream.name.Lane).Inc()
	}
}

func (m *metrics) dead(route *Route, reason string) {
	name := ""
	if route != nil {
		name = route.Name
	}
	m.deadVec.WithLabelValues(name, reason).Inc()
	m.jitsuErrors.WithLabelValues(jitsuLabels(route)...).Inc()
}

// counts gathers what one hand-over counts, so that a counter moves once a batch, after the commit.
type counts struct {
	r          *Router
	table      *table
	sorted     int
	duplicates int
	bots       map[string]int // by API key
	filtered   []int          // by route
	skips      []map[string]int
	dead       []deadCount
	replays    map[replayCount]int
}

type replayCount struct {
	destination string
	stopped     bool
}

type deadCount struct {
	route  *Route
	reason string
}

func newCounts(r *Router, t *table) counts {
	return counts{r: r, table: t, bots: map[string]int{}, filtered: make([]int, len(t.routes)), skips: make([]map[string]int, len(t.routes)), replays: map[replayCount]int{}}
}

func (c *counts) replay(destination string, stopped bool) {
	c.replays[replayCount{destination, stopped}]++
}

func (c *counts) skip(route int, reason string) {
	if c.skips[route] == nil {
		c.skips[route] = map[string]int{}
	}
	c.skips[route][reason]++
}

func (c *counts) bury(route *Route, reason string) {
	c.dead = append(c.dead, deadCount{route, reason})
}

func (c *counts) flush() {
	m := c.r.metrics
	m.sorted.Add(float64(c.sorted))
	m.duplicates.Add(float64(c.duplicates))
	for apiKey, n := range c.bots {
		m.botsVec.WithLabelValues(apiKey).Add(float64(n))
	}
	clear(c.bots)
	for i, route := range c.table.routes {
		if c.filtered[i] > 0 {
			m.filtered(route, c.filtered[i])
		}
		for reason, n := range c.skips[i] {
			m.skip(route, reason, n)
		}
		clear(c.skips[i])
	}
	for _, d := range c.dead {
		m.dead(d.route, d.reason)
	}
	for r, n := range c.replays {
		result := "handed_over"
		if r.stopped {
			result = "stopped"
		}
		m.replayedVec.WithLabelValues(r.destination, result).Add(float64(n))
	}
	clear(c.replays)
	clear(c.filtered)
	c.sorted, c.duplicates, c.dead = 0, 0, c.dead[:0]
}

// gauges collects the state of log, store and lanes when it is asked for.
type gauges struct{ router *Router }

var (
	laneLabels  = []string{"destination", "hub", "account", "lane"}
	laneEntries = prometheus.NewDesc("router_lane_entries", "Entries that are not finished.", laneLabels, nil)
	laneBytes   = prometheus.NewDesc("router_lane_bytes", "Bytes of a lane on disk.", laneLabels, nil)
	laneOldest  = prometheus.NewDesc("router_lane_oldest_seconds", "Age of the oldest entry, 0 when empty.", laneLabels, nil)
	laneState   = prometheus.NewDesc("router_lane_state", "1 for the state that the lane is in.", append(laneLabels[:4:4], "state"), nil)
	laneSince   = prometheus.NewDesc("router_lane_since_seconds", "When the lane got into the state blocked or paused, in Unix seconds; 0 in others.", laneLabels, nil)
	// Of destinations that deliver to accounts there are no series of each account's lanes: there may be thousands.
	accountEntries = prometheus.NewDesc("router_accounts_entries", "Entries of all accounts of the destination that are not finished.", []string{"destination"}, nil)
	accountBytes   = prometheus.NewDesc("router_accounts_bytes", "Bytes on disk of the lanes of all accounts of the destination.", []string{"destination"}, nil)
	accountOldest  = prometheus.NewDesc("router_accounts_oldest_seconds", "Age of the oldest entry of any account of the destination.", []string{"destination"}, nil)
	accountLanes   = prometheus.NewDesc("router_accounts_lanes", "Lanes with entries of the destination's accounts, by state.", []string{"destination", "state"}, nil)

	waitingLanes  = prometheus.NewDesc("router_accounts_waiting_lanes", "Of the destination's lanes that are blocked, those whose account is not connected.", []string{"destination"}, nil)
	waitingOldest = prometheus.NewDesc("router_accounts_waiting_oldest_seconds", "Age of the oldest event that waits for an account to connect.", []string{"destination"}, nil)
	waitingMost   = prometheus.NewDesc("router_accounts_waiting_max_seconds", "How long an event waits for its account to connect, 0 as long as it takes.", []string{"destination"}, nil)

	logBytes      = prometheus.NewDesc("router_log_bytes", "Bytes of the log on disk: live, bulk.", []string{"log"}, nil)
	logUnsorted   = prometheus.NewDesc("router_log_unsorted_records", "Records that the sorter has not handed over.", []string{"log"}, nil)
	storeBytes    = prometheus.NewDesc("router_store_bytes", "Bytes of the store on disk.", nil, nil)
	storeProblems = prometheus.NewDesc("router_store_check_problems", "Problems that the last check of the store has found, 10 at most.", nil, nil)
	storeDamaged  = prometheus.NewDesc("router_store_damaged_rows_total", "Damaged rows of the store that were met.", []string{"table"}, nil)
	storeChecked  = prometheus.NewDesc("router_store_check_timestamp_seconds", "When the last check of the store ended, in Unix seconds; 0 before the first.", nil, nil)
	storeCheck    = prometheus.NewDesc("router_store_check_seconds", "How long it took.", nil, nil)
	jitsuQueue    = prometheus.NewDesc("eventnative_destinations_events_queue_size", "Entries that are not finished.", []string{"destination_type", "destination_id"}, nil)
	outcomes      = prometheus.NewDesc("router_outcomes", "Outcomes that are kept.", nil, nil)
	outcomeBytes  = prometheus.NewDesc("router_outcome_bytes", "Bytes of the outcomes on disk.", nil, nil)
	outcomesGone  = prometheus.NewDesc("router_outcomes_dropped_total", "Outcomes taken away because of a bound: size, age.", []string{"bound"}, nil)
	identityCount = prometheus.NewDesc("router_identities", "Ids whose e-mail is remembered, when they were last gone through.", nil, nil)
	identityGone  = prometheus.NewDesc("router_identities_dropped_total", "Identities taken away because of a bound: count, age.", []string{"bound"}, nil)
	kvEntries     = prometheus.NewDesc("router_kv_entries", "Entries that the destination's transform keeps in $kv.", []string{"destination"}, nil)
	kvBytes       = prometheus.NewDesc("router_kv_bytes", "Bytes of their keys and values.", []string{"destination"}, nil)
	kvDropped     = prometheus.NewDesc("router_kv_dropped_total", "Entries of $kv that went because of a bound.", []string{"destination"}, nil)
	refusedAPIKey = prometheus.NewDesc("router_api_keys_refused", "API keys that are refused because a lane is full.", nil, nil)
)

// Describe implements prometheus.Collector.
func (g *gauges) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		waitingLanes, waitingOldest, waitingMost, accountEntries, accountBytes, accountOldest, accountLanes, laneEntries, laneBytes, laneOldest, laneState, laneSince, logBytes, logUnsorted, storeBytes, storeProblems, storeChecked, storeDamaged, storeCheck, jitsuQueue, refusedAPIKey,
		outcomes, outcomeBytes, outcomesGone, identityCount, identityGone, kvEntries, kvBytes, kvDropped,
		deadLetters, deadLetterBytes, deadLetterOldest, deadLetterReplays, deadLetterMost,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(ch chan<- prometheus.Metric) {
	r := g.router
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	queue := map[string]int64{}
	all := r.Status()
	r.collectWaiting(all, gauge)
	var accounts []AccountsStatus
	all, accounts = r.withoutAccounts(all)
	for _, sum := range accounts {
		gauge(accountEntries, float64(sum.Entries), sum.Destination)
		gauge(accountBytes, float64(sum.Bytes), sum.Destination)
		gauge(accountOldest, sum.OldestSeconds, sum.Destination)
		for _, state := range []State{Flowing, Paused, Blocked, Parked, Swapping} {
			gauge(accountLanes, float64(sum.States[state]), sum.Destination, string(state))
		}
		queue[sum.Destination] += sum.Entries
	}
	for _, s := range all {
		n := s.Name
		labels := []string{n.Destination, n.Hub, n.Account, n.Lane}
		gauge(laneEntries, float64(s.Entries), labels...)
		gauge(laneBytes, float64(s.Bytes), labels...)
		gauge(laneOldest, s.OldestSeconds, labels...)
		gauge(laneState, 1, append(labels, string(s.State))...)
		since := 0.0
		if s.Since != nil {
			since = float64(s.Since.UnixMilli()) / 1000
		}
		gauge(laneSince, since, labels...)
		queue[n.Destination] += s.Entries
	}
	for _, route := range r.table.Load().routes {
		gauge(jitsuQueue, float64(queue[route.Name]), route.Type, route.Name)
	}
	for _, in := range r.intakes() {
		gauge(logBytes, float64(in.log.Stats().Bytes), in.name)
		gauge(logUnsorted, float64(in.unsorted()), in.name)
	}
	checked := r.store.LastCheck()
	gauge(storeProblems, float64(len(checked.Problems)))
	gauge(storeCheck, checked.Took.Seconds())
	at := 0.0
	if !checked.At.IsZero() {
		at = float64(checked.At.UnixMilli()) / 1000
	}
	gauge(storeChecked, at)
	kept := r.store.Stats()
	gauge(storeBytes, float64(kept.FileBytes+kept.WALBytes))
	gauge(outcomes, float64(kept.Outcomes))
	gauge(outcomeBytes, float64(kept.OutcomeBytes))
	for bound, n := range map[string]int64{"size": kept.OutcomesTooMany, "age": kept.OutcomesTooOld} {
		ch <- prometheus.MustNewConstMetric(outcomesGone, prometheus.CounterValue, float64(n), bound)
	}
	gauge(identityCount, float64(kept.Identities))
	for bound, n := range map[string]int64{"count": kept.IdentitiesTooMany, "age": kept.IdentitiesTooOld} {
		ch <- prometheus.MustNewConstMetric(identityGone, prometheus.CounterValue, float64(n), bound)
	}
	for table, n := range r.store.DamagedRows() {
		ch <- prometheus.MustNewConstMetric(storeDamaged, prometheus.CounterValue, float64(n), table)
	}
	for destination, use := range r.store.KVUse() {
		gauge(kvEntries, float64(use.Entries), destination)
		gauge(kvBytes, float64(use.Bytes), destination)
		ch <- prometheus.MustNewConstMetric(kvDropped, prometheus.CounterValue, float64(use.Dropped), destination)
	}
	g.collectLetters(gauge)
	refused := 0
	if m := r.refusals.Load(); m != nil {
		refused = len(m.live)
	}
	gauge(refusedAPIKey, float64(refused))
}
