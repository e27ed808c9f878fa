package webhook

import (
	"cmp"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"

	"eventrouter/pkg/config"
	"eventrouter/pkg/filters"
)

// Limits of what settings ask for.
const (
	maxBatchEvents = 1000
	maxBatchBytes  = 32 << 20
	maxInFlight    = 256
	maxSecrets     = 5 // each makes a signature
)

// methods are those that a request may have, and whether it has a body.
var methods = map[string]bool{
	http.MethodPost: true, http.MethodPut: true, http.MethodPatch: true, http.MethodDelete: true, http.MethodGet: false,
}

// checker collects what is wrong with the settings.
type checker struct {
	settings config.Settings
	problems config.Problems
	name     string
	log      *slog.Logger
}

func (c *checker) fail(key, format string, args ...any) {
	c.problems = append(c.problems, c.settings.Problem(key, format, args...))
}

func (c *checker) check(ok bool, key, format string, args ...any) {
	if !ok {
		c.fail(key, format, args...)
	}
}

func (c *checker) options() filters.Options {
	return filters.Options{Destination: c.name, Type: "webhook"}
}

// take checks the settings and makes of them what the destination works with.
func (d *Destination) take(c *checker, set Settings) {
	set.Method = strings.ToUpper(set.Method)
	d.set = set
	hasBody, known := methods[set.Method]
	c.check(known, "method", "must be POST, PUT, PATCH, DELETE or GET")
	c.check(!known || hasBody || set.Body == "", "body", "a GET has none; say in the url what is to be said")
	c.check(set.InFlight > 0 && set.InFlight <= maxInFlight, "in_flight", "must be from 1 to %d", maxInFlight)
	c.check(set.Timeout > 0, "timeout", "must be more than 0")
	c.check(set.MaxPerSecond == 0 || set.MaxPerSecond >= 0.001, "max_per_second", "must be at least 0.001; 0 is no limit")
	c.check(set.Batch.MaxEvents > 0 && set.Batch.MaxEvents <= maxBatchEvents, "batch.max_events", "must be from 1 to %d", maxBatchEvents)
	c.check(set.Batch.MaxBytes > 0 && set.Batch.MaxBytes <= maxBatchBytes, "batch.max_bytes", "must be from 1 to %d", maxBatchBytes)
	c.check(set.Batch.Format == formatArray || set.Batch.Format == formatNDJSON, "batch.format", "must be %s or %s", formatArray, formatNDJSON)
	c.check(!known || hasBody || set.Batch.MaxEvents <= 1, "batch.max_events", "a GET has no body, so it is about one event")
	d.networks = c.networks(set.AllowPrivate)
	d.address = c.address(set.URL, d.networks)
	d.takeHeaders(c)
	d.signer = c.signer(set.Secret)
	c.proxy(set.Proxy)
	d.templates = c.templates(d)
	d.hidden = d.secrets()
	if len(c.problems) == 0 && d.address.url.Constant() && !slices.ContainsFunc(d.headers, func(h header) bool { return !h.constant }) {
		d.fixed = d.fixedTarget()
	}
}

// takeHeaders checks the headers and finds out what bodies are.
func (d *Destination) takeHeaders(c *checker) {
	contentType := d.set.ContentType
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(d.set.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		value := string(d.set.Headers[name])
		switch {
		case !isToken(name):
			c.fail("headers."+name, "is no name of a header")
		case seen[canonical]:
			c.fail("headers."+name, "stands twice: headers are the same whatever letters are capitals")
		case canonical == "Content-Type" && contentType != "":
			c.fail("headers."+name, "content_type says it already")
		case canonical == "Content-Type" && strings.Contains(value, "{{"):
			c.fail("headers."+name, "must not change with the event; write it as content_type")
		case canonical == "Content-Type":
			contentType = value
		case reserved(canonical):
			c.fail("headers."+name, "is made by the router")
		default:
			h := header{name: canonical, key: name, constant: !strings.Contains(value, "{{"), value: value}
			c.check(!h.constant || isHeaderValue(value), "headers."+name, "holds a line break or another character that no header has")
			d.headers = append(d.headers, h)
		}
		seen[canonical] = true
	}
	slices.SortFunc(d.headers, func(a, b header) int { return cmp.Compare(a.name, b.name) })
	d.format = newFormat(contentType, &d.set.Batch)
	c.check(isHeaderValue(contentType) && !strings.Contains(contentType, "{{"), "content_type", "must be a media type, such as text/plain")
	c.check(d.set.Batch.MaxEvents <= 1 || d.format.json, "content_type", "several events in one request are JSON; write application/json, or batch.max_events: 1")
}

// header is one that every request has.
type header struct {
	name     string
	key      string // in the settings
	constant bool
	value    string // with its places
}

// reserved are headers that are not the configuration's, nor a script's: of the connection, and of the signature.
func reserved(canonical string) bool {
	switch canonical {
	case "Host", "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Te", "Trailer", "Upgrade", "Expect", headerID, headerTimestamp, headerSignature:
		return true
	}
	return strings.HasPrefix(canonical, "Proxy-")
}

// isToken says whether s is a name as headers and methods have them (RFC 9110, section 5.6.2).
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r > '~' || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
	})
}

// isHeaderValue says whether a header can have the value.
func isHeaderValue(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f })
}
