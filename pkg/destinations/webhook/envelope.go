package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/tidwall/gjson"

	"eventrouter/pkg/event"
	"eventrouter/pkg/filters"
)

// enveloped makes the message of an event whose transform says where and how it goes. What the envelope leaves out is as for other events. Headers of
// the configuration go to its own host only.
func (d *Destination) enveloped(m *message, set *templateSet, view *filters.View, ev *event.Event, envelope gjson.Result) error {
	fail := func(err error) error { return fmt.Errorf("%s.%w", event.FieldEnvelope, err) }
	if !envelope.IsObject() {
		return fmt.Errorf("%s must be an object with url, method, headers and body", event.FieldEnvelope)
	}
	t := &target{enveloped: true, made: true, method: d.set.Method, contentType: d.format.contentType}
	m.target = t
	if v := envelope.Get("url"); given(v) {
		u, err := d.parseURL(v.String())
		if err != nil {
			return fail(fmt.Errorf("url: %w", err))
		}
		t.url, t.foreign = u.String(), origin(u) != d.address.origin
		if !t.foreign {
			if err := d.fillHeaders(t, set, view); err != nil {
				return err
			}
		}
	} else if err := d.fill(t, set, view); err != nil {
		return err
	}
	if v := envelope.Get("method"); given(v) {
		t.method = strings.ToUpper(v.String())
		if _, ok := methods[t.method]; !ok {
			return fail(errors.New("method: must be POST, PUT, PATCH, DELETE or GET"))
		}
	}
	if err := t.addHeaders(envelope.Get("headers")); err != nil {
		return fail(err)
	}
	return d.envelopedBody(m, set, view, ev, envelope.Get("body"))
}

func (d *Destination) envelopedBody(m *message, set *templateSet, view *filters.View, ev *event.Event, v gjson.Result) (err error) {
	switch {
	case !methods[m.target.method] && given(v):
		return fmt.Errorf("%s.body: a GET has none", event.FieldEnvelope)
	case !methods[m.target.method]:
	case v.Type == gjson.String && v.Str != "":
		m.body = []byte(v.Str)
	case given(v):
		m.body = []byte(v.Raw)
	default:
		m.body, err = d.body(set, view, ev)
	}
	return err
}

// given says whether a member of the envelope says something.
func given(v gjson.Result) bool {
	return v.Exists() && v.Type != gjson.Null && !(v.Type == gjson.String && v.Str == "")
}

// addHeaders adds those of the envelope; they go before those of the configuration.
func (t *target) addHeaders(headers gjson.Result) (err error) {
	if given(headers) && !headers.IsObject() {
		return errors.New("headers must be an object")
	}
	headers.ForEach(func(k, v gjson.Result) bool {
		name, value := http.CanonicalHeaderKey(k.Str), v.String()
		switch {
		case !isToken(k.Str):
			err = fmt.Errorf("headers: %.100q is no name of a header", k.Str)
		case reserved(name):
			err = fmt.Errorf("headers.%s is made by the router", name)
		case !isHeaderValue(value):
			err = fmt.Errorf("headers.%s holds a line break or another character that no header has", name)
		case name == "Content-Type":
			t.contentType = value
		default:
			t.headers = slices.DeleteFunc(t.headers, func(p pair) bool { return p.name == name })
			t.headers = append(t.headers, pair{name, value, true})
		}
		return err == nil
	})
	return err
}
