package enrich

import (
	"bytes"
	"net/netip"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// Options of an Enricher.
type Options struct {
	UserAgent   bool     // add parsed_ua
	Location    bool     // add location
	BotKeywords []string // beside Jitsu's
	Geo         *Geo     // nil: nothing is known of addresses
}

// Enricher makes what is added to every event, and the rules of destinations. It may be used from many goroutines. A nil Enricher adds nothing.
type Enricher struct {
	opts   Options
	agents *agents
}

// New makes an Enricher. The definitions of user agents are read when they are first needed, see [Enricher.Warm].
func New(o Options) *Enricher { return &Enricher{opts: o, agents: newAgents(o.BotKeywords)} }

// Warm reads the definitions of user agents, so that no event waits for it.
func (e *Enricher) Warm() {
	if e != nil && e.opts.UserAgent {
		knownPatterns()
	}
}

// Unparsed counts the events whose user agent was not parsed because parsing had taken its share of the time.
func (e *Enricher) Unparsed() int64 {
	if e == nil {
		return 0
	}
	e.agents.mu.Lock()
	defer e.agents.mu.Unlock()
	return e.agents.unparsed
}

// Enrich puts location and parsed_ua into ev.Added, where filters and expressions see them, and says whether a bot sent the event. What Added holds already stays.
func (e *Enricher) Enrich(ev *event.Event) (bot bool) {
	if e == nil {
		return false
	}
	var location string
	if e.opts.Location && e.opts.Geo != nil && !added(ev, event.FieldLocation) {
		if addr, err := netip.ParseAddr(sourceIP(ev)); err == nil {
			location = e.opts.Geo.Location(addr)
		}
	}
	var a agent
	if e.opts.UserAgent && !added(ev, event.FieldParsedUA) {
		a = e.agents.parse(userAgent(ev))
	}
	if location == "" && a.json == "" {
		return a.bot
	}
	o := object{dst: make([]byte, 0, len(ev.Added)+len(location)+len(a.json)+len(`{"location":,"parsed_ua":}`))}
	if len(ev.Added) > len(`{}`) {
		o = object{dst: append(o.dst, ev.Added[:len(ev.Added)-1]...), start: -1}
	}
	o.json(event.FieldLocation, location)
	o.json(event.FieldParsedUA, a.json)
	ev.Added = o.end()
	return a.bot
}

func added(ev *event.Event, name string) bool {
	return len(ev.Added) > 0 && gjson.GetBytes(ev.Added, name).Exists()
}

// sourceIP is the address that the client named, as a server does for its visitor, or else that of the post.
func sourceIP(ev *event.Event) string {
	if s := text(ev, event.FieldSourceIP); s != "" {
		return s
	}
	return ev.SourceIP
}

// userAgent is the one that the client named, or else that of the post.
func userAgent(ev *event.Event) string {
	if bytes.Contains(ev.JSON, []byte(`"eventn_ctx"`)) {
		if s := text(ev, "eventn_ctx."+event.FieldUserAgent); s != "" {
			return s
		}
	}
	if s := text(ev, event.FieldUserAgent); s != "" {
		return s
	}
	return ev.UserAgent
}

// text is the text at a path, trimmed. Most events do not hold what is asked for: to search for the bytes of the last name is ten times faster than to parse.
func text(ev *event.Event, path string) string {
	name := path[strings.LastIndexByte(path, '.')+1:]
	if !bytes.Contains(ev.JSON, []byte(name)) {
		return ""
	}
	v := gjson.GetBytes(ev.JSON, path)
	if v.Type != gjson.String {
		return ""
	}
	return strings.TrimSpace(v.Str)
}
