package hubspot

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

const (
	maxEventLabel    = 100
	maxPropertyLabel = 50
)

// undefinedReason is why an event is skipped whose name may not be made.
const undefinedReason = "undefined event name"

// newProperty is an event property to be made.
type newProperty struct{ name, label, typeName string }

// wanted is a definition that events need.
type wanted struct {
	name, label string
	browser     bool // no event of a server key asked for it
	properties  []newProperty
}

// define returns the definition, making it when it is missing and may be made. The error is an outcome.
func (d *Destination) define(ctx context.Context, ps *permits, w *wanted) (*definition, error) {
	c := &d.account.definitions
	if def := c.get(w.name); def != nil {
		return def, nil
	}
	done, err := c.work(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	now := time.Now()
	if def := c.get(w.name); def != nil { // made by whom we waited for
		return def, nil
	}
	if err := c.refusal(w.name, now); err != nil {
		return nil, err
	}
	chosen := d.rules.named[w.name] || d.rules.create && d.rules.targets[w.name] // by the operator: no client can make more of them
	if !chosen && (!d.rules.create || !c.allow(&d.events, w.browser, now)) {
		tell, last := c.tell(w.name)
		if tell {
			d.log.Warn("events are skipped: their name has no definition in HubSpot and none is made for it; to have it made, add to this destination",
				"event_type", w.label, "add", "events: {define: ["+w.name+"]}")
		}
		if last {
			d.log.Warn("further names without a definition are not logged: router_skipped_total counts their events, and router explain tells of each", "names", mostTold)
		}
		return nil, destinations.Skip(undefinedReason)
	}
	if err := c.noRoom(now); err != nil {
		return nil, err
	}
	def, err := d.createDefinition(ctx, ps, w)
	if err != nil {
		return nil, err
	}
	if !def.fresh.IsZero() { // made by us
		if !chosen {
			c.count(w.browser, now)
		}
		if c.madeRoom() {
			d.log.Info("HubSpot takes new event definitions again")
		}
	}
	d.storeDefinitions()
	return def, nil
}

// createDefinition makes the call. HubSpot says 409 of a name that is in use, and 400 of one that was deleted once, or if the account has
// as many definitions as it may.
func (d *Destination) createDefinition(ctx context.Context, ps *permits, w *wanted) (*definition, error) {
	a, err := d.call(ctx, ps, request{
		endpoint: endpointNewDefinition, method: http.MethodPost, url: d.eventsURL + d.paths.definitions, body: w.body(),
	}, http.StatusConflict, http.StatusBadRequest)
	if err != nil {
		return nil, fmt.Errorf("define event %s: %w", w.name, err)
	}
	switch a.status {
	case http.StatusConflict:
		return d.conflictingDefinition(ctx, ps, w, a)
	case http.StatusBadRequest:
		return d.refusedDefinition(ctx, ps, w, a)
	}
	now := time.Now()
	c := &d.account.definitions
	def := parseDefinition(gjson.ParseBytes(a.body), d.hubID)
	if def == nil {
		def = &definition{properties: map[string]*eventProperty{}, qualified: "pe" + d.hubID + "_" + w.name}
	}
	def.name, def.fresh = w.name, now
	for name, p := range defaultProperties {
		if def.properties[name] == nil {
			def.properties[name] = p
		}
	}
	for _, p := range w.properties {
		made := newEventProperty(p.typeName, nil)
		made.fresh = now
		def.properties[p.name] = made
	}
	c.put(def)
	d.log.Info("defined an event in HubSpot", "event_type", w.label, "name", def.qualified)
	return def, nil
}

// conflictingDefinition finds out whose the name is: another program's that was faster, or that of an event that is archived.
func (d *Destination) conflictingDefinition(ctx context.Context, ps *permits, w *wanted, a *answer) (*definition, error) {
	def, err := d.askDefinition(ctx, ps, w.name)
	switch {
	case err != nil:
		return nil, err
	case def != nil && def.archived:
		return nil, d.burnt(w, a)
	case def != nil:
		d.account.definitions.put(def)
		return def, nil
	}
	// Someone else is making it this moment, or it is one that can not be read.
	err = fmt.Errorf("define event %s: %w", w.name, a.err())
	now := time.Now()
	if first := d.account.definitions.refuse(w.name, destinations.RetryAfter(err, lockedWait), now, 0); now.Sub(first) > lagMost {
		return nil, d.burnt(w, a)
	}
	return nil, destinations.RetryAfter(err, lockedWait)
}

// refusedDefinition finds out what a 400 is about: the name, the account, or a property.
func (d *Destination) refusedDefinition(ctx context.Context, ps *permits, w *wanted, a *answer) (*definition, error) {
	c := &d.account.definitions
	switch r := parseRefusal(a.body); {
	case r.aboutRoom():
		if c.outOfRoom(time.Now()) {
			d.log.Error("HubSpot has no room for more event definitions: it allows 500 in an account. Events of names that it does not know are skipped; "+
				"delete definitions that nobody needs, or give such events the name of one that exists, by events.map", "event_type", w.label, "error", a.err().Error())
		}
		return nil, c.noRoom(time.Now())
	case r.aboutDeleted():
		return nil, d.burnt(w, a)
	case len(w.properties) > 0: // one of them may be to blame: they are made one by one, and those that are refused are left out
		bare := *w
		bare.properties = nil
		return d.createDefinition(ctx, ps, &bare)
	}
	err := destinations.Reject(fmt.Errorf("define event %s: %w", w.name, a.err()))
	if c.refuseLonger(w.name, err, time.Now()) {
		d.log.Error("HubSpot refuses an event definition; its events become dead letters", "event_type", w.label, "error", err.Error())
	}
	return nil, err
}

// burnt is the outcome of events whose name HubSpot gives to nobody again. It is said once, and the name is hardly asked for any more.
func (d *Destination) burnt(w *wanted, a *answer) error {
	advice := fmt.Sprintf("events: {map: {%q: %s_2}}", w.label, w.name[:min(len(w.name), maxEventName-len("_2"))])
	err := destinations.Reject(fmt.Errorf("the event %s was deleted in HubSpot, which never takes that name again; give its events another one, such as %s: %w",
		w.name, advice, a.err()))
	if d.account.definitions.refuseLonger(w.name, err, time.Now()) {
		d.log.Error("an event was deleted in HubSpot, which never takes its name again; its events become dead letters. Give them another name, and replay them",
			"event_type", w.label, "name", w.name, "add", advice, "error", a.err().Error())
	}
	return err
}

// aboutRoom says whether the refusal is that the account has as many event definitions as it may. HubSpot does not document its words.
func (r *refusal) aboutRoom() bool {
	text := r.words()
	if !containsAny(text, "limit", "maximum", "too many", "at most") || containsAny(text, "propert", "character", "length", "too long", "longer than", "rate limit") {
		return false
	}
	return containsAny(text, "definition", "event", "500")
}

// aboutDeleted says whether the refusal is that the name belonged to an event that was deleted.
func (r *refusal) aboutDeleted() bool {
	return containsAny(r.words(), "delete", "archived", "burned", "cannot be used again", "can't be used again", "reuse", "re-use", "previously used", "used before", "already been used")
}

func containsAny(s string, words ...string) bool {
	return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(s, word) })
}

func (w *wanted) body() []byte {
	dst := append([]byte(nil), `{"label":`...)
	dst = event.AppendString(dst, label(w.label, w.name, maxEventLabel))
	dst = append(dst, `,"name":`...)
	dst = event.AppendString(dst, w.name)
	dst = append(dst, `,"primaryObject":"CONTACT","includeDefaultProperties":true,"propertyDefinitions":[`...)
	for i, p := range w.properties {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = p.appendJSON(dst)
	}
	return append(dst, "]}"...)
}

func (p *newProperty) appendJSON(dst []byte) []byte {
	dst = append(dst, `{"name":`...)
	dst = event.AppendString(dst, p.name)
	dst = append(dst, `,"label":`...)
	dst = event.AppendString(dst, label(p.label, p.name, maxPropertyLabel))
	dst = append(dst, `,"type":`...)
	dst = event.AppendString(dst, p.typeName)
	return append(dst, '}')
}

// label is the client's own word, made fit to be shown to people: printable, at most so many bytes.
func label(s, name string, most int) string {
	s = strings.ToValidUTF8(s[:min(len(s), 4*most)], "")
	s = strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, s))
	if len(s) > most {
		s = strings.TrimSpace(strings.ToValidUTF8(s[:most], ""))
	}
	if s == "" {
		return name
	}
	return s
}

// extend makes the properties that the definition lacks, as far as HubSpot allows it, and returns the definition with them.
func (d *Destination) extend(ctx context.Context, ps *permits, name string, properties []newProperty) (*definition, error) {
	c := &d.account.definitions
	done, err := c.work(ctx)
	if err != nil {
		return nil, err
	}
	defer done()
	changed := false
	defer func() {
		if changed {
			d.storeDefinitions()
		}
	}()
	for _, p := range properties {
		def := c.get(name)
		if def == nil || def.properties[p.name] != nil {
			continue
		}
		if def.own() >= maxOwnProperties {
			break
		}
		if err := c.refusal(name+"."+p.name, time.Now()); err != nil {
			continue
		}
		if err := d.createProperty(ctx, ps, def, p); err != nil {
			return nil, err
		}
		changed = true
	}
	return c.get(name), nil
}

func (d *Destination) createProperty(ctx context.Context, ps *permits, def *definition, p newProperty) error {
	c := &d.account.definitions
	a, err := d.call(ctx, ps, request{
		endpoint: endpointNewProperty, method: http.MethodPost, url: d.definitionURL(def.name) + "/property", body: p.appendJSON(nil),
	}, http.StatusConflict, http.StatusBadRequest, http.StatusNotFound)
	if err != nil {
		return fmt.Errorf("make property %s of event %s: %w", p.name, def.name, err)
	}
	now := time.Now()
	switch a.status {
	case http.StatusConflict:
		fresh, err := d.loadDefinition(ctx, ps, def.name)
		if err != nil {
			return err
		}
		if fresh != nil && fresh.properties[p.name] != nil {
			return nil
		}
		c.refuse(def.name+"."+p.name, errors.New("exists and cannot be read"), now, time.Minute)
		return nil
	case http.StatusBadRequest, http.StatusNotFound:
		if r := parseRefusal(a.body); now.Sub(def.fresh) < lagMost && (a.status == http.StatusNotFound || containsAny(r.words(), "not exist", "not found")) {
			return destinations.RetryAfter(fmt.Errorf("make property %s of event %s: %w", p.name, def.name, a.err()), 2*definitionLag)
		}
		if c.refuseLonger(def.name+"."+p.name, a.err(), now) {
			d.log.Warn("HubSpot refuses an event property; it is left out of events", "name", def.qualified, "property", p.name, "error", a.err().Error())
		}
		return nil
	}
	more := *def
	more.properties = maps.Clone(def.properties)
	made := newEventProperty(p.typeName, nil)
	made.fresh = now
	more.properties[p.name], more.fresh = made, now
	c.put(&more)
	return nil
}

// missing lists what def lacks of properties; HubSpot's own cannot be made.
func missing(def *definition, properties []newProperty) []newProperty {
	return slices.DeleteFunc(slices.Clone(properties), func(p newProperty) bool {
		return isDefaultProperty(p.name) || def.properties[p.name] != nil
	})
}
