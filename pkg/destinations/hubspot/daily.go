package hubspot

import (
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// afterMidnight is how long what HubSpot says of a day's calls may be about the day before: the clocks differ.
	afterMidnight = 10 * time.Minute
	// dayKept is the least time between two writes of the day's count to the cache.
	dayKept = time.Second
)

// day is an account's budget of calls from midnight to midnight in its time zone. Tokens of one account share it; each has a window of its own.
//
//	|─ used: ours ─|─ others ─|─ remaining: as HubSpot says ─|
//	|─────── start, as seen by us: used + remaining ─────────|
type day struct {
	mu        sync.Mutex // guards the fields below
	zone      *time.Location
	date      string // what the counts are about
	used      int    // calls of this router, those in flight included
	before    dayUsed
	inFlight  int
	remaining int           // of the account; -1: unknown, or there is no limit
	start     int           // what remained for us when the day began; -1: unknown, or there is no limit
	unsure    bool          // whether the day's calls are used up is unknown: one call in flight
	spent     time.Time     // they are, until then
	changed   chan struct{} // closed when an answer came
	keep      func([]byte)  // nil: no cache
	kept      time.Time
}

// dayUsed is what was used of the day that was in force before this one.
type dayUsed struct {
	date string
	used int
}

func newDay() *day {
	return &day{remaining: -1, start: -1, changed: make(chan struct{})}
}

// spentError says that the day's calls are used up.
type spentError struct {
	what  string
	until time.Time
}

func (e *spentError) Error() string {
	return fmt.Sprintf("%s used up until %s", e.what, e.until.UTC().Format(time.RFC3339))
}

// Cause is for destinations.CauseOf.
func (e *spentError) Cause() destinations.Cause { return destinations.CauseLimit }

// spentBy says whether a destination with these terms may make no more calls today.
func (d *day) spentBy(now time.Time, t terms) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spentByLocked(now, t)
}

func (d *day) spentByLocked(now time.Time, t terms) error {
	d.turnLocked(now)
	if now.Before(d.spent) {
		return &spentError{"the account's daily calls are", d.spent}
	}
	limit, what := d.limitLocked(now, t)
	if limit >= 0 && d.used >= limit {
		return &spentError{what, earlier(midnight(d.localLocked(now)), now.Add(d.patienceLocked()))}
	}
	return nil
}

// limitLocked is how many calls the terms allow in the whole day; -1: no limit.
func (d *day) limitLocked(now time.Time, t terms) (limit int, what string) {
	limit = -1
	if t.daily > 0 {
		limit, what = t.daily, fmt.Sprintf("the daily_budget of %d calls is", t.daily)
	}
	// Just after midnight what remains may be yesterday's.
	if local := d.localLocked(now); t.share < 1 && d.start >= 0 && now.Sub(midnight(local.AddDate(0, 0, -1))) >= afterMidnight {
		if n := max(1, int(t.share*float64(d.start)+1e-9)); limit < 0 || n < limit {
			limit, what = n, fmt.Sprintf("the quota_share of %g of the day's calls, %d, is", t.share, n)
		}
	}
	return limit, what
}

// take counts a call, or says why not: an error, or what to wait for.
func (d *day) take(now time.Time, t terms) (date string, changed <-chan struct{}, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.spentByLocked(now, t); err != nil {
		return "", nil, err
	}
	if d.inFlight > 0 && (d.unsure || d.remaining >= 0 && d.remaining <= d.inFlight) {
		return "", d.changed, nil
	}
	return d.countLocked(now, t), nil, nil
}

// countLocked counts a call, and returns the day whose it is.
func (d *day) countLocked(now time.Time, t terms) (date string) {
	d.used++
	d.inFlight++
	if d.keep != nil && (t.daily > 0 || t.share < 1) && now.Sub(d.kept) >= dayKept {
		d.keepLocked(now)
	}
	return d.date
}

// giveBack takes back a call that was not made.
func (d *day) giveBack(date string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inFlight--
	if date == d.date && d.used > 0 {
		d.used--
	}
	d.wakeLocked()
}

// end takes a call out of flight and learns from its answer; r is nil when there was none.
func (d *day) end(now time.Time, r *rates) {
	d.mu.Lock()
	defer d.mu.Unlock()
	defer d.wakeLocked()
	d.turnLocked(now)
	d.inFlight--
	if r == nil || r.dailyRemaining < 0 {
		return
	}
	// What remains only falls. An answer that was overtaken says a little more; much more is a new day, or a larger plan.
	if d.remaining < 0 || r.dailyRemaining < d.remaining || r.dailyRemaining > d.remaining+d.inFlight+2*callsInFlight {
		d.remaining = r.dailyRemaining
	}
	// Of calls in flight HubSpot may not have counted any when it answered.
	d.start = max(d.start, r.dailyRemaining+d.used-d.inFlight)
	if r.dailyRemaining == 0 {
		d.exhaustLocked(now)
	}
}

// works says that HubSpot took a call.
func (d *day) works() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.unsure && !time.Now().Before(d.spent) {
		d.unsure = false
		d.wakeLocked()
	}
}

// exhaust says that HubSpot refuses calls for the rest of the day.
func (d *day) exhaust(now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.exhaustLocked(now)
	d.wakeLocked()
}

func (d *day) exhaustLocked(now time.Time) {
	d.remaining, d.unsure, d.spent = -1, true, d.endLocked(now)
}

// closed is when HubSpot takes calls again; zero or past: it does.
func (d *day) closed() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.spent
}

func (d *day) wakeLocked() {
	close(d.changed)
	d.changed = make(chan struct{})
}

// turnLocked begins a new count at midnight.
func (d *day) turnLocked(now time.Time) {
	date := d.localLocked(now).Format(time.DateOnly)
	if date == d.date {
		return
	}
	if d.date != "" {
		d.unsure = true
	}
	// A day that comes again, as the clock was set, goes on with what it had. Set back, the calls since may have been its own.
	used := 0
	if date == d.before.date {
		if used = d.before.used; date < d.date {
			used += d.used
		}
	}
	d.before = dayUsed{d.date, d.used}
	d.date, d.used, d.remaining, d.start = date, used, -1, -1
}

func (d *day) localLocked(now time.Time) time.Time {
	if d.zone == nil {
		return now.UTC()
	}
	return now.In(d.zone)
}

// patienceLocked is the longest wait for a midnight that is believed: while the zone is unknown that may be any hour.
func (d *day) patienceLocked() time.Duration {
	if d.zone == nil {
		return time.Hour
	}
	return 48 * time.Hour
}

// ends is when the account's daily calls begin anew: midnight in its time zone. While the zone is unknown it is at most an hour away, which
// costs a refused call an hour.
func (d *day) ends(now time.Time) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.endLocked(now)
}

func (d *day) endLocked(now time.Time) time.Time {
	local := d.localLocked(now)
	if d.zone != nil && now.Sub(midnight(local.AddDate(0, 0, -1))) < afterMidnight {
		return now.Add(afterMidnight / 2)
	}
	return earlier(midnight(local), now.Add(d.patienceLocked()))
}

// midnight is the one at the end of t's day.
func midnight(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day()+1, 0, 0, 0, 0, t.Location())
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// setZone keeps the account's time zone, which HubSpot gives by name and as an offset. The counts stay: they are of these hours.
func (d *day) setZone(name string, offsetMS int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.turnLocked(now)
	d.zone = zoneOf(name, offsetMS)
	d.date = d.localLocked(now).Format(time.DateOnly)
	if now.Before(d.spent) {
		d.spent = d.endLocked(now)
	}
	if d.keep != nil {
		d.keepLocked(now)
	}
}

// left is what metrics show: of the account, and of the terms. -1: unknown, or there is no limit.
func (d *day) left(t terms) (account, own int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	now := time.Now()
	d.turnLocked(now)
	account, own = d.remaining, -1
	if now.Before(d.spent) {
		account = 0
	}
	if limit, _ := d.limitLocked(now, t); limit >= 0 {
		own = max(0, limit-d.used)
	}
	return account, own
}

// keptDay is a day in the cache.
type keptDay struct {
	Date  string `json:"date"`
	Used  int    `json:"used"`
	Start int    `json:"start"`
	Zone  string `json:"zone,omitempty"`
	// Offset is for zones that this machine does not know.
	Offset int64 `json:"offset_ms,omitempty"`
}

// remember reads what the cache has of the day, once, and writes there from then on. The last second of calls may be missing after a restart.
func (d *day) remember(cache destinations.Cache, key string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if cache == nil || d.keep != nil {
		return
	}
	d.keep = func(value []byte) { cache.Store(key, value) }
	body, _, ok := cache.Load(key)
	var k keptDay
	if !ok || json.Unmarshal(body, &k) != nil {
		return
	}
	if d.zone == nil && k.Zone != "" {
		d.zone = zoneOf(k.Zone, k.Offset)
	}
	now := time.Now()
	if d.turnLocked(now); k.Date == d.date {
		d.used += max(0, k.Used)
		d.start = max(d.start, k.Start)
	}
}

func (d *day) keepLocked(now time.Time) {
	d.kept = now
	k := keptDay{Date: d.date, Used: d.used, Start: d.start}
	if d.zone != nil {
		_, offset := now.In(d.zone).Zone()
		k.Zone, k.Offset = d.zone.String(), int64(offset)*1000
	}
	value, err := json.Marshal(k)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	d.keep(value)
}

func zoneOf(name string, offsetMS int64) *time.Location {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "" {
		zone = time.FixedZone(name, int(offsetMS/1000))
	}
	return zone
}
