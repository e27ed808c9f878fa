package hubspot

import (
	"errors"
	"strings"
	"sync"
	"time"

	"eventrouter/pkg/destinations"
)

const (
	// definitionsFresh is how long the list of definitions is used without asking again. Names that are missing in it are asked for
	// by making them.
	definitionsFresh = 10 * time.Minute
	// definitionLag is how long a new definition or property may be unknown to the call that sends events: 250 to 700 ms were seen.
	definitionLag = time.Second
	// lagMost is how long "does not exist" is put down to lag.
	lagMost = 2 * time.Minute
	// maxOwnProperties is HubSpot's limit on the custom properties of a definition.
	maxOwnProperties = 50
	// maxDefinitionPages bounds a list: HubSpot has at most 500 definitions, and a page holds 100.
	maxDefinitionPages = 50
	// maxRemembered bounds what is remembered of names that clients choose.
	maxRemembered = 1000
)

// definition is one kind of custom event. It is never changed once made.
type definition struct {
	name       string // short
	qualified  string // pe{hub}_{name}, as events are sent
	properties map[string]*eventProperty
	fresh      time.Time // when we last made it or a property of it; zero: not by this process
	archived   bool      // HubSpot takes no events of it
}

// eventProperty is a property of a kind of event.
type eventProperty struct {
	valueType
	typeName string
	choices  []option
	fresh    time.Time // when we made it
}

func newEventProperty(typeName string, choices []option) *eventProperty {
	p := &eventProperty{typeName: typeName, choices: choices}
	p.kind = kinds[typeName]
	if p.kind == kindEnum {
		p.setOptions(choices)
	}
	return p
}

// own counts the properties that are not HubSpot's.
func (d *definition) own() int {
	n := 0
	for name := range d.properties {
		if !isDefaultProperty(name) {
			n++
		}
	}
	return n
}

// isDefaultProperty says whether an event property's name is HubSpot's own; those cannot be made.
func isDefaultProperty(name string) bool { return strings.HasPrefix(name, "hs_") }

// defaultProperties are those that a new definition has beside its own, by type; enumerations are left out, for their options
// are not known before the definition is read.
var defaultProperties = func() map[string]*eventProperty {
	all := map[string]*eventProperty{}
	for _, name := range [...]string{
		"hs_asset_description", "hs_asset_type", "hs_browser", "hs_campaign_id", "hs_city", "hs_country", "hs_device_name",
		"hs_element_class", "hs_element_id", "hs_element_text", "hs_link_href", "hs_operating_system", "hs_operating_version",
		"hs_page_id", "hs_page_title", "hs_page_url", "hs_parent_module_id", "hs_referrer", "hs_region", "hs_tracking_name",
		"hs_user_agent", "hs_utm_campaign", "hs_utm_content", "hs_utm_medium", "hs_utm_source", "hs_utm_term",
	} {
		all[name] = newEventProperty("string", nil)
	}
	for _, name := range [...]string{"hs_screen_height", "hs_screen_width"} {
		all[name] = newEventProperty("number", nil)
	}
	return all
}()

// definitionCache holds the event definitions of an account, and how many of them we made.
type definitionCache struct {
	working chan struct{} // holds a value while someone loads or makes definitions

	mu       sync.Mutex // guards the fields below
	byName   map[string]*definition
	loaded   time.Time
	restored bool
	tried    time.Time
	failed   failure // of the last load of the list
	made     int     // by us, ever
	day      string  // of browserMade, UTC
	browser  int     // made for browser keys that day
	refused  map[string]refusedName
	full     fullAccount
	told     map[string]bool // names that a log line was written about
}

// refusedName is a name that HubSpot did not let us make.
type refusedName struct {
	err   error
	first time.Time
	until time.Time     // not tried again before
	wait  time.Duration // the last one
}

// fullAccount is one that has as many definitions as HubSpot allows.
type fullAccount struct {
	since time.Time // zero: it is not, as far as we know
	asked time.Time // when HubSpot last said so
}

func (c *definitionCache) init() {
	c.working = make(chan struct{}, 1)
	c.refused = map[string]refusedName{}
	c.told = map[string]bool{}
}

func (c *definitionCache) get(name string) *definition {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName[name]
}

func (c *definitionCache) known() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName != nil
}

func (c *definitionCache) stale(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.byName != nil && now.Sub(c.loaded) >= definitionsFresh && now.Sub(c.tried) >= time.Minute
}

// put adds or replaces one definition.
func (c *definitionCache) put(def *definition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byName == nil {
		c.byName = map[string]*definition{}
	}
	c.byName[def.name] = def
}

// forget takes out a definition that HubSpot does not know any more.
func (c *definitionCache) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.byName, name)
}

// replace takes a whole list. What we made a moment ago may be missing in it.
func (c *definitionCache) replace(list map[string]*definition, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, def := range c.byName {
		if now.Sub(def.fresh) > lagMost {
			continue
		}
		listed := list[name]
		if listed == nil {
			list[name] = def
			continue
		}
		listed.fresh = def.fresh
		for property, p := range def.properties {
			if listed.properties[property] == nil && now.Sub(p.fresh) <= lagMost {
				listed.properties[property] = p
			}
		}
	}
	c.byName, c.loaded = list, now
}

// allow says whether one more definition may be made.
func (c *definitionCache) allow(set *EventsSettings, browser bool, now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.made >= set.NewPerAccount {
		return false
	}
	return !browser || c.browser < set.BrowserNewPerDay || c.dayBegins(now)
}

// count notes that a definition was made.
func (c *definitionCache) count(browser bool, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.made++
	if !browser {
		return
	}
	if c.dayBegins(now) {
		c.day, c.browser = now.UTC().Format(time.DateOnly), 0
	}
	c.browser++
}

// dayBegins says whether now is of another day than c.day. The day before is not: the clock was set back.
func (c *definitionCache) dayBegins(now time.Time) bool {
	day, next := now.UTC().Format(time.DateOnly), now.UTC().AddDate(0, 0, 1).Format(time.DateOnly)
	return c.day != day && c.day != next
}

// refuse remembers that a name could not be made, and since when.
func (c *definitionCache) refuse(name string, err error, now time.Time, wait time.Duration) (first time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	r, ok := c.refused[name]
	if !ok {
		if len(c.refused) >= maxRemembered {
			clear(c.refused)
		}
		r.first = now
	}
	r.err, r.until, r.wait = err, now.Add(wait), wait
	c.refused[name] = r
	return r.first
}

const (
	// refusedWait is how long a name that HubSpot refuses is not tried again, at first; then twice as long each time.
	refusedWait    = 10 * time.Minute
	refusedLongest = 24 * time.Hour
)

// refuseLonger remembers that HubSpot refuses a name for good, and asks ever less often. It says whether that is news.
func (c *definitionCache) refuseLonger(name string, err error, now time.Time) (news bool) {
	c.mu.Lock()
	wait := min(max(2*c.refused[name].wait, refusedWait), refusedLongest)
	c.mu.Unlock()
	c.refuse(name, err, now, wait)
	return wait == refusedWait
}

func (c *definitionCache) refusal(name string, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if r, ok := c.refused[name]; ok && now.Before(r.until) {
		return r.err
	}
	return nil
}

const (
	// fullPatience is how long HubSpot must go on saying that the account is full before events are skipped for it: its words are not documented.
	fullPatience = 2 * time.Minute
	// fullAgain is how often it is asked while events wait for it, and fullRarely when they are skipped.
	fullAgain  = 30 * time.Second
	fullRarely = 10 * time.Minute
)

// noRoomReason is why events of new names are skipped when the account has as many definitions as it may.
const noRoomReason = "no room for a definition"

var errNoRoom = errors.New("HubSpot has no room for more event definitions: it allows 500 in an account")

// outOfRoom notes that HubSpot said so, and says whether that is news.
func (c *definitionCache) outOfRoom(now time.Time) (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = c.full.since.IsZero()
	if news {
		c.full.since = now
	}
	c.full.asked = now
	return news
}

// madeRoom notes that a definition could be made, and says whether that is news.
func (c *definitionCache) madeRoom() (news bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	news = !c.full.since.IsZero()
	c.full = fullAccount{}
	return news
}

// noRoom is the outcome of events whose definition cannot be made; nil when it may be tried.
func (c *definitionCache) noRoom(now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.full.since.IsZero():
		return nil
	case c.full.asked.Sub(c.full.since) < fullPatience && now.Sub(c.full.asked) < fullAgain:
		return destinations.RetryAfter(errNoRoom, fullAgain)
	case c.full.asked.Sub(c.full.since) >= fullPatience && now.Sub(c.full.asked) < fullRarely:
		return destinations.Skip(noRoomReason)
	}
	return nil
}

// mostTold is of how many names without a definition the log tells: clients make them up, and could fill the disk with lines.
const mostTold = 100

// tell says once for each name, of those that come first, whether the log is to tell of it; last: of no other.
func (c *definitionCache) tell(name string) (tell, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told[name] || len(c.told) >= mostTold {
		return false, false
	}
	c.told[name] = true
	return true, len(c.told) == mostTold
}
