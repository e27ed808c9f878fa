package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

// Endpoints of what is made for contacts.
const (
	endpointMakeProperty = "contacts.properties.create"
	endpointReadProperty = "contacts.properties.read"
	endpointSetOptions   = "contacts.properties.update"
)

const (
	// fieldLag is how long a call that writes contacts is put off after a property or an option that it needs was made: 250 to 700 ms were seen
	// until all of HubSpot knows it.
	fieldLag = time.Second
	// lagStep and lagInSend are how a Send waits for it beyond that: then its entries are tried again later.
	lagStep   = 500 * time.Millisecond
	lagInSend = 2 * time.Second
	// forbiddenAgain is how often making something is tried while the token lacks the scope.
	forbiddenAgain = 10 * time.Minute
	// refusedMost bounds the growing wait after which something that HubSpot refused is tried again.
	refusedMost = 6 * time.Hour
	// maxFailures is how many calls in a row may fail over one thing before it counts as refused.
	maxFailures = 5
	// maxStrikes is how many refusals in a row, of whatever, stop all of it for a while: the account is full, or its group is gone.
	maxStrikes = 5
)

// creations is what the router makes in an account for contacts, properties and options, and what of it HubSpot refuses. Names are the
// clients', so there are bounds.
type creations struct {
	working chan struct{} // holds a value while someone makes something

	unchecked map[string]optionList // lists of options that were written and not read again yet, by property; owned by who works

	mu       sync.Mutex // guards the fields below
	restored bool
	made     madeFields
	fresh    map[string]freshField // by property
	refused  map[string]refusedField
	strikes  int
	paused   time.Time // nothing is made before
	warned   bool      // that the token lacks the scope
	told     map[string]bool
}

// madeFields counts what was made, ever; it is kept in the router's cache.
type madeFields struct {
	Properties int            `json:"properties"`
	Options    map[string]int `json:"options"` // by property
}

// freshField is what parts of HubSpot may not know yet.
type freshField struct {
	at       time.Time
	property *property // that was made; nil: options only
	options  []option  // that were added
}

// refusedField is something that HubSpot did not let us make.
type refusedField struct {
	failures int
	wait     time.Duration
	until    time.Time // not tried again before
}

func (c *creations) init() {
	c.working = make(chan struct{}, 1)
	c.unchecked = map[string]optionList{}
	c.made.Options = map[string]int{}
	c.fresh = map[string]freshField{}
	c.refused = map[string]refusedField{}
	c.told = map[string]bool{}
}

// work waits until nobody else makes anything in the account.
func (c *creations) work(ctx context.Context, ps *permits) (done func(), err error) {
	select {
	case c.working <- struct{}{}:
	default:
		ps.release() // who works may need it
		select {
		case c.working <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return func() { <-c.working }, nil
}

// restore takes the counts from the router's cache, once.
func (c *creations) restore(cache destinations.Cache, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.restored || cache == nil {
		return
	}
	c.restored = true
	body, _, ok := cache.Load(key)
	var made madeFields
	if !ok || json.Unmarshal(body, &made) != nil {
		return
	}
	c.made.Properties = max(c.made.Properties, made.Properties)
	for name, n := range made.Options {
		c.made.Options[name] = max(c.made.Options[name], n)
	}
}

// count notes what was made and keeps the counts.
func (c *creations) count(cache destinations.Cache, key, name string, options int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if options == 0 {
		c.made.Properties++
	} else {
		c.made.Options[name] += options
	}
	if cache == nil {
		return
	}
	if body, err := json.Marshal(c.made); err == nil {
		cache.Store(key, body)
	}
}

func (c *creations) madeProperties() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made.Properties
}

func (c *creations) madeOptions(property string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.made.Options[property]
}

// may says whether it is worth trying to make something under that name.
func (c *creations) may(name string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !now.Before(c.paused) && !now.Before(c.refused[name].until)
}

// refuse remembers that HubSpot did not let us make something, for longer each time.
func (c *creations) refuse(name string, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refusedLocked(name)
	r.wait = min(max(2*r.wait, refusedWait), refusedMost)
	r.until, r.failures = now.Add(r.wait), 0
	c.refused[name] = r
}

// strike counts HubSpot's own refusals, whatever they were about.
func (c *creations) strike(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.strikes++; c.strikes >= maxStrikes {
		c.strikes, c.paused = 0, now.Add(refusedWait)
	}
}

// failed counts a call that failed, and says whether that is enough.
func (c *creations) failed(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.refusedLocked(name)
	r.failures++
	c.refused[name] = r
	return r.failures >= maxFailures
}

func (c *creations) refusedLocked(name string) refusedField {
	if len(c.refused) >= maxRemembered {
		clear(c.refused)
	}
	return c.refused[name]
}

// succeeded forgets what stood against a name. Parts of HubSpot may not know what is new of the property.
func (c *creations) succeeded(name string, f freshField) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.refused, name)
	c.strikes, c.warned = 0, false
	if old, ok := c.fresh[name]; ok && f.at.Sub(old.at) < lagMost {
		f.options = append(f.options, old.options...)
		if f.property == nil {
			f.property = old.property
		}
	}
	for other, old := range c.fresh {
		if f.at.Sub(old.at) > lagMost {
			delete(c.fresh, other)
		}
	}
	c.fresh[name] = f
}

// forbid stops all for a while, because the token lacks the scope, and says whether that is news.
func (c *creations) forbid(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paused = now.Add(forbiddenAgain)
	news := !c.warned
	c.warned = true
	return news
}

// tell says once for each word.
func (c *creations) tell(word string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[word] || len(c.told) >= maxRemembered {
		return false
	}
	c.told[word] = true
	return true
}

// madeAt is when what is new of a property was made; zero: nothing is.
func (c *creations) madeAt(name string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fresh[name].at
}

// lags says whether a refusal of the property, because it does not exist or has no such option, is put down to lag.
func (c *creations) lags(name, code, value string, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	f, ok := c.fresh[name]
	if !ok || now.Sub(f.at) > lagMost {
		return false
	}
	if code == codeUnknownProperty || f.property != nil {
		return f.property != nil
	}
	return slices.ContainsFunc(f.options, func(o option) bool {
		return slices.Contains(strings.Split(value, ";"), o.value)
	})
}

// keep puts into a list of properties what it may lack because it is new.
func (c *creations) keep(s *schema, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, f := range c.fresh {
		if now.Sub(f.at) > lagMost {
			continue
		}
		if s.properties[name] == nil && f.property != nil {
			s.add(f.property)
		}
		if p := s.properties[name]; p != nil {
			s.add(p.with(f.options))
		}
	}
}

// makeError classifies what a call that makes something met: nil when the batch goes on without it, and else the outcome of the batch.
func (d *Destination) makeError(ctx context.Context, name string, err error) error {
	c, now := &d.account.creations, time.Now()
	var block *destinations.BlockError
	switch {
	case isForbidden(err):
		if c.forbid(now) {
			d.log.Error("properties and options cannot be made in HubSpot: the access token needs the scope crm.schemas.contacts.write; "+
				"until it has it, they are left out of contacts", "error", err.Error())
		}
		return nil
	case ctx.Err() != nil || errors.As(err, &block) || !c.failed(name):
		return err
	}
	c.refuse(name, now)
	d.log.Warn("HubSpot fails over a property again and again; what is new of it is left out of contacts", "property", name, "error", err.Error())
	return nil
}

// makeRefused takes in an answer that is HubSpot's judgement.
func (d *Destination) makeRefused(name string, a *answer) {
	d.account.creations.refuse(name, time.Now())
	d.account.creations.strike(time.Now())
	d.log.Warn("HubSpot refuses a new property or option; it is left out of contacts", "property", name, "error", a.err().Error())
}

// judgements are the statuses by which HubSpot refuses something to be made.
var judgements = []int{http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity}

// pause waits, without holding a permit.
func pause(ctx context.Context, ps *permits, d time.Duration) error {
	if d <= 0 || ps.d.simulation {
		return nil
	}
	ps.release()
	return wait(ctx, d)
}

// wait ends after d, or with ctx's error.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
