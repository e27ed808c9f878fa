package hubspot

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
)

// lacks is what the account does not have for a batch and the policy makes.
type lacks struct {
	needs   []need
	options []needOption
}

const (
	// maxNeeds bounds what one batch asks for: names are the client's.
	maxNeeds = 100
	// maxNeedValues is how many values of a new property are looked at for its type.
	maxNeedValues = 100
)

func (l *lacks) property(name, label string, v gjson.Result) {
	i := slices.IndexFunc(l.needs, func(n need) bool { return n.name == name })
	if i < 0 {
		if len(l.needs) == maxNeeds {
			return
		}
		i = len(l.needs)
		l.needs = append(l.needs, need{name: name, label: label})
	}
	if n := &l.needs[i]; len(n.values) < maxNeedValues {
		n.values = append(n.values, v)
	}
}

func (l *lacks) option(p *property, missing []string) {
	i := slices.IndexFunc(l.options, func(n needOption) bool { return n.property == p })
	if i < 0 {
		i = len(l.options)
		l.options = append(l.options, needOption{property: p})
	}
	n := &l.options[i]
	for _, option := range missing {
		if len(n.options) < maxNeeds && !slices.Contains(n.options, option) {
			n.options = append(n.options, option)
		}
	}
}

// reading makes values of one event.
//
//	expressions of properties.map ─┐
//	members of the user, by name ──┴▶ policy, schema ─▶ values, and what was left out
type reading struct {
	s      *contactSend
	w      *write
	entry  int
	values []found
}

// found is what an event has for a property.
type found struct {
	written
	from  string // the JSON that it was made of
	exact bool   // the member had the property's own name
}

func (r *reading) read(ev *event.Event) {
	c := r.s.d.contacts
	var space [8]valueOf
	for _, m := range c.expressions.all(space[:0], ev, c.key) {
		if m.err != nil {
			r.w.strip(m.name, reasonExpression)
		} else if m.value.Exists() {
			r.take(m.name, m.value, r.s.schema.properties[m.name])
		}
	}
	ev.User().ForEach(func(k, v gjson.Result) bool {
		p := r.s.schema.find(k.Str)
		if p == nil && c.means(k.Str) || p != nil && (p.name == c.key || c.expressions.has(p.name)) {
			return true // the identity, and what an expression makes
		}
		if k.Str == event.FieldAnonymousHash && ev.AnonymousHash != "" {
			return true // the router's own goes before, see event.AppendView
		}
		r.take(k.Str, v, p)
		return true
	})
	r.readHash(ev)
}

// readHash takes the visitor's hash where the account has a property for it, as Jitsu does; nobody asked for it, so nothing is said where it has none.
// That of a server is the same for all its visitors.
func (r *reading) readHash(ev *event.Event) {
	c := r.s.d.contacts
	p := r.s.schema.properties[event.FieldAnonymousHash]
	if p == nil || ev.AnonymousHash == "" || ev.Server || p.name == c.key || c.expressions.has(p.name) || !ev.User().IsObject() {
		return
	}
	r.take(p.name, gjson.Result{Type: gjson.String, Str: ev.AnonymousHash}, p)
}

// means says whether a member of that name is the identity, or made by an expression.
func (c *contacts) means(name string) bool {
	for _, name := range [...]string{cleanName(name), snakeName(name)} {
		if name == c.key || c.expressions.has(name) {
			return true
		}
	}
	return false
}

// take takes a value for the property p, nil when the account has none of that name.
func (r *reading) take(name string, v gjson.Result, p *property) {
	c := r.s.d.contacts
	empty := absent(v)
	switch {
	case empty && !c.properties.clear:
	case p != nil && r.s.off.Properties[p.name]:
		r.w.strip(p.name, reasonOff)
	case p == nil && (r.s.off.Properties[name] || r.s.off.Properties[cleanName(name)] || r.s.off.Properties[snakeName(name)]):
		r.w.strip(cleanName(name), reasonOff)
	case p == nil:
		if !empty {
			r.unknown(name, v)
		}
	case c.properties.excluded(p.name):
		r.w.strip(p.name, reasonExcluded)
	case p.readOnly:
		if !empty {
			r.w.strip(p.name, reasonReadOnly)
		}
	case empty:
		r.put(p, formatted{from: v.Raw}, name)
	case p.name == emailProperty:
		email := strings.ToLower(strings.TrimSpace(v.Str))
		if checkEmail(email) != nil {
			r.w.strip(p.name, reasonValue)
			return
		}
		r.put(p, formatted{text: email, from: v.Raw}, name)
	default:
		r.format(name, v, p)
	}
}

func (r *reading) format(name string, v gjson.Result, p *property) {
	c := r.s.d.contacts
	f, reason := p.formatIn(v, c.zone)
	f.from = v.Raw
	if len(f.missing) > 0 {
		if c.properties.addOption {
			r.s.lacks.option(p, f.missing)
		}
		reason, f.how = reasonOption, without(f.missing)
	}
	if reason != "" {
		r.w.strip(p.name, reason)
	}
	if f.text != "" && (reason == "" || reason == reasonOption) {
		r.put(p, f, name)
	}
}

// without tells which options were left out.
func without(missing []string) string {
	const shown = 3
	var b strings.Builder
	b.WriteString("without ")
	for i, option := range missing {
		if i > 0 {
			b.WriteString(", ")
		}
		if i == shown {
			fmt.Fprintf(&b, "%d more", len(missing)-shown)
			break
		}
		text, _ := cutText(option, maxEventName)
		fmt.Fprintf(&b, "%q", text)
	}
	return b.String()
}

// unknown notes a value for which the account has no property.
func (r *reading) unknown(name string, v gjson.Result) {
	ps := r.s.d.contacts.properties
	clean := cleanName(name)
	own := clean // what it would be called
	if snake := snakeName(name); snake != "" {
		own = snake
	}
	switch {
	case ps.excluded(clean, own):
		r.w.strip(clean, reasonExcluded)
		return
	case ps.create && propertyName.MatchString(own):
		r.s.lacks.property(own, name, v)
	}
	r.w.strip(clean, reasonUnknown)
}

// put keeps a value as the property's policy has it. Of several members for one property that counts which has its very name, else the last.
func (r *reading) put(p *property, f formatted, name string) {
	v := found{written: written{name: p.name, value: f.text, multi: p.multi, entry: r.entry, how: f.how}, from: f.from, exact: name == p.name}
	v.policy = r.s.d.contacts.policyFor(p, r.s.d.log)
	switch {
	case v.value == "":
	case v.policy == appendTo && !v.adds(v.value):
		v.value = ";" + v.value
	case v.policy == ifEmpty && v.adds(v.value):
		v.value = v.value[1:]
	}
	i := slices.IndexFunc(r.values, func(o found) bool { return o.name == p.name })
	if i < 0 {
		r.values = append(r.values, v)
		return
	}
	if !slices.Contains(r.w.collided, p.name) {
		r.w.collided = append(r.w.collided, p.name)
	}
	if v.exact || !r.values[i].exact {
		r.values[i] = v
	}
}

// policyFor is the policy of a property as its type allows it: options can be added only to those of which several may be chosen.
func (c *contacts) policyFor(p *property, log *slog.Logger) policy {
	pol := c.properties.policyOf(p.name)
	if pol != appendTo || p.multi {
		return pol
	}
	if _, known := c.warned.LoadOrStore(p.name, true); !known {
		log.Warn("append is for enumerations of checkboxes, and the property is none: it is overwritten", "property", p.name, "type", p.typeName, "field_type", p.fieldType)
	}
	return overwrite
}
