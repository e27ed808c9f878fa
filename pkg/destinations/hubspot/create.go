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
	// refusedWait is how long a definition that HubSpot refuses is not tried again.
	refusedWait = 10 * time.Minute

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
	named := d.named[w.name]
	if !named && (!d.events.Create || !c.allow(&d.events, w.browser, now)) {
		if c.tell(w.name) {
			d.log.Warn("events are skipped: their name has no definition in HubSpot and none is made for it; to have it made, add to this destination",
				"event_type", w.label, "add", "events: {define: ["+w.name+"]}")
		}
		return nil, destinations.Skip(undefinedReason)
	}
	def, err := d.createDefinition(ctx, ps, w)
	if err != nil {
		return nil, err
	}
	if !named && !def.fresh.IsZero() { // made by us
		c.count(w.browser, now)
	}
	d.storeDefinitions()
	return def, nil
}

// createDefinition makes the call. HubSpot says 409 of a name that is in use, and 400 of one that was deleted once.
func (d *Destination) createDefinition(ctx context.Context, ps *permits, w *wanted) (*definition, error) {
	c := &d.account.definitions
	a, err := d.call(ctx, ps, request{
		endpoint: endpointNewDefinition, method: http.MethodPost, url: d.eventsURL + d.paths.definitions, body: w.body(),
	}, http.StatusConflict, http.StatusBadRequest)
	if err != nil {
		return nil, fmt.Errorf("define event %s: %w", w.name, err)
	}
	now := time.Now()
	switch a.status {
	case http.StatusConflict:
		def, err := d.loadDefinition(ctx, ps, w.name)
		if err != nil || def != nil {
			return def, err
		}
		// Someone else is making it this moment, or it is one that can not be read.
		err = fmt.Errorf("define event %s: %w", w.name, a.err())
		if first := c.refuse(w.name, destinations.RetryAfter(err, lockedWait), now, 0); now.Sub(first) > lagMost {
			c.refuse(w.name, destinations.Reject(err), now, refusedWait)
			return nil, destinations.Reject(err)
		}
		return nil, destinations.RetryAfter(err, lockedWait)
	case http.StatusBadRequest:
		err := destinations.Reject(fmt.Errorf("define event %s: %w", w.name, a.err()))
		c.refuse(w.name, err, now, refusedWait)
		d.log.Error("HubSpot refuses an event definition; its events become dead letters", "event_type", w.label, "error", err.Error())
		return nil, err
	}
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
		if now.Sub(def.fresh) < lagMost {
			return destinations.RetryAfter(fmt.Errorf("make property %s of event %s: %w", p.name, def.name, a.err()), 2*definitionLag)
		}
		c.refuse(def.name+"."+p.name, a.err(), now, refusedWait)
		d.log.Warn("HubSpot refuses an event property; it is left out of events", "name", def.qualified, "property", p.name, "error", a.err().Error())
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
