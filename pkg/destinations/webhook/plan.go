package webhook

import (
	"errors"
	"fmt"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/destinations"
	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// What `key` may be, beside an expression.
const (
	keyPerson = "person"
	keyNone   = "none"
	keyAll    = "all"
)

// maxKey bounds what orders events, in bytes.
const maxKey = 512

// Plan implements [destinations.Destination]: every event goes to the one lane, behind those of the same key.
func (d *Destination) Plan(ev *event.Event) ([]destinations.Plan, error) {
	key := ""
	switch d.set.Key {
	case keyNone:
	case keyAll:
		key = keyAll
	case keyPerson:
		key = person(ev)
	default:
		var err error
		if key, err = d.keyOf(ev); err != nil {
			return nil, destinations.Reject(err)
		}
	}
	// What shares a key may be in one request, in its order; it is never merged.
	return []destinations.Plan{{Lane: laneEvents, Key: key, ID: key}}, nil
}

// person is whom the event is about: the e-mail, else the user id, else the anonymous id; "" if it does not say.
func person(ev *event.Event) string {
	if email := strings.ToLower(strings.TrimSpace(ev.UserEmail())); email != "" {
		return bounded(email)
	}
	user := ev.User()
	for _, id := range [...]struct{ prefix, member string }{
		{"user ", "id"}, {"user ", "internal_id"}, {"user ", "user_id"}, {"anonymous ", "anonymous_id"},
	} {
		if text := textOf(user.Get(id.member)); text != "" {
			return bounded(id.prefix + text)
		}
	}
	return ""
}

// keyOf evaluates `key`. An event for which it has no value needs no order.
func (d *Destination) keyOf(ev *event.Event) (string, error) {
	set := d.templates.take()
	defer d.templates.give(set)
	v, err := set.key.Eval(filters.NewView(ev))
	if err != nil {
		return "", fmt.Errorf("key: %w", err)
	}
	if v.Type == gjson.JSON {
		return "", errors.New("key: an object or a list orders nothing; the expression returns text or a number")
	}
	return bounded(textOf(v)), nil
}

// textOf is a value that may name somebody: text or a number, else "".
func textOf(v gjson.Result) string {
	switch v.Type {
	case gjson.String:
		return strings.TrimSpace(v.Str)
	case gjson.Number:
		return v.Raw
	}
	return ""
}

// bounded cuts a key. It copies it: else the whole event stays in memory with it.
func bounded(key string) string {
	return strings.Clone(strings.ToValidUTF8(key[:min(len(key), maxKey)], ""))
}
