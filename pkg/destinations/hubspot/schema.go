package hubspot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
)

const (
	// schemaFresh is how long a schema is used without asking again. A property that HubSpot does not know any more is noticed at once.
	schemaFresh = 5 * time.Minute
	// schemaAgain is the least time between two loads because of a property that does not exist.
	schemaAgain = time.Minute
	// refreshTimeout bounds a load that goes on beside a call, whose outcomes wait for it.
	refreshTimeout = 10 * time.Second
)

// property is a contact property of the account.
type property struct {
	valueType
	name      string
	readOnly  bool
	unique    bool   // no two contacts have the same value
	typeName  string // as HubSpot has it, to be kept in the cache
	fieldType string
	group     string
	choices   []option
}

// schema is the contact properties of an account by name. It is never changed once made.
type schema struct {
	properties map[string]*property
	cleaned    map[string]*property // those that cleanName would change, such as region__c
	loaded     time.Time
}

// find returns the property that a client means by name: exactly that one, or one by its cleaned name, or, for firstName, first_name; nil
// when there is none.
func (s *schema) find(name string) *property {
	if p := s.properties[name]; p != nil {
		return p
	}
	if p := s.byClean(cleanName(name)); p != nil {
		return p
	}
	if name = snakeName(name); name != "" {
		return s.byClean(name)
	}
	return nil
}

func (s *schema) byClean(name string) *property {
	if p := s.properties[name]; p != nil {
		return p
	}
	return s.cleaned[name]
}

// parseSchema reads the answer to a list of properties, today's or that of the v1 API, or what encode wrote.
func parseSchema(body []byte, loaded time.Time) (*schema, error) {
	results := gjson.GetBytes(body, "results")
	if !results.IsArray() {
		return nil, errors.New("the answer is not a list of properties")
	}
	s := &schema{properties: make(map[string]*property, 512), cleaned: map[string]*property{}, loaded: loaded}
	results.ForEach(func(_, r gjson.Result) bool {
		if p := parseProperty(r); p != nil {
			s.add(p)
		}
		return true
	})
	if len(s.properties) == 0 {
		return nil, errors.New("the list of properties is empty")
	}
	return s, nil
}

// parseProperty reads the definition of a property; nil when it is none.
func parseProperty(r gjson.Result) *property {
	p := &property{}
	// In one pass: an account has hundreds of them, and each look-up would pass over all its options.
	r.ForEach(func(name, v gjson.Result) bool {
		switch name.Str {
		case "name":
			p.name = v.Str
		case "type":
			p.typeName = v.Str
		case "fieldType":
			p.fieldType = v.Str
		case "groupName":
			p.group = v.Str
		case "modificationMetadata":
			p.readOnly = p.readOnly || v.Get("readOnlyValue").Bool()
		case "readOnlyValue", "calculated":
			p.readOnly = p.readOnly || v.Bool()
		case "externalOptions":
			p.external = v.Bool()
		case "hasUniqueValue":
			p.unique = v.Bool()
		case "options":
			p.choices = parseOptions(v)
		}
		return true
	})
	if p.name == "" {
		return nil
	}
	p.setType()
	return p
}

// add puts a property into a schema that nobody uses yet.
func (s *schema) add(p *property) {
	s.properties[p.name] = p
	if clean := cleanName(p.name); clean != p.name && (s.cleaned[clean] == nil || s.cleaned[clean].name == p.name) {
		s.cleaned[clean] = p
	}
}

// with is the property with more options, those that it lacks.
func (p *property) with(more []option) *property {
	q := *p
	q.choices = slices.Clone(p.choices)
	for _, o := range more {
		if !slices.ContainsFunc(q.choices, func(have option) bool { return have.value == o.value }) {
			q.choices = append(q.choices, o)
		}
	}
	if len(q.choices) > len(p.choices) {
		q.setType()
	}
	return &q
}

func parseOptions(list gjson.Result) (choices []option) {
	if !list.IsArray() {
		return nil
	}
	list.ForEach(func(_, o gjson.Result) bool {
		choices = append(choices, option{o.Get("value").String(), o.Get("label").String()})
		return true
	})
	return choices
}

func (p *property) setType() {
	p.kind = kinds[p.typeName]
	if p.kind != kindEnum {
		return
	}
	p.multi = p.fieldType == "checkbox"
	switch {
	case len(p.choices) > 0:
		p.setOptions(p.choices)
	case p.fieldType == "booleancheckbox":
		p.kind = kindBool
	default:
		p.external = true // nothing to check against: HubSpot decides
	}
}

// encode writes the schema as parseSchema reads it: what is needed, without the rest.
func (s *schema) encode() []byte {
	dst := append(make([]byte, 0, 128*len(s.properties)), `{"results":[`...)
	first := true
	for _, p := range s.properties {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(dst, `{"name":`...)
		dst = event.AppendString(dst, p.name)
		dst = append(dst, `,"type":`...)
		dst = event.AppendString(dst, p.typeName)
		dst = append(dst, `,"fieldType":`...)
		dst = event.AppendString(dst, p.fieldType)
		if p.group != "" {
			dst = append(dst, `,"groupName":`...)
			dst = event.AppendString(dst, p.group)
		}
		if p.readOnly {
			dst = append(dst, `,"readOnlyValue":true`...)
		}
		if p.unique {
			dst = append(dst, `,"hasUniqueValue":true`...)
		}
		if p.external {
			dst = append(dst, `,"externalOptions":true`...)
		}
		dst = appendOptions(dst, p.choices)
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

func appendOptions(dst []byte, choices []option) []byte {
	if len(choices) == 0 {
		return dst
	}
	dst = append(dst, `,"options":[`...)
	for i, o := range choices {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"value":`...)
		dst = event.AppendString(dst, o.value)
		dst = append(dst, `,"label":`...)
		dst = event.AppendString(dst, o.label)
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// schemaCache holds the newest schema of an account.
type schemaCache struct {
	loading chan struct{} // holds a value while someone loads

	mu     sync.Mutex // guards the fields below
	now    *schema
	stored bool      // what the router's cache has was read
	tried  time.Time // when the last load began
	failed failure   // of the last load
}

func (c *schemaCache) init() { c.loading = make(chan struct{}, 1) }

func (c *schemaCache) get() *schema {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *schemaCache) put(s *schema) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = s
}

// learn puts one property into the schema.
func (c *schemaCache) learn(p *property) *schema {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := *c.now
	s.properties, s.cleaned = maps.Clone(s.properties), maps.Clone(s.cleaned)
	s.add(p)
	c.now = &s
	return &s
}

// try counts a load, unless the last one was begun less than every ago.
func (c *schemaCache) try(now time.Time, every time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tried.IsZero() && now.Sub(c.tried) < every {
		return false
	}
	c.tried = now
	return true
}

// fail keeps what the last load met; nil when it succeeded.
func (c *schemaCache) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = failure{err, time.Now()}
}

// lastFailure says whether a load is not worth its call: one that was going on when we began to wait failed, or the last one was forbidden.
func (c *schemaCache) lastFailure(began time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.failed.since(began)
}

// restore takes the schema from the router's cache, once.
func (c *schemaCache) restore(cache destinations.Cache, key string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stored || cache == nil {
		return
	}
	c.stored = true
	body, at, ok := cache.Load(key)
	if !ok || c.now != nil || !json.Valid(body) {
		return
	}
	if s, err := parseSchema(body, at); err == nil {
		c.now = s
	}
}

// contactSchema returns the account's schema: one that was loaded before, however old, and else it waits for a load, which may take a
// permit of permits. The error is an outcome.
func (d *Destination) contactSchema(ctx context.Context, permits *permits) (*schema, error) {
	c := &d.account.schema
	c.restore(d.cache, d.cacheKey("properties"))
	if s := c.get(); s != nil {
		return s, nil
	}
	began := time.Now()
	select {
	case c.loading <- struct{}{}:
	default:
		permits.release() // who loads may need it
		select {
		case c.loading <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-c.loading }()
	if s := c.get(); s != nil { // loaded by whom we waited for
		return s, nil
	}
	if err := c.lastFailure(began); err != nil {
		return nil, err
	}
	return d.loadSchema(ctx, permits)
}

// refreshSchema loads the schema anew, unless someone does already or the last load was begun less than every ago.
func (d *Destination) refreshSchema(ctx context.Context, permits *permits, every time.Duration) {
	c := &d.account.schema
	select {
	case c.loading <- struct{}{}:
		defer func() { <-c.loading }()
	default:
		return
	}
	if !c.try(time.Now(), every) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, refreshTimeout)
	defer cancel()
	if _, err := d.loadSchema(ctx, permits); err != nil && ctx.Err() == nil {
		d.log.Warn("contact properties are not refreshed, the known ones stay in use", "error", err.Error())
	}
}

func (d *Destination) loadSchema(ctx context.Context, permits *permits) (s *schema, err error) {
	c := &d.account.schema
	c.try(time.Now(), 0)
	defer func() {
		if err != nil {
			err = fmt.Errorf("load contact properties: %w", err)
		}
		c.fail(err)
	}()
	a, err := d.call(ctx, permits, request{
		endpoint: endpointProperties, method: http.MethodGet, url: d.baseURL + d.paths.properties,
	})
	if err != nil {
		return nil, err
	}
	if s, err = parseSchema(a.body, time.Now()); err != nil {
		return nil, err
	}
	d.account.creations.keep(s, time.Now())
	c.put(s)
	if d.cache != nil {
		d.cache.Store(d.cacheKey("properties"), s.encode())
	}
	return s, nil
}

// stale says whether s is to be loaded anew.
func (s *schema) stale(now time.Time) bool { return now.Sub(s.loaded) >= schemaFresh }
