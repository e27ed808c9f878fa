package hubspot

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// spareBurst are the calls that HubSpot allows an app in an account in ten seconds, where no delivery has learned otherwise.
	spareBurst = 110
	// leftToDeliveries is the part of a window that is kept for deliveries that may come; the day's is a tenth.
	leftToDeliveries = 0.25
	// spareAgain is when to ask again where nothing says when there is room.
	spareAgain = time.Second
)

// Spare is what deliveries leave of the quotas of an app's hubs, for calls of others with the same tokens. The quotas are those that destinations with the same app count
// in; deliveries go first. Its methods may be called from many goroutines.
type Spare struct {
	// Shared and Cache are those of the destinations.
	Shared *destinations.Shared
	Cache  destinations.Cache
	// App and BaseURL are whose hubs they are.
	App, BaseURL string
	// Deliveries says that there are destinations with the app: some of each quota is left to them.
	Deliveries bool
}

// NoRoom is the error while nothing is left for others.
type NoRoom struct {
	What   string        // is used up, or taken: for people
	Wait   time.Duration // when to ask again
	Policy string        // HubSpot's name of the quota, as its own refusals have it
}

func (e *NoRoom) Error() string { return e.What }

// usedHubs are the hubs that destinations of one app use, and the terms of the one that was made last.
type usedHubs struct {
	mu    sync.Mutex // guards the fields below
	hubs  *hubs      // nil: no destination was made
	terms terms
}

func usedHubsOf(shared *destinations.Shared, app, baseURL string) *usedHubs {
	return destinations.Of(shared, strings.Join([]string{"hubspot/used", app, baseURL}, "|"), func() *usedHubs { return &usedHubs{} })
}

func (u *usedHubs) set(h *hubs, t terms) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.hubs, u.terms = h, t
}

func (u *usedHubs) get() (*hubs, terms) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.hubs, u.terms
}

// Take takes the right to make one call in a hub, at once or not at all: then its error is a *NoRoom. Who takes it calls Answered or Release.
func (s Spare) Take(hub, method, path string) (*SpareCall, error) {
	now, baseURL := time.Now(), trimURL(s.BaseURL)
	hs, t := usedHubsOf(s.Shared, s.App, baseURL).get()
	if hs == nil {
		hs = destinations.Of(s.Shared, hubsKey(s.App, baseURL, baseURL), newHubs)
	}
	if !s.Deliveries { // not any more
		t = terms{share: 1}
	}
	a := hs.account(hub, now, func(hub string) *account {
		today := newDay()
		today.remember(s.Cache, dayKey(baseURL, hub))
		a := newAccount(today)
		if !s.Deliveries {
			a.crm.max, a.crm.probing = spareBurst, false
		}
		return a
	})
	w := a.crm
	if isSearch(method, path) {
		w = a.search
	}
	p, err := w.spare(now, t, s.Deliveries)
	if err != nil {
		return nil, err
	}
	return &SpareCall{p}, nil
}

// isSearch says whether a call searches in records, for which HubSpot has a limit of its own.
func isSearch(method, path string) bool {
	path = strings.ToLower(path)
	return method == http.MethodPost && strings.HasPrefix(path, "/crm/") && strings.Contains(path, "/objects/") && strings.HasSuffix(path, "/search")
}

// SpareCall is the right to make one call. A nil one stands for none.
type SpareCall struct{ p *permit }

// Release gives back a right that was not used. It does nothing after Begin.
func (c *SpareCall) Release() { c.p.Release() }

// Begin is to be called just before the call is made; Answered must follow.
func (c *SpareCall) Begin() { c.p.begin() }

// maxPolicyBody is what is read of a refusal to learn which quota it is about.
const maxPolicyBody = 64 << 10

// Answered learns from an answer, as far as it has come: body is needed of those with 429 alone. status 0: there was none.
//
// What it says of other quotas than the one that the call counts in, and the day's, closes nothing.
func (c *SpareCall) Answered(status int, header http.Header, body []byte) {
	w := c.p.window
	if status == 0 {
		c.p.end(nil)
		return
	}
	a := &answer{status: status, header: header, body: body[:min(len(body), maxPolicyBody)]}
	if status == http.StatusTooManyRequests {
		r := parseRefusal(a.body)
		switch {
		case r.policy == "DAILY" || r.policy == "" && strings.Contains(r.message, "daily limit"):
			w.day.exhaust(time.Now())
		case r.policy == strings.ToUpper(w.policy) || r.policy == "" && strings.Contains(r.message, " "+w.policy+" "):
			w.refused(a.retryAfter(time.Now()), a.err())
		}
	}
	rates := parseRates(header)
	if w.policy == searchPolicy {
		rates.max = 0 // what it may say of calls in ten seconds is about others
	}
	c.p.end(&rates)
	if status < http.StatusBadRequest {
		w.works()
		w.day.works()
	}
}

func (w *window) noRoom(what string, wait time.Duration) error {
	return &NoRoom{what, wait, strings.ToUpper(w.policy)}
}

func noRoomToday(what string, wait time.Duration) error {
	policy := dailyPolicy
	if wait <= time.Minute { // HubSpot's clients give up at the other one
		policy = burstPolicy
	}
	return &NoRoom{what, wait, strings.ToUpper(policy)}
}

// spare gives out a permit that no delivery will miss, or says that there is none: while a delivery waits, or when less would remain than may be needed soon. It does not count
// for the distance between deliveries. The terms are theirs, for what this router may do in the account is one thing.
func (w *window) spare(now time.Time, t terms, deliveries bool) (*permit, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.expireLocked(now)
	most := 1 // while it is not known whether the remote takes calls
	if w.closed.IsZero() {
		most = together // nothing has been refused yet
	}
	switch {
	case now.Before(w.closed):
		return nil, w.noRoom("HubSpot takes no calls in the account at the moment", w.closed.Sub(now))
	case len(w.queue) > 0:
		return nil, w.noRoom("deliveries to the account need its quota", spareAgain)
	case w.probing && w.inFlight >= most:
		return nil, w.noRoom("it is being tried whether HubSpot takes calls in the account", spareAgain)
	}
	if w.max > 0 {
		kept := 0
		if deliveries && w.policy != searchPolicy { // which deliveries do not use
			kept = max(1, int(leftToDeliveries*float64(w.mostLocked(t))))
		}
		if now.Before(w.strays) {
			kept += callsInFlight
		}
		if free := w.freeLocked(t); free <= kept {
			return nil, w.noRoom(fmt.Sprintf("the account's calls of %v are used up, but for those that deliveries may need", w.interval), w.roomLocked(now, kept-free))
		}
	}
	date, err := w.day.spare(now, t, deliveries)
	if err != nil {
		return nil, err
	}
	w.inFlight++
	return &permit{window: w, date: date}, nil
}

// roomLocked is when more than n further places are free, as far as is known.
func (w *window) roomLocked(now time.Time, n int) time.Duration {
	if n >= len(w.ended) {
		return max(spareAgain, w.interval/2)
	}
	return max(w.ended[n].Sub(now), w.foreignUntil.Sub(now)*time.Duration(min(w.foreign, 1)))
}

// spare counts a call that no delivery will miss, or says that there is none.
func (d *day) spare(now time.Time, t terms, deliveries bool) (date string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.turnLocked(now)
	limit, _ := d.limitLocked(now, t)
	switch {
	case now.Before(d.spent):
		return "", noRoomToday("the account's daily calls are used up", d.spent.Sub(now))
	case d.inFlight > 0 && (d.unsure || d.remaining >= 0 && d.remaining <= d.inFlight):
		return "", noRoomToday("it is being tried whether HubSpot takes calls in the account", spareAgain)
	case deliveries && d.remaining >= 0 && d.remaining-d.inFlight <= d.start/10:
		return "", noRoomToday("the account's daily calls are used up, but for those that deliveries may need", d.endLocked(now).Sub(now))
	case limit >= 0 && d.used >= limit-max(1, limit/10):
		return "", noRoomToday("the calls that this router may make in the account today are used up, but for those that deliveries may need", d.endLocked(now).Sub(now))
	}
	return d.countLocked(now, t), nil
}
